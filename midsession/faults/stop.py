"""`stop`: the program is asked to end, and made to when it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Stop as StopRequest
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Stop(Fault):
    """The program gets SIGTERM, and SIGKILL when it still runs after `grace` (`0s`: SIGKILL at once).

    What peers see is the program's own manner of leaving (or, after SIGKILL, that of `kill`); then connects are
    refused. The program stays down until a `start` or `restart`.

    The programs that play a client group end each session where it stands (`done` with the outcome `stopped`). It took
    effect when the program has exited: by one of these signals, or with any code within the grace. One that dies of
    another signal on its way out has crashed by itself. No program running: the fault fails.
    """

    verb = "stop"
    family = "process"
    targets = ANY
    needs_program = True
    watches = frozenset({Event.EXITED})

    grace_s: float = 5.0

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request; the agent minds the grace."""
        return (StopRequest(id=0, grace_s=self.grace_s, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the program end by it."""
        return record.event == Event.EXITED

    def describe(self) -> str:
        """With the grace."""
        return f"stop {self.whom} (grace {self.grace_s:g} s)"
