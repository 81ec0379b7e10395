"""Something never happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import excuse, words
from midsession.checks.base import Check
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import History
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Never(Check):
    """There is no record of the event (by the group or service `of`, since the step `since`, before `until`).

    One record is a failure. Absence is believed only if every observer that was in a session in that window (for an
    event of clients: each client; else each service, agent, the conductor) has a whole log, at least one of them gave
    a sign of life in the window, and each client's outcome is known; otherwise it is inconclusive. Of what only a
    connection can meet, only somebody who had a connection open in the window gives a sign of life; of what only a
    program can meet (`line`, `exited`, …), only client programs that had not exited before it.

    It is no proof when the hosts or the conductor stood still (`stalled`) for a quarter or more of the time in which it
    came about: of a `protocol_error` because nothing came in time, that time; of a client that gave up, or an attempt
    in vain, the time since its connection was lost; of a connection that was lost, the time since anything was last
    heard on it. Where that holds for each such record, it is inconclusive.

    What never happens says nothing of what does: nobody may have been answered where there was never a
    `protocol_error`. `{every: talkers, meets: done, where: {outcome: ok}}` says that the sessions came to a good end.
    """

    kind: ClassVar[str] = "never"
    example: ClassVar[str] = """\
- never: {event: protocol_error}
- never: {event: lost, of: talkers, until: crash}
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
        stalls = [excuse.of_record(history, r, origin_ns or 0) for r in found]
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
