"""How a service's program exits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.core.history import AGENT, History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Exited:
    """Which exit: the first of the program of `service`, at or after the step `since` where one is given."""

    service: str
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Exit(Check):
    """The service's program exits with `code`, or by `signal` (a name without SIG).

    The first exit at or after `since` counts, be it the stop at the run's end. A program that never exited, or an
    agent's log that is not whole, is inconclusive.
    """

    kind: ClassVar[str] = "exit"
    example: ClassVar[str] = """\
- exit: {service: server, since: crash}
  signal: KILL
"""

    exit: Exited
    code: int | None = None
    signal: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `code` and `signal` is given."""
        if (self.code is None) == (self.signal is None):
            raise ValueError("say how it exits: either 'code' or 'signal'")

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        how = f"with code {self.code}" if self.signal is None else f"by SIG{self.signal}"
        return f"{self.exit.service} exits {how}{f' after {self.exit.since}' if self.exit.since else ''}"

    def judge(self, history: History) -> Finding:
        """Look at the one exit."""
        found, gaps = exit_in_question(history, self.exit), history.gaps_of(self.exit.service, AGENT)
        if found is None:
            why = words.listing(map(str, gaps)) or "nothing in scope: its program never exited"
            return Finding(check=self.kind, status=Status.INCONCLUSIVE, promise=self.promise, seen=why)
        origin_ns = words.origin_of(history, self.exit.since)
        kept = (found.fields.get("code"), found.fields.get("signal")) == (self.code, self.signal)
        return Finding(
            check=self.kind,
            status=Status.PASS if kept else Status.FAIL,
            promise=self.promise,
            seen=f"{how_it_exited(found)} {words.offset(found.t_ns, origin_ns)}".strip(),
            support=1,
            witnesses=[found],
            offenders=[] if kept else [self.exit.service],
        )


def exit_in_question(history: History, which: Exited) -> Record | None:
    """The `exited` record that the check is about. Raises CannotTell for a `since` that never fired."""
    exits = history.events(Event.EXITED).on(which.service).by(AGENT)
    return (exits.since(which.since) if which.since else exits).first


def how_it_exited(record: Record) -> str:
    """An `exited` record in words."""
    signal = record.fields.get("signal")
    return f"exited by SIG{signal}" if signal else f"exited with code {record.fields.get('code')}"
