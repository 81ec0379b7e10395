"""One thing happens before another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from midsession.checks import excuse, words
from midsession.checks.base import Check
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import CannotTell, History
from midsession.core.record import Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Order(Check):
    """The first record of each pattern stands before the first record of the next.

    When all patterns are of one client group, this holds for each of its clients for itself that was in a session in
    that window; else once, for the first records of all. A pattern that never happens is a failure where the logs
    would show it; inconclusive, where its client came to a bad end that a stall explains (as with `never`). Two
    writers' records with the same instant, or on clocks that cannot be compared, have no order: inconclusive.
    """

    kind: ClassVar[str] = "order"
    example: ClassVar[str] = """\
- order:
    - {event: lost, of: talkers, since: crash}
    - {event: connected, of: talkers, since: crash}
"""

    order: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for fewer than two patterns."""
        if len(self.order) < 2:
            raise ValueError("an order needs at least two events")

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return " before ".join(map(str, self.order))

    def judge(self, history: History) -> Finding:
        """Judge case by case: each client, or all at once."""
        chains = dict(self._chains(history))
        watches = [watch(history, pattern) for pattern in self.order]
        unknown = list(dict.fromkeys(u for w in watches for u in w.unknown))
        broken = {name: why for name, chain in chains.items() if (why := self._broken(chain, history.comparable))}
        missing_only = [name for name in broken if None in chains[name]]
        excuses = {name: excuse.of_end(history, name) for name in missing_only if name != _ALL}
        excuses = {name: stalled_ns for name, stalled_ns in excuses.items() if stalled_ns}
        # What is missing from a log that is not whole may have happened.
        failed = [name for name in broken if name not in excuses and (name not in missing_only or not unknown)]
        status = Status.FAIL if failed else Status.PASS if chains and not (unknown or excuses) else Status.INCONCLUSIVE
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=words.with_excuse(self._seen(chains, broken, unknown), status, [*excuses.values()]),
            support=len(chains),
            witnesses=self._witnesses(chains, failed),
            offenders=[name for name in failed if name != _ALL],
        )

    def _chains(self, history: History) -> Iterator[tuple[str, list[Record | None]]]:
        groups = {pattern.of for pattern in self.order}
        group = groups.pop() if len(groups) == 1 else None
        selections = [pattern.select(history) for pattern in self.order]
        if group is None or not history.means_clients(group):
            if any(watch(history, p).alive for p in self.order) or any(selections):
                yield _ALL, [s.first for s in selections]
            return
        by_client = [s.by_client() for s in selections]
        alive = {c for p in self.order for c in watch(history, p).alive}
        for client in history.clients_of(group):
            if client in alive or any(client in seen for seen in by_client):
                yield client, [seen[client].first if client in seen else None for seen in by_client]

    def _broken(self, chain: list[Record | None], comparable: bool) -> str:
        for pattern, record in zip(self.order, chain, strict=True):
            if record is None:
                return f"no {pattern}"
        records = [r for r in chain if r]
        for (_, first), (pattern, second) in pairwise(zip(self.order, records, strict=True)):
            if not happened_before(first, second, comparable):
                return f"{pattern} came {(first.t_ns - second.t_ns) / 1e6:.3f} ms too early"
        return ""

    def _seen(self, chains: dict[str, list[Record | None]], broken: dict[str, str], unknown: list[str]) -> str:
        if not chains and not unknown:
            return "nothing in scope: nobody who would have seen it was there"
        said = [f"{name}: {why}" for name, why in broken.items()]
        kept = f"in order in {len(chains) - len(broken)} of {words.plural(len(chains), 'case')}"
        return "; ".join(filter(None, [kept, words.listing(said), words.listing(unknown)]))

    def _witnesses(self, chains: dict[str, list[Record | None]], failed: list[str]) -> list[Record]:
        names = failed[: words.SHOWN] or list(chains)[:1]
        return [r for name in names for r in chains[name] if r]


_ALL = "overall"


def happened_before(first: Record, second: Record, comparable: bool) -> bool:
    """Whether one record stands before another: by number in one file, by instant between files.

    Raises CannotTell for the same instant in two files, and for two files where clocks are not `comparable`.
    """
    if (first.host, first.writer, first.incarnation) == (second.host, second.writer, second.incarnation):
        return first.seq < second.seq
    if not comparable:
        raise CannotTell(f"{first.event} and {second.event} stand in two logs, whose clocks cannot be compared")
    if first.t_ns == second.t_ns:
        raise CannotTell(f"{first.event} and {second.event} bear the same instant in two logs")
    return first.t_ns < second.t_ns
