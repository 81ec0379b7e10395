"""What a service's program says on stdout and stderr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import re2  # type: ignore[import-untyped]

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.count import Bounds
from midsession.core.history import AGENT, History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of `service` that contain `contains`, or in which `matches` (RE2) is found, at or after the step `since`.

    A line is known by its first 4096 characters.
    """

    service: str
    contains: str | None = None
    matches: str | None = None
    since: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `contains` and `matches` is given and RE2 takes the latter."""
        if (self.contains is None) == (self.matches is None):
            raise ValueError("say which lines: either 'contains' or 'matches'")
        if self.matches is not None:
            _compiled(self.matches)

    def select(self, lines: list[Record]) -> list[Record]:
        """Those of the lines that are meant."""
        if self.contains is not None:
            return [r for r in lines if self.contains in str(r.fields.get("text", ""))]
        search = _compiled(self.matches or "").search
        return [r for r in lines if search(str(r.fields.get("text", "")))]

    def __str__(self) -> str:
        what = f"contain {self.contains!r}" if self.contains is not None else f"match {self.matches!r}"
        return f"lines of {self.service} that {what}{f' since {self.since}' if self.since else ''}"


@dataclass(frozen=True, slots=True)
class LogCheck(Check):
    """The service says such a line: at least once, or `equals`, `at_least`, `at_most` so many times.

    Too few, or not too many, is believed only of an agent's whole log and of a program that said at least one line in
    the window, or was at least started or exited in it.
    """

    kind: ClassVar[str] = "log"
    example: ClassVar[str] = """\
- log: {service: server, matches: "^Client Lost: "}
  at_least: 1
- log: {service: server, contains: Traceback}
  equals: 0
"""

    log: Lines
    equals: int | None = None
    at_least: int | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for bounds that contradict each other."""
        _ = self._bounds

    @property
    def _bounds(self) -> Bounds:
        if self.equals is None and self.at_least is None and self.at_most is None:
            return Bounds(1, None)
        return Bounds.of(self.equals, self.at_least, self.at_most)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"{self.log}: {self._bounds}"

    def judge(self, history: History) -> Finding:
        """Count the lines that the agent took down."""
        said = history.events(Event.LINE, Event.STARTED, Event.EXITED).on(self.log.service).by(AGENT)
        said = said.since(self.log.since) if self.log.since else said
        found = self.log.select([r for r in said if r.event == Event.LINE])
        gaps = history.gaps_of(self.log.service, AGENT)
        status = self._bounds.judge(len(found), complete=not gaps) if said else Status.INCONCLUSIVE
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=self._seen(len(said), len(found), words.listing(map(str, gaps))),
            support=len(said),
            witnesses=found[: words.SHOWN],
            offenders=[self.log.service] if status is Status.FAIL else [],
            measures={"count": len(found)},
        )

    def _seen(self, said: int, found: int, gaps: str) -> str:
        if not said:
            return gaps or f"nothing in scope: {self.log.service} said nothing and its program did not live"
        counted = words.times(found) if found else "never"
        return f"{counted}; but {gaps}" if gaps else counted


def _compiled(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        raise ValueError(f"RE2 does not take {regex!r}: {error}") from None
