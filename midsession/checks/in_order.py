"""What one connection wrote stays in its order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.readback import ReadBack, Told, Write, tell
from midsession.core.history import History
from midsession.core.record import Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class InOrder(Check):
    """Each client of `read_by` finds what a connection of the group `of` wrote in the order in which it was sent.

    Writes and reads are those of `kept`, and compared alike; the order of the reads is that of the readers' questions.
    Only what was found counts, its first place each time; nothing is said of the order between connections.
    """

    kind: ClassVar[str] = "in_order"
    example: ClassVar[str] = """\
- in_order: {of: writers, read_by: reader, matches: "k[^ ]+ v.*"}
"""

    in_order: ReadBack

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"what a connection wrote stays in its order: {self.in_order}"

    def judge(self, history: History) -> Finding:
        """Compare neighbours, connection by connection, reader by reader."""
        told = tell(history, self.in_order)
        pairs = list(_neighbours(told))
        wrong = [(first, second, read) for first, second, read, kept in pairs if not kept]
        status = Status.FAIL if wrong else Status.INCONCLUSIVE if told.doubts else Status.PASS
        said = words.listing(f"{read.client} found {second.item} before {first.item}" for first, second, read in wrong)
        doubts = f"but {words.listing(told.doubts)}" if told.doubts else ""
        counted = f"{len(pairs) - len(wrong)} of {words.plural(len(pairs), 'pair')} of neighbours in order"
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen="; ".join(filter(None, [counted, said, doubts])),
            support=len(pairs),
            witnesses=[r for first, second, read in wrong[: words.SHOWN] for r in (first.sent, second.sent, read)],
            offenders=words.who(second.sent for _, second, _ in wrong),
        )


def _neighbours(told: Told) -> Iterator[tuple[Write, Write, Record, bool]]:
    """Two writes that follow each other on a connection and were both found; the read of the second; if in order."""
    for reads in told.reads.values():
        place: dict[str, int] = {}
        for n, (item, _) in enumerate(reads):
            place.setdefault(item, n)
        for writes in _by_connection(told).values():
            found = [w for w in writes if w.item in place]
            for first, second in pairwise(found):
                at = place[second.item]
                yield first, second, reads[at][1], place[first.item] < at


def _by_connection(told: Told) -> Mapping[tuple[str | None, int | None], list[Write]]:
    found: defaultdict[tuple[str | None, int | None], list[Write]] = defaultdict(list)
    for w in told.writes:
        found[w.sent.client, w.sent.connection].append(w)
    return found
