"""`vanish`: the program is killed, then its interface goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Link, Relink, Request, Stop
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Vanish(Fault):
    """The program is killed, and once it is gone its host's interface goes down: what `docker kill` does to a server.

    The kernel still says goodbye (FIN, or RST where bytes were unread); then there is a void. What peers send after the
    FIN is answered by nobody, so that their sends "succeed" until a timeout, and connects are not refused but time out.

    It took effect when the kernel says that the interface is down. Healing brings the interface up, unless another
    fault has it down too; the program stays down until a `start`. No program running: the fault fails.
    """

    verb = "vanish"
    family = "host"
    healable = True
    targets = ANY
    needs_program = True
    needs = frozenset({"links"})
    watches = frozenset({Event.WITNESSED})

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """A stop without grace kills at once and, unlike a kill, is answered when all is gone: FIN comes out first."""
        return (Stop(id=0, grace_s=0.0, fault=step), Link(id=0, fault=step, own=scene.address, up=False))

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """The interface comes up."""
        return (Relink(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the interface down."""
        return record.event == Event.WITNESSED
