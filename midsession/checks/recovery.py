"""How long clients take to be served again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from midsession.checks import excuse, limits, words
from midsession.checks.base import Check
from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.core.refers import Players, StepId
from midsession.core.sample import Percentile, Sample
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Return:
    """Whose, since when, and what it takes: the clients of `of`, since the step `since`, until they are `by`."""

    of: Players
    since: StepId
    by: Literal["replied", "connected"] = "replied"


@dataclass(frozen=True, slots=True)
class Recovery(Check):
    """The percentiles over all clients of the time from the step `since` to their first reply are `at_most` so long.

    With `by: connected`, to their first connection. In scope is each client of the group whose session was not over
    at the step's instant, if it was then connected, or trying, or lost, or lost a connection later, before it was
    served: one that arrived later and was served at once has nothing to recover from. What a client still got on a
    connection that it had at that instant and then lost is no recovery. A client whose session ended without
    recovering counts as one that took for ever. One of whom the logs cannot tell may have taken any time: it makes
    the finding inconclusive where that decides; so does time in which the hosts stood still (`stalled`), and a client
    that never recovered while they stood still for a quarter or more of the time until its session ended.
    """

    kind: ClassVar[str] = "recovery"
    example: ClassVar[str] = """\
- recovery: {of: talkers, since: return}
  at_most: {p50: 500ms, max: 5s}
- recovery: {of: talkers, since: return, by: connected}
  at_most: {p99: 2s}
"""

    recovery: Return
    at_most_s: dict[Percentile, float]

    def __post_init__(self) -> None:
        """Raises ValueError for no limits, and for limits that contradict each other."""
        limits.refuse_no_limits(self.at_most_s)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        what = f"{self.recovery.of} {self.recovery.by} again since {self.recovery.since}"
        return f"{what}: {limits.said(self.at_most_s)}"

    def judge(self, history: History) -> Finding:
        """Look for each client's first sign of recovery."""
        origin_ns = history.instant(self.recovery.since)
        there = [c for c in history.clients_of(self.recovery.of) if _was_there(history, c, origin_ns)]
        firsts = {client: self._first(history, client, origin_ns) for client in there}
        clients = [c for c, first in firsts.items() if first is None or _had_to(history, c, origin_ns, first)]
        found = {client: firsts[client] for client in clients}
        missing = [client for client, record in found.items() if record is None]
        unknown = [client for client in missing if history.outcomes[client].word == "info"]
        excused = {c: excuse.of_what_never_came(history, c, origin_ns) for c in missing if c not in unknown}
        excused = {client: stalled_ns for client, stalled_ns in excused.items() if stalled_ns}
        # Best of all, such a client recovered just after the logs stopped telling, or its session had ended.
        soonest = [max(0, history.outcomes[client].known_until_ns - origin_ns) for client in unknown]
        soonest += [_unstalled_ns(history, origin_ns, excuse.end_ns(history, client)) for client in excused]
        back = sorted((r for r in found.values() if r), key=lambda r: r.t_ns)
        took = [r.t_ns - origin_ns for r in back]
        at_worst = Sample(took, never=len(missing))
        stalls = [history.stalled_ns(origin_ns, r.t_ns) for r in back]
        at_best = Sample(
            [*(_unstalled_ns(history, origin_ns, r.t_ns) for r in back), *soonest],
            never=len(missing) - len(soonest),
        )
        status = limits.status_of(self.at_most_s, at_best, at_worst)
        seen = self._seen(history, clients, missing, at_worst, origin_ns)
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=words.with_excuse(seen, status, [*stalls, *excused.values()]),
            support=len(clients),
            witnesses=back[-1:],
            offenders=self._offenders(status, back, missing, origin_ns),
            measures=at_worst.summary_ms(),
        )

    def _first(self, history: History, client: str, origin_ns: int) -> Record | None:
        given_up = history.lost_later(client, origin_ns)
        return next(
            (
                r
                for r in history.of_client(client)
                if r.t_ns >= origin_ns and r.event == Event(self.recovery.by) and r.connection != given_up
            ),
            None,
        )

    def _offenders(self, status: Status, back: list[Record], missing: list[str], origin_ns: int) -> list[str]:
        if status is Status.PASS:
            return []
        least_ns = round(min(self.at_most_s.values()) * 1e9)
        return [*missing, *words.who(r for r in back if r.t_ns - origin_ns > least_ns)]

    def _seen(self, history: History, clients: list[str], missing: list[str], times: Sample, origin_ns: int) -> str:
        if not clients:
            had = f"no client of {self.recovery.of} had to recover from {self.recovery.since}"
            return f"nothing in scope: {had}; it met no session, and no attempt failed after it"
        said = words.listing(f"{c}: {self._instead(history, c, origin_ns)}" for c in missing)
        return "; ".join(filter(None, [limits.shown(self.at_most_s, times), said]))

    def _instead(self, history: History, client: str, origin_ns: int) -> str:
        outcome = history.outcomes[client]
        if outcome.word == "info":
            return outcome.reason
        return words.seen_instead([r for r in history.of_client(client) if r.t_ns >= origin_ns], origin_ns)


def _unstalled_ns(history: History, from_ns: int, to_ns: int) -> int:
    return to_ns - from_ns - history.stalled_ns(from_ns, to_ns)


def _was_there(history: History, client: str, origin_ns: int) -> bool:
    """Whether it was in its session at the instant or later: a client that never began had nothing to recover from."""
    began = bool(history.connections.get(client)) or not history.events(Event.DONE).client(client)
    return began and not history.was_over(client, origin_ns)


def _had_to(history: History, client: str, origin_ns: int, first: Record) -> bool:
    """Whether it was connected, trying or lost at the instant, or was lost after it and before its first record."""
    began = [c for c in history.connections.get(client, ()) if c.began_ns <= first.t_ns]
    was_there = any(c.began_ns <= origin_ns <= c.ended_ns for c in began)
    was_lost = any(c.how is not None and c.ended_ns <= first.t_ns for c in began[-2:-1])
    return was_there or was_lost
