"""`resume`: a paused program goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Thaw
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Resume(Fault):
    """A paused program and its child processes go on where they stood (SIGCONT).

    It reads at once what has gathered in its sockets, and accepts what has gathered in its backlog.

    It took effect when no process of the program is stopped any more.
    """

    verb = "resume"
    family = "process"
    breaks = False
    targets = ANY
    needs_program = True
    watches = frozenset({Event.THAWED})

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request."""
        return (Thaw(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw that nothing is stopped any more."""
        return record.event == Event.THAWED
