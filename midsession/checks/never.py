"""Something never happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Never(Check):
    """There is no record of the event (by the group or service `of`, since the step `since`).

    One record is a failure. Absence is believed only if every observer that was in a session in that window (for an
    event of clients: each client; else each service, agent, the conductor) has a whole log, at least one of them gave
    a sign of life in the window, and each client's outcome is known; otherwise it is inconclusive. Of what only a
    connection can meet, only somebody who had a connection open in the window gives a sign of life; of what only a
    program can meet (`line`, `exited`, …), only client programs that had not exited before it. A `protocol_error`
    because nothing came in time is no proof when the hosts stood still (`stalled`) for half of that time or more.
    """

    kind: ClassVar[str] = "never"
    example: ClassVar[str] = """\
- never: {event: protocol_error}
- never: {event: lost, of: talkers, since: return}
"""

    never: Pattern

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"never {self.never}"

    def judge(self, history: History) -> Finding:
        """Look for a record, then for who would have seen one."""
        found = self.never.select(history)
        watched = watch(history, self.never)
        origin_ns = words.origin_of(history, self.never.since)
        status, seen = Status.PASS, f"not once, and {words.plural(len(watched.alive), 'observer')} would have seen it"
        stalls = [_stalled_ns(history, r) for r in found]
        if found and all(stalls):
            said = words.listing(words.describe(r, origin_ns) for r in found)
            status, seen = Status.INCONCLUSIVE, f"{said}; but {words.stalled(max(stalls))}"
        elif found:
            said = words.listing(words.describe(r, origin_ns) for r in found)
            status, seen = Status.FAIL, f"{words.times(found.count)}: {said}"
        elif watched.unknown:
            status, seen = Status.INCONCLUSIVE, f"not seen, but {words.listing(watched.unknown)}"
        elif not watched.alive:
            status, seen = Status.INCONCLUSIVE, "nothing in scope: nobody who would have seen it was there"
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=seen,
            support=max(len(watched.alive), len(found)),
            witnesses=found[: words.SHOWN],
            offenders=words.who(found),
        )


def _stalled_ns(history: History, record: Record) -> int:
    """How long the hosts stood still while an `expect` waited in vain, where that is half of its time; else 0."""
    within_s = record.fields.get("within_s")
    if record.event != Event.PROTOCOL_ERROR or record.fields.get("got") is not None or not within_s:
        return 0
    within_ns = round(within_s * 1e9)
    stalled_ns = history.stalled_ns(record.t_ns - within_ns, record.t_ns)
    return stalled_ns if 2 * stalled_ns >= within_ns else 0
