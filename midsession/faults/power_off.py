"""`power_off`: the host is gone from one moment to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Filter, Kill, Request, Unfilter
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class PowerOff(Fault):
    """The host is without power: every packet from or to it is dropped first, then its program gets SIGKILL.

    Peers hear nothing: no FIN, no RST, and no answer to anything, until a timeout of their own. Healing lets packets
    through again, and the host is then one that has booted: it answers with RST what belongs to sessions it does not
    know any more, and refuses connects until a `start`.

    It took effect when the program has exited by SIGKILL and a packet has met the rules, whichever comes last: the FIN
    or RST of a connection that was open, or whatever a peer sends. A host that nobody speaks with proves no silence,
    as under a `partition`. No program running: the fault fails.
    """

    verb = "power_off"
    family = "host"
    healable = True
    targets = ANY
    needs_program = True
    needs = frozenset({"filter"})
    watches = frozenset({Event.EXITED, Event.WITNESSED})
    proven_from = "first"  # the rules may well have met a packet before the signal is sent

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """Silence first."""
        return (Filter(id=0, fault=step, own=scene.address), Kill(id=0, fault=step))

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """The network comes back; the program does not."""
        return (Unfilter(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the program end by it, or the counter of its rules move."""
        return record.event in {Event.WITNESSED, Event.EXITED}

    def is_proven_by(self, witnesses: Sequence[Record]) -> bool:
        """Both: a program that is dead has not died silently unless the network was closed."""
        return {Event(record.event) for record in witnesses} == {Event.EXITED, Event.WITNESSED}
