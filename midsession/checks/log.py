"""What a service's program says on stdout and stderr, or what the programs of a client group say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import re2  # type: ignore[import-untyped]

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.bounds import Bounds
from midsession.core.history import AGENT, History
from midsession.core.record import Event, Record
from midsession.core.refers import Programs, ServiceName, StepId
from midsession.core.verdict import Finding, Status

_PLAIN = re.compile(r"\^(?P<text>[\w :,;/=@#%&<>!~\"'-]*)(?P<maybe>[*?{]?)")
"""What an expression begins with, up to what has a meaning there; the last character may be one of none."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of `service`, or of the client programs of the group `clients`, that contain `contains`, or in which
    `matches` (RE2) is found, at or after the step `since`.

    A line is known by its first 4096 characters: where the rest of a longer one could decide, it is inconclusive.
    """

    service: ServiceName | None = None
    clients: Programs | None = None
    contains: str | None = None
    matches: str | None = None
    since: StepId | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless one of `service` and `clients`, and one of `contains` and `matches` is given, and
        RE2 takes the latter."""
        words.refuse_no_subject(self.service, self.clients)
        if (self.contains is None) == (self.matches is None):
            raise ValueError("say which lines: either 'contains' or 'matches'")
        if self.matches is not None:
            _compiled(self.matches)

    @property
    def subject(self) -> str:
        """Who is meant."""
        return self.service or self.clients or ""

    def select(self, lines: list[Record]) -> tuple[list[Record], list[Record]]:
        """Those of the lines that are meant, and those that were cut where the rest would tell."""
        cut, whole = ([r for r in lines if bool(r.fields.get("cut")) is is_cut] for is_cut in (True, False))
        if not cut:
            return self._found(whole, self.matches), []
        # What is found must end before the text does: there, `$` would fit where the line goes on.
        surely = self._found(cut, self.matches and f"(?:{self.matches})(?s:.)")
        begins = _beginning(self.matches or "")
        meant = {r.seq for r in surely} | {r.seq for r in self._found(whole, self.matches)}
        perhaps = [r for r in cut if r.seq not in meant and _text(r).startswith(begins)]
        return [r for r in lines if r.seq in meant], perhaps

    def _found(self, lines: list[Record], matches: str | None) -> list[Record]:
        if self.contains is not None:
            return [r for r in lines if self.contains in _text(r)]
        search = _compiled(matches or "").search
        return [r for r in lines if search(_text(r))]

    def __str__(self) -> str:
        what = f"contain {self.contains!r}" if self.contains is not None else f"match {self.matches!r}"
        return f"lines of {self.subject} that {what}{f' since {self.since}' if self.since else ''}"


@dataclass(frozen=True, slots=True)
class LogCheck(Check):
    """The service says such a line: at least once, or `equals`, `at_least`, `at_most` so many times.

    Of a client group, its programs' lines count together; with `each`, those of every single program that lived in the
    window. Too few, or not too many, is believed only of an agent's whole log and of a program that said at least one
    line in the window, or was at least started or exited in it.
    """

    kind: ClassVar[str] = "log"
    example: ClassVar[str] = """\
- log: {service: server, matches: "^Client Lost: "}
  at_least: 1
- log: {service: server, contains: Traceback}
  equals: 0
- log: {clients: drivers, contains: reconnected}
  each: true
"""

    log: Lines
    equals: int | None = None
    at_least: int | None = None
    at_most: int | None = None
    each: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for bounds that contradict each other, and for `each` of a service."""
        _ = self._bounds
        if self.each and self.log.clients is None:
            raise ValueError("'each' needs a group of client programs: give 'clients'")

    @property
    def _bounds(self) -> Bounds:
        if self.equals is None and self.at_least is None and self.at_most is None:
            return Bounds(1, None)
        return Bounds.of(self.equals, self.at_least, self.at_most)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"{self.log}: {self._bounds}{' each' if self.each else ''}"

    def judge(self, history: History) -> Finding:
        """Count the lines that the agents took down."""
        hosts = words.hosts_of(history, self.log.service, self.log.clients)
        said = {host: lines for host in hosts if (lines := self._said(history, host))}
        chosen = {host: self.log.select([r for r in lines if r.event == Event.LINE]) for host, lines in said.items()}
        found, perhaps = ({host: both[n] for host, both in chosen.items()} for n in (0, 1))
        gaps = [gap for host in hosts for gap in history.gaps_of(host, AGENT)]
        cases, doubts = (lines if self.each else {self.log.subject: _all(lines)} for lines in (found, perhaps))
        words_by_case = {
            name: self._bounds.judge(len(lines), complete=not gaps, perhaps=len(doubts[name]))
            for name, lines in cases.items()
        }
        unclear = [r for name, status in words_by_case.items() if status is Status.INCONCLUSIVE for r in doubts[name]]
        doubt = f"{words.plural(len(unclear), 'line')} of which the beginning alone is known" if unclear else ""
        failed = [name for name, status in words_by_case.items() if status is Status.FAIL]
        return Finding(
            check=self.kind,
            status=_worst(list(words_by_case.values())) if said else Status.INCONCLUSIVE,
            promise=self.promise,
            seen=self._seen(bool(said), cases, failed, words.listing([*map(str, gaps), *filter(None, [doubt])])),
            support=sum(map(len, said.values())),
            witnesses=[*(r for name in failed or cases for r in cases[name]), *unclear][: words.SHOWN],
            offenders=failed if said else [],
            measures={"count": sum(map(len, found.values()))},
        )

    def _said(self, history: History, host: str) -> list[Record]:
        said = history.events(Event.LINE, Event.STARTED, Event.EXITED).on(host).by(AGENT)
        return list(said.since(self.log.since) if self.log.since else said)

    def _seen(self, lived: bool, cases: dict[str, list[Record]], failed: list[str], but: str) -> str:
        if not lived:
            return but or f"nothing in scope: {self.log.subject} said nothing and its program did not live"
        total = sum(map(len, cases.values()))
        counted = words.times(total) if total else "never"
        if self.each:
            counted += f" in all; {words.listing(f'{name}: {words.times(len(cases[name]))}' for name in failed)}"
            counted = counted.removesuffix("; ")
        return f"{counted}; but {but}" if but else counted


def _text(line: Record) -> str:
    return str(line.fields.get("text", ""))


def _all(lines: dict[str, list[Record]]) -> list[Record]:
    return [r for one in lines.values() for r in one]


def _beginning(regex: str) -> str:
    """What a line begins with in which it is found, as far as that is plain; empty: that is not known."""
    plain = _PLAIN.match(regex)
    if plain is None or "|" in regex:
        return ""
    return plain["text"][:-1] if plain["maybe"] else plain["text"]


def _worst(statuses: list[Status]) -> Status:
    order = (Status.FAIL, Status.INCONCLUSIVE)
    return next((status for status in order if status in statuses), Status.PASS)


def _compiled(regex: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        raise ValueError(f"RE2 does not take {regex!r}: {error}") from None
