"""`start`: a program that is down is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.core.record import Event, Record
from midsession.faults.base import Fault, Move, Scene, StartProgram


@dataclass(frozen=True, slots=True)
class Start(Fault):
    """The service's program is started, with the same command, on the same host and address as ever.

    For one that was killed or stopped, and for a service with `autostart: false`. It took effect when the program
    listens. A program that still runs: the fault fails.
    """

    verb = "start"
    family = "process"
    breaks = False
    watches = frozenset({Event.LISTENING})

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """The plan's own start."""
        return (StartProgram(fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The program said, or its agent saw, that it listens."""
        return record.event == Event.LISTENING
