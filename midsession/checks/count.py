"""Something happens a number of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import excuse, words
from midsession.checks.base import Check
from midsession.checks.bounds import Bounds
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import History, Selection
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Count(Check):
    """The event happens `equals`, `at_least` or `at_most` so many times (of the group or service `of`, since `since`,
    before `until`).

    With `each`, that many times for every client of the group `of` that was in a session in that window. Too many is a
    failure; too few, or not too many, is believed only of whole logs and known outcomes, with at least one observer
    that gave a sign of life (of what only a connection can meet: that had one). Too many is inconclusive when it is not
    without those that a stall explains (as with `never`); too few, when the hosts stood still (`stalled`) for a quarter
    or more of the time until the sessions were over, or of the time in which one of them came to a bad end.
    """

    kind: ClassVar[str] = "count"
    example: ClassVar[str] = """\
- count: {event: accepted, of: server}
  equals: 100
- count: {event: connected, of: talkers, since: crash}
  at_most: 5
  each: true
"""

    count: Pattern
    equals: int | None = None
    at_least: int | None = None
    at_most: int | None = None
    each: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for bounds that contradict each other, and for `each` of nobody."""
        Bounds.of(self.equals, self.at_least, self.at_most)
        if self.each and self.count.of is None:
            raise ValueError("'each' needs a client group: give 'of'")

    @property
    def _bounds(self) -> Bounds:
        return Bounds.of(self.equals, self.at_least, self.at_most)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"{self.count}: {self._bounds}{' each' if self.each else ''}"

    def judge(self, history: History) -> Finding:
        """Count, and ask who could have seen more."""
        found, watched = self.count.select(history), watch(history, self.count)
        cases = self._cases(history, found, watched.alive) if self.each else {self.count.of or "all": found}
        words_by_case = {name: self._bounds.judge(len(case), not watched.unknown) for name, case in cases.items()}
        nobody = not watched.alive and not found
        failed = [name for name, status in words_by_case.items() if status is Status.FAIL and not nobody]
        excuses = {name: self._stalled_ns(history, name, cases[name], watched.alive) for name in failed}
        failed = [name for name in failed if not excuses[name]]
        excuses = {} if failed else excuses
        quiet = Status.INCONCLUSIVE if excuses else self._quiet(found, watched.alive, list(words_by_case.values()))
        status = Status.FAIL if failed else quiet
        seen = self._seen(found, failed or [*excuses], cases, watched.alive, watched.unknown)
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=words.with_excuse(seen, status, [*excuses.values()]),
            support=max(len(watched.alive), len(found)),
            witnesses=found[: words.SHOWN] if failed or not watched.alive else found[-1:],
            offenders=failed or [*excuses] if self.each else [],
            measures={"count": len(found)},
        )

    def _cases(self, history: History, found: Selection, alive: list[str]) -> dict[str, Selection]:
        assert self.count.of is not None
        history.clients_of(self.count.of)  # Raises for a service: it is not "each" of anything.
        seen = found.by_client()
        names = dict.fromkeys([*alive, *seen])
        return {name: seen.get(name, found.client(name)) for name in names}

    def _stalled_ns(self, history: History, name: str, case: Selection, alive: list[str]) -> int:
        """How long the hosts stood still where that explains a wrong number, in ns; else 0."""
        if not history.stalls:
            return 0
        _, until_ns = self.count.window(history)
        since_ns = words.origin_of(history, self.count.since) or 0
        high = self._bounds.high
        if high is not None and len(case) > high:
            stalls = [excuse.of_record(history, r, since_ns) for r in case]
            return max(stalls) if stalls.count(0) <= high else 0
        clients = [name] if self.each else [client for client in alive if client in history.outcomes]
        last_ns = max((excuse.end_ns(history, client) for client in clients), default=history.ended_ns)
        before = [client for client in clients if excuse.end_ns(history, client) < until_ns]
        ended = [excuse.of_end(history, client, since_ns) for client in before]
        return max([excuse.stalled_ns(history, since_ns, min(last_ns, until_ns)), *ended])

    def _quiet(self, found: Selection, alive: list[str], statuses: list[Status]) -> Status:
        if not statuses or Status.INCONCLUSIVE in statuses or not (alive or found):
            return Status.INCONCLUSIVE
        return Status.PASS

    def _seen(
        self, found: Selection, failed: list[str], cases: dict[str, Selection], alive: list[str], unknown: list[str]
    ) -> str:
        if not alive and not found and not unknown:
            return "nothing in scope: nobody who would have seen it was there"
        said = words.times(found.count) if found.count else "never"
        if self.each:
            said += f" in all; {words.listing(f'{name}: {words.times(len(cases[name]))}' for name in failed)}".rstrip(
                "; "
            )
        return f"{said}; but {words.listing(unknown)}" if unknown and not failed else said
