"""What a run tells while it goes on, and what it comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from midsession.core.plan import Plan
from midsession.core.record import Record


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that is over. `why_ended`: `done`, `timeout`, `interrupted`, `error`.

    `unfired` are the steps that never fired, each with what was `missing`. `problems` are the harness's own failures,
    in sentences; with any, the run is an `error`.
    """

    run: str
    directory: Path
    why_ended: str
    unfired: list[dict[str, str]]
    problems: list[str]


class Listener:
    """Is told of a run while it goes on, on the run's event loop: must neither block nor raise. Override at will."""

    wants: frozenset[str] = frozenset()
    """Events to be told of besides those that the run itself needs."""

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        """The run directory is there; nothing else is."""

    def on_phase(self, phase: str) -> None:
        """What happens now: `open`, `programs`, `run`, `end`, `collect`."""

    def on_record(self, record: Record) -> None:
        """A record came, or the conductor wrote one (host `conductor`)."""

    def on_problem(self, text: str) -> None:
        """A part of the harness failed."""

    def on_end(self, result: RunResult) -> None:
        """Nothing is left of the run but its directory."""


class Later(Listener):
    """Hands records to a listener when what they made the run do is done: telling of a fault must not make it late.

    In their order, and before whatever else the listener is told. `guard` is around whatever the listener does: it
    takes what that raises.
    """

    def __init__(
        self,
        listener: Listener,
        loop: asyncio.AbstractEventLoop,
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._listener, self._loop, self._guard = listener, loop, guard
        self._records: list[Record] = []
        self.wants = listener.wants

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        """Nothing can have been told before."""
        with self._guard():
            self._listener.on_open(plan, run, directory)

    def on_record(self, record: Record) -> None:
        """Soon."""
        if not self._records:
            self._loop.call_soon(self._tell)
        self._records.append(record)

    def on_phase(self, phase: str) -> None:
        """Now."""
        self._tell()
        with self._guard():
            self._listener.on_phase(phase)

    def on_problem(self, text: str) -> None:
        """Now."""
        self._tell()
        with self._guard():
            self._listener.on_problem(text)

    def on_end(self, result: RunResult) -> None:
        """Now."""
        self._tell()
        with self._guard():
            self._listener.on_end(result)

    def _tell(self) -> None:
        with self._guard():
            records, self._records = self._records, []
            for record in records:
                self._listener.on_record(record)
