"""Every client of a group has an event in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from midsession.checks import excuse, words
from midsession.checks.base import Check
from midsession.core.history import FOREVER, History
from midsession.core.outcomes import ON_ATTEMPTS, Connection
from midsession.core.record import Event, Record
from midsession.core.refers import GroupName, StepId
from midsession.core.verdict import Finding, Status
from midsession.core.whose import ENDINGS


@dataclass(frozen=True, slots=True)
class _Case:
    """What one client in scope met, or what it saw instead."""

    client: str
    word: Literal["met", "late", "missed", "unknown"]
    record: Record | None
    seen: str


@dataclass(frozen=True, slots=True)
class Every(Check):
    """Each client in scope has a record of `meets` at or after the instant of `since`, at most `within` later.

    `as` asks for a way of being lost (`eof`, `reset`, `refused`, …), `where` for fields with these values. Without
    `since` the time counts from the beginning of the run; without `within` any time will do.

    In scope are: without `since`, all clients of the group. With `since`, for what happens to a connection (`lost`,
    `end`, `closed`; but not a `lost` as `refused`, `unreachable` or `name`, which only an attempt meets), the clients
    with a connection open at that instant, and that connection has to meet it (as `timeout`: or a later attempt). One
    that its own client had begun to end (`end`, `abort`) before the step took effect cannot be `lost` by it any more,
    and is not in scope. For everything else, the clients whose session was not yet over then.
    Nothing in scope, or a client of whom the logs cannot tell, is inconclusive; a client that met nothing in time, or
    ended without meeting it, is a failure. One that met it too late, but by no more than the hosts stood still in that
    time (`stalled`), is inconclusive: they were too slow to tell. So is one that never met it when, without the time in
    which they stood still, it was not watched for as long as `within`, and that was a quarter or more of the time from
    `since` to its end (or of the time in which its session came to a bad end, as with `never`).
    """

    kind: ClassVar[str] = "every"
    example: ClassVar[str] = """\
- every: talkers
  meets: lost
  as: eof
  since: crash
  within: 1s
"""

    every: GroupName
    meets: Event
    since: StepId | None = None
    within_s: float | None = None
    as_: str | None = None
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        said = ", ".join(filter(None, [self.as_, *(f"{k} = {v!r}" for k, v in self.where.items())]))
        event = f"{self.meets.value} ({said})" if said else self.meets.value
        if self.within_s is None:
            when = f" since {self.since}" if self.since else ""
        else:
            when = f" within {self.within_s:g} s of {self.since or 'the start'}"
        return f"every client of {self.every} meets {event}{when}"

    def judge(self, history: History) -> Finding:
        """Judge client by client."""
        origin_ns = words.origin_of(history, self.since)
        if origin_ns is None and self.within_s is not None:
            origin_ns = history.begun_ns
        scope = self._scope(history, origin_ns)
        cases = [self._case(history, client, connection, origin_ns) for client, connection in scope.items()]
        return self._finding(history, cases, origin_ns)

    def _scope(self, history: History, origin_ns: int | None) -> dict[str, int | None]:
        """The clients in scope; of each the number of the connection that has to meet it, None: any will do."""
        clients = history.clients_of(self.every)
        if self.since is None or origin_ns is None:
            return dict.fromkeys(clients)
        if self.meets in ENDINGS and self.as_ not in ON_ATTEMPTS:
            # A timeout ends a connection or an attempt: the one after it may be what is meant.
            any_will_do = self.as_ == "timeout"
            open_then = history.open_at(origin_ns).items()
            at_stake = {client: found.number for client, found in open_then if self._is_at_stake(history, found)}
            opened = {client: None if any_will_do else number for client, number in at_stake.items()}
            # A client whose log breaks off before the instant may have been open then: it stays in scope, unknown.
            return {c: opened.get(c) for c in clients if c in opened or history.outcomes[c].known_until_ns < origin_ns}
        return dict.fromkeys(c for c in clients if not history.was_over(c, origin_ns))

    def _is_at_stake(self, history: History, connection: Connection) -> bool:
        """Whether a connection that was open at the step could still meet it."""
        assert self.since is not None
        effective = history.steps[self.since].effective
        by_ns = effective.t_ns if effective is not None else history.instant(self.since)
        return self.meets != Event.LOST or connection.ending_ns > by_ns

    def _case(self, history: History, client: str, connection: int | None, origin_ns: int | None) -> _Case:
        since_ns = 0 if origin_ns is None or self.since is None else origin_ns
        later = [r for r in history.of_client(client).before_teardown() if r.t_ns >= since_ns]
        meant = later if connection is None else [r for r in later if r.connection == connection]
        met = next((r for r in meant if r.event == self.meets and self._fits(r)), None)
        outcome = history.outcomes[client]
        if met is not None and met.t_ns <= self._deadline_ns(origin_ns):
            return _Case(client, "met", met, "")
        if met is not None:
            return self._late(history, client, met, origin_ns)
        if outcome.known_until_ns >= self._deadline_ns(origin_ns):
            return self._missed(history, client, connection, later, origin_ns)
        return _Case(client, "unknown", None, outcome.reason)

    def _late(self, history: History, client: str, met: Record, origin_ns: int | None) -> _Case:
        assert origin_ns is not None, "there is no deadline without an instant to count it from"
        stalled_ns = history.stalled_ns(origin_ns, met.t_ns)
        word: Literal["unknown", "late"] = (
            "unknown" if stalled_ns and met.t_ns - self._deadline_ns(origin_ns) <= stalled_ns else "late"
        )
        excuse = words.stalled(stalled_ns) if word == "unknown" else ""
        seen = ", and ".join(filter(None, [f"{self.meets} only {words.offset(met.t_ns, origin_ns)}", excuse]))
        return _Case(client, word, met, seen)

    def _missed(
        self, history: History, client: str, connection: int | None, later: list[Record], origin_ns: int | None
    ) -> _Case:
        seen = words.seen_instead(later, origin_ns)
        if stalled_ns := self._stalled_ns(history, client, connection, origin_ns):
            return _Case(client, "unknown", None, f"{seen}, and {words.stalled(stalled_ns)}")
        return _Case(client, "missed", later[-1] if later else None, seen)

    def _stalled_ns(self, history: History, client: str, connection: int | None, origin_ns: int | None) -> int:
        """How long the hosts stood still where that explains why it was never met, in ns; else 0."""
        if origin_ns is None or not history.stalls:
            return 0
        end_ns = excuse.end_ns(history, client)
        if connection is not None:
            own = next(c for c in history.connections[client] if c.number == connection)
            end_ns = min(own.ended_ns, end_ns)
        stalled_ns = excuse.stalled_ns(history, origin_ns, end_ns)
        if end_ns - history.stalled_ns(origin_ns, end_ns) >= self._deadline_ns(origin_ns):
            return 0
        return stalled_ns or (excuse.of_end(history, client, origin_ns) if connection is None else 0)

    def _fits(self, record: Record) -> bool:
        wanted = self.where if self.as_ is None else {**self.where, "how": self.as_}
        return all(record.fields.get(key) == value for key, value in wanted.items())

    def _deadline_ns(self, origin_ns: int | None) -> int:
        if origin_ns is None or self.within_s is None:
            return FOREVER
        return origin_ns + round(self.within_s * 1e9)

    def _finding(self, history: History, cases: list[_Case], origin_ns: int | None) -> Finding:
        broken = [c for c in cases if c.word in ("late", "missed")]
        unknown = [c for c in cases if c.word == "unknown"]
        met = [c.record for c in cases if c.word == "met" and c.record]
        offending = broken or unknown
        shown = [c.record for c in broken if c.record] or sorted(met, key=lambda r: r.t_ns)[-1:]
        took = [c.record.t_ns - origin_ns for c in cases if c.word in ("met", "late") and c.record and origin_ns]
        return Finding(
            check=self.kind,
            status=_status(cases, broken, unknown),
            promise=self.promise,
            seen=self._seen(cases, offending, len(met)),
            support=len(cases),
            witnesses=_step(history, self.since) + shown[: words.SHOWN],
            offenders=[c.client for c in offending],
            measures=words.spread_ms(took),
        )

    def _seen(self, cases: list[_Case], offending: list[_Case], met: int) -> str:
        if not cases:
            why = f" at {self.since}" if self.since else ""
            return f"nothing in scope: no client of {self.every} was in a session or connection that counts{why}"
        head = f"{met} of {len(cases)} did{' in time' if self.within_s is not None else ''}"
        said = words.listing(f"{c.client}: {c.seen}" for c in offending)
        return f"{head}; {said}" if said else head


def _status(cases: list[_Case], broken: list[_Case], unknown: list[_Case]) -> Status:
    if broken:
        return Status.FAIL
    return Status.PASS if cases and not unknown else Status.INCONCLUSIVE


def _step(history: History, step: str | None) -> list[Record]:
    if step is None:
        return []
    story = history.steps[step]
    return [r for r in [story.injected or story.triggered] if r]
