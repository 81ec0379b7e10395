"""Findings with what proves them: the witnesses among the records around them, and what silent offenders saw last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status
from midsession.report.text import duration, instant, phrase, visible

WITNESSES = 5
AROUND = 4
OFFENDERS = 50
_PHRASE = 160
"""Characters of what one record says: an account of a failure is told whole beside its finding."""

WORLD = frozenset(
    {Event.TRIGGERED, Event.INJECTED, Event.EFFECTIVE, Event.HEALED, Event.LISTENING}
    | {Event.STARTED, Event.EXITED, Event.FROZEN, Event.THAWED, Event.BEGUN, Event.ENDED, Event.NOTE}
)
"""Events that concern everybody: they stand among the records around any client's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, ready to show: its instant from the start, whose it is, its event, a phrase. `key` names the record,
    `chosen` says that it is the one that the others stand around."""

    t_ns: int
    who: str
    event: str
    text: str
    key: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A witness (or what an offender saw instead) among the records around it; `title` says which it is."""

    title: str
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class FindingView:
    """One finding, with its evidence. `own` says that the scenario asked for it (else every run is judged by it);
    `offenders` are the first of `offenders_count`."""

    own: bool
    status: str
    check: str
    promise: str
    seen: str
    place: str
    support: int
    offenders: list[str]
    offenders_count: int
    measures: dict[str, str]
    evidence: list[Evidence]


_BADNESS = {Status.ERROR: 0, Status.FAIL: 1, Status.INCONCLUSIVE: 2, Status.PASS: 3}


def finding_views(history: History, findings: Sequence[Finding], zero_ns: int) -> list[FindingView]:
    """The findings, worst first, each with the records around its witnesses.

    The verdict holds the scenario's checks first, in the order of the plan; what follows is judged of every run.
    """
    own = {id(f) for f in findings[: len(history.plan.checks)]}
    ordered = sorted(findings, key=lambda f: (_BADNESS[f.status], id(f) not in own))
    around = _Surroundings(history, ordered, zero_ns)
    return [_view(f, id(f) in own, around.evidence(f)) for f in ordered]


def _view(finding: Finding, own: bool, evidence: list[Evidence]) -> FindingView:
    return FindingView(
        own=own,
        status=str(finding.status),
        check=visible(finding.check, 80),
        promise=visible(finding.promise, 400),
        seen=visible(finding.seen, 1000),
        place=visible(finding.place, 200),
        support=finding.support,
        offenders=[visible(o, 80) for o in finding.offenders[:OFFENDERS]],
        offenders_count=len(finding.offenders),
        measures={visible(k, 60): measure(k, v) for k, v in finding.measures.items()},
        evidence=evidence,
    )


def measure(name: str, value: Any) -> str:
    """A number with its unit, which stands in its name (`_ns`, `_s`)."""
    if name.endswith("_ns") and isinstance(value, int | float):
        return duration(value)
    if name.endswith("_s") and isinstance(value, int | float):
        return duration(value * 1e9)
    return visible(value, 200)


class _Surroundings:
    """Finds the records around a record: those of the same client (or host), and what happened to the world."""

    def __init__(self, history: History, findings: Sequence[Finding], zero_ns: int) -> None:
        self._zero_ns = zero_ns
        self._observers = {*history.plan.clients, *(host for host, _, _ in history.writers())}
        whose = {_whose(w) for f in findings for w in f.witnesses}
        whose |= {o for f in findings if f.status is not Status.PASS for o in f.offenders[:WITNESSES]}
        self._streams: dict[str, list[Record]] = {name: [] for name in whose}
        for record in history.records if whose else ():
            self._hear(record)

    def _hear(self, record: Record) -> None:
        if record.client is None and record.event in WORLD:
            for stream in self._streams.values():
                stream.append(record)
        elif (stream_or_none := self._streams.get(_whose(record))) is not None:
            stream_or_none.append(record)

    def evidence(self, finding: Finding) -> list[Evidence]:
        """What clients bear witness of; then, of a promise that was not kept, what offenders without a witness saw
        last; then what hosts bear witness of."""
        seen = {_whose(w) for w in finding.witnesses}
        silent = [o for o in finding.offenders if o not in seen] if finding.status is not Status.PASS else []
        silent = [o for o in silent if o in self._observers]  # the others are steps and files, and saw nothing
        found = [self._about(_whose(w), key_of(w)) for w in finding.witnesses if w.client]
        found += [self._about(o, None) for o in silent[:WITNESSES]]
        found += [self._about(_whose(w), key_of(w)) for w in finding.witnesses if not w.client]
        return _told_apart([e for e in found if e.entries][:WITNESSES])

    def _about(self, whose: str, key: str | None) -> Evidence:
        stream = self._streams.get(whose, [])
        if key is None:
            return Evidence(f"what {visible(whose, 80)} saw last", [self._brief(r) for r in stream[-8:]])
        at = next((i for i, r in enumerate(stream) if key_of(r) == key), len(stream))
        part = stream[max(0, at - AROUND) : at + AROUND + 1]
        return Evidence(f"around {visible(whose, 80)}", [self._brief(r, key_of(r) == key) for r in part])

    def _brief(self, record: Record, chosen: bool = False) -> Entry:
        shown = entry(record, self._zero_ns, chosen)
        return replace(shown, text=visible(shown.text, _PHRASE))


def _told_apart(found: list[Evidence]) -> list[Evidence]:
    """Several of one client or host have the instants of their witnesses in their titles."""
    titles = Counter(evidence.title for evidence in found)
    return [_with_instant(evidence) if titles[evidence.title] > 1 else evidence for evidence in found]


def _with_instant(evidence: Evidence) -> Evidence:
    chosen = [instant(e.t_ns).strip() for e in evidence.entries if e.chosen]
    return replace(evidence, title=", at ".join([evidence.title, *chosen]))


def _whose(record: Record) -> str:
    return record.client or record.host


def key_of(record: Record) -> str:
    """The record's name in its run: host, writer, incarnation and seq."""
    return f"{record.host}.{record.writer}.{record.incarnation}:{record.seq}"


def entry(record: Record, zero_ns: int, chosen: bool = False) -> Entry:
    """A record, ready to show."""
    who = visible(_whose(record), 80)
    if record.connection is not None:
        who = f"{who} #{record.connection}"
    key = visible(key_of(record), 120)
    return Entry(record.t_ns - zero_ns, who, visible(record.event, 40), phrase(record), key, chosen)
