"""No write is there twice."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.readback import ReadBack, tell
from midsession.core.history import History
from midsession.core.record import Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Once(Check):
    """No client of `read_by` finds the same write of the group `of` more than once.

    Writes and reads are those of `kept`, and compared alike; so the readers must ask for each place once. What was read
    and never written is passed over.
    """

    kind: ClassVar[str] = "once"
    example: ClassVar[str] = """\
- once: {of: writers, read_by: reader, matches: "k[^ ]+ v.*"}
"""

    once: ReadBack

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"no write is there twice of {self.once}"

    def judge(self, history: History) -> Finding:
        """Count each written item, reader by reader."""
        told = tell(history, self.once)
        written = {w.item for w in told.writes}
        found: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
        for reader, reads in told.reads.items():
            for item, record in reads:
                if item in written:
                    found[reader, item].append(record)
        twice = {place: records for place, records in found.items() if len(records) > 1}
        status = Status.FAIL if twice else Status.INCONCLUSIVE if told.doubts else Status.PASS
        said = words.listing(f"{reader}: {item} {words.times(len(rs))}" for (reader, item), rs in twice.items())
        doubts = f"but {words.listing(told.doubts)}" if told.doubts else ""
        seen = f"{words.plural(len(found), 'write')} found, {len(twice) or 'none'} of them more than once"
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen="; ".join(filter(None, [seen, said, doubts])),
            support=len(found),
            witnesses=[r for records in list(twice.values())[: words.SHOWN] for r in records],
            offenders=list(dict.fromkeys(reader for reader, _ in twice)),
        )
