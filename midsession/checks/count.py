"""Something happens a number of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.bounds import Bounds
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import History, Selection
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Count(Check):
    """The event happens `equals`, `at_least` or `at_most` so many times (of the group or service `of`, since `since`).

    With `each`, that many times for every client of the group `of` that was in a session in that window. Too many is a
    failure; too few, or not too many, is believed only of whole logs and known outcomes, with at least one observer
    that gave a sign of life (of what only a connection can meet: that had one).
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
        status = Status.FAIL if failed else self._quiet(found, watched.alive, list(words_by_case.values()))
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=self._seen(found, failed, cases, watched.alive, watched.unknown),
            support=max(len(watched.alive), len(found)),
            witnesses=found[: words.SHOWN] if failed or not watched.alive else found[-1:],
            offenders=failed if self.each else [],
            measures={"count": len(found)},
        )

    def _cases(self, history: History, found: Selection, alive: list[str]) -> dict[str, Selection]:
        assert self.count.of is not None
        history.clients_of(self.count.of)  # Raises for a service: it is not "each" of anything.
        seen = found.by_client()
        names = dict.fromkeys([*alive, *seen])
        return {name: seen.get(name, found.client(name)) for name in names}

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
