"""`restart`: the program goes down and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Stop as StopRequest
from midsession.core.record import Event, Record
from midsession.faults.base import Fault, Move, Rest, Scene, StartProgram


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """The program goes down, stays down for `after`, and is started again with the same command and address.

    `how: stop` (the default) sends SIGTERM, and SIGKILL when it still runs after `grace` (`0s`: SIGKILL at once);
    `how: kill` sends SIGKILL at once. `after` counts from the moment the program is gone; while it is down, connects
    are refused. The fault's instant, from which `since` counts, is when it began to go down.

    It took effect when the program that was started listens. No program running at first: the fault fails.
    """

    verb = "restart"
    family = "process"
    watches = frozenset({Event.LISTENING})

    after_s: float = 0.0
    how: Literal["stop", "kill"] = "stop"
    grace_s: float = 5.0

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """Down, a rest, up. A stop without grace kills at once and, unlike a kill, is answered when all is gone."""
        grace_s = self.grace_s if self.how == "stop" else 0.0
        return (StopRequest(id=0, grace_s=grace_s, fault=step), Rest(self.after_s), StartProgram())

    def is_witness(self, record: Record) -> bool:
        """The program said, or its agent saw, that it listens; the one before is gone by then."""
        return record.event == Event.LISTENING

    def describe(self) -> str:
        """With how and how long."""
        return f"restart {self.whom} ({self.how}, down for {self.after_s:g} s)"
