"""How long replies take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import excuse, limits, words
from midsession.checks.base import Check
from midsession.checks.pattern import Pattern, watch
from midsession.core.history import History, Selection
from midsession.core.record import Event, Record
from midsession.core.refers import Players, StepId
from midsession.core.sample import Percentile, Sample
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Replies:
    """Whose: the replies to the group or client `of`, at or after the step `since`, before the step `until`."""

    of: Players
    since: StepId | None = None
    until: StepId | None = None


@dataclass(frozen=True, slots=True)
class Latency(Check):
    """The percentiles (p50, p75, p90, p95, p99, p99.9, max) of the time from a send to its reply are `at_most` so long.

    A reply's time is its record's `rtt_ns`: from the instant before the write to the instant at which the reply's last
    byte was read. One that did not come as it was expected took for ever: in its time there was nothing, or half of
    it, or something else (a `protocol_error` with the `n` of its send). A reply that was outstanding when its
    connection was lost is no latency, and their number is said. Of few replies the high percentiles are the slowest
    one. A client of whom the logs cannot tell all makes it inconclusive, unless the slowest reply seen is over the
    limit of `max`. Time in which the hosts stood still (`stalled`) may not be a reply's own: a limit that is kept
    without it and broken with it is inconclusive; so is one that is broken only by what did not come in a time of which
    that was a quarter or more.
    """

    kind: ClassVar[str] = "latency"
    example: ClassVar[str] = """\
- latency: {of: talkers, until: crash}
  at_most: {p50: 5ms, p99: 50ms, max: 1s}
"""

    latency: Replies
    at_most_s: dict[Percentile, float]

    def __post_init__(self) -> None:
        """Raises ValueError for no limits, and for limits that contradict each other."""
        limits.refuse_no_limits(self.at_most_s)

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        window = [f"since {self.latency.since}" if self.latency.since else ""]
        window += [f"until {self.latency.until}" if self.latency.until else ""]
        return " ".join(filter(None, [f"replies to {self.latency.of}", *window])) + f": {limits.said(self.at_most_s)}"

    def judge(self, history: History) -> Finding:
        """Sort the replies by their time."""
        replies = self._of(history, Event.REPLIED)
        unanswered = [r for r in self._of(history, Event.PROTOCOL_ERROR) if "n" in r.fields]
        times = Sample((int(r.fields["rtt_ns"]) for r in replies), never=len(unanswered))
        unknown = watch(history, Pattern(Event.REPLIED, self.latency.of, since=self.latency.since)).unknown
        stalls = [history.stalled_ns(r.t_ns - _rtt_ns(r), r.t_ns) for r in replies] if history.stalls else []
        excused = [stalled for r in unanswered if (stalled := excuse.of_record(history, r))]
        at_best = times
        if any(stalls) or excused:
            own = (_rtt_ns(r) - (stalls[n] if stalls else 0) for n, r in enumerate(replies))
            at_best = Sample([*own, *(0 for _ in excused)], never=len(unanswered) - len(excused))
        status = limits.status_of(self.at_most_s, at_best, times)
        if unknown and not self._over_the_maximum(at_best):
            status = Status.INCONCLUSIVE
        slowest = sorted(replies, key=_rtt_ns, reverse=True)
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=words.with_excuse(self._seen(history, times, len(unanswered), unknown), status, [*stalls, *excused]),
            support=len(times),
            witnesses=[*unanswered, *slowest][: words.SHOWN if status is Status.FAIL else 1],
            offenders=self._offenders(slowest, unanswered) if status is Status.FAIL else [],
            measures=times.summary_ms(),
        )

    def _of(self, history: History, event: Event) -> Selection:
        found = history.events(event).of(self.latency.of)
        found = found.since(self.latency.since) if self.latency.since else found
        return found.until(self.latency.until) if self.latency.until else found

    def _over_the_maximum(self, times: Sample) -> bool:
        return len(times) > 0 and "max" in limits.broken(self.at_most_s, times)

    def _offenders(self, slowest: list[Record], unanswered: list[Record]) -> list[str]:
        least_ns = round(min(self.at_most_s.values()) * 1e9)
        return words.who([*unanswered, *(r for r in slowest if _rtt_ns(r) > least_ns)])

    def _seen(self, history: History, times: Sample, unanswered: int, unknown: list[str]) -> str:
        if not len(times):
            return words.listing(unknown) or f"nothing in scope: no reply to {self.latency.of} was due"
        lost = sum(map(_outstanding, (history.of_client(c) for c in history.clients_of(self.latency.of))))
        parts = [limits.shown(self.at_most_s, times)]
        parts += [f"{unanswered} never came as expected"] if unanswered else []
        parts += [f"{lost} outstanding when their connections were lost"] if lost else []
        return "; ".join([*parts, *([f"but {words.listing(unknown)}"] if unknown else [])])


def _rtt_ns(record: Record) -> int:
    return int(record.fields["rtt_ns"])


def _outstanding(records: Selection) -> int:
    """How many of a client's sends came after the last that was answered, when their connections were lost."""
    lost = sent = done = 0
    for r in records:
        if r.event == Event.SENT:
            sent = int(r.fields["n"])
        elif r.event == Event.REPLIED:
            done = max(done, int(r.fields["n"]))
        elif r.event == Event.LOST:
            lost += sent - done
        elif r.event == Event.CLOSED:
            done = sent
    return lost
