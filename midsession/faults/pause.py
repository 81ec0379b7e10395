"""`pause`: the program freezes, its sockets stay open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Freeze, Request, Thaw
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """The program and all its child processes are stopped where they stand (SIGSTOP).

    The kernel lives on and knows nothing of it: live connections stay open and silent, bytes are acknowledged until
    the program's receive buffers are full, and new connects still succeed until its backlog is full.

    It took effect when the kernel says that every process of the program is stopped. Healing (`for`, `heal`, a
    `resume`, the end of the run) lets it go on (SIGCONT), unless another `pause` still holds it; a `resume` ends them
    all.
    """

    verb = "pause"
    family = "process"
    targets = ANY
    needs_program = True
    healable = True
    watches = frozenset({Event.FROZEN})

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request."""
        return (Freeze(id=0, fault=step),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """Thaw it."""
        return (Thaw(id=0, fault=step, cure=True),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw all processes stopped."""
        return record.event == Event.FROZEN
