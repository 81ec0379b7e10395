"""What there is to show of a run: plain values drawn from its history, its verdict and its facts.

Pure: no I/O, no clock. Every renderer (HTML, JUnit, Markdown, the end of the live account) draws these values and
nothing else. Bounded: whatever the size of the run, the values stay small, and `left_out` says what is not shown. Texts
that came from the wire or from programs are safe to show (`midsession.report.text.visible`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from midsession.core.history import History
from midsession.core.record import Event
from midsession.core.verdict import Verdict
from midsession.report.bands import Band, bands
from midsession.report.evidence import WORLD, Entry, FindingView, entry, finding_views
from midsession.report.lanes import Lane, client_lanes, service_lanes
from midsession.report.series import Series, series
from midsession.report.text import count, visible

LANES = 200
LOG_ENTRIES = 400


@dataclass(frozen=True, slots=True)
class Head:
    """What run it was. `replay` is the command that runs the same plan again; `outcomes` counts clients by outcome."""

    name: str
    about: str
    source: str
    matrix: str
    seed: int
    run: str
    testbed: str
    plan: str
    status: str
    why: str
    duration_ns: int
    clients: int
    outcomes: dict[str, int]
    records: int
    hosts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    replay: str

    @property
    def ends(self) -> str:
        """`clients: 0 ok, 3 failed`, where not all came to a good end: a promise may be kept that needs nobody."""
        if set(self.outcomes) <= {"ok"}:
            return ""
        said = [f"{self.outcomes.get('ok', 0):,} ok"]
        said += [f"{self.outcomes[word]:,} {shown}" for word, shown in _NOT_OK.items() if word in self.outcomes]
        return f"clients: {', '.join(said)}"


_NOT_OK = {"fail": "failed", "info": "unknown"}


@dataclass(frozen=True, slots=True)
class View:
    """A whole run."""

    head: Head
    findings: list[FindingView]
    bands: list[Band]
    services: list[Lane]
    clients: list[Lane]
    series: Series
    log: list[Entry]
    left_out: list[str]


def view(history: History, verdict: Verdict, info: Mapping[str, Any], replay: str = "") -> View:
    """Draw a run. `info` is the content of run.json."""
    zero_ns, end_ns = span(history)
    plan, records = history.plan, history.records
    shown = _chosen_clients(plan.clients, verdict)
    clients = client_lanes(records, shown, zero_ns, end_ns)
    log, log_left_out = _log(history, zero_ns)
    return View(
        head=_head(history, verdict, info, end_ns, replay),
        findings=finding_views(history, verdict.findings, zero_ns),
        bands=bands(history, zero_ns, end_ns),
        services=service_lanes(records, [s.name for s in plan.services], zero_ns, end_ns),
        clients=clients,
        series=series(records, zero_ns, end_ns),
        log=log,
        left_out=[
            *([] if history.comparable else ["the hosts' clocks cannot be compared: the picture is not to scale"]),
            *_omitted(len(plan.clients) - len(shown), "client", "clients", "drawn"),
            *_omitted(sum(lane.left_out for lane in clients), "change of state", "changes of state", "drawn"),
            *_omitted(log_left_out, "log entry", "log entries", "shown"),
        ],
    )


def _omitted(number: int, noun: str, nouns: str, done: str) -> list[str]:
    return [f"{count(number, noun, nouns)} not {done}"] if number else []


def span(history: History) -> tuple[int, int]:
    """The run's start on the clock, and its length: from `begun` (else the first record) to `ended` (else the last)."""
    records = history.records
    begun, ended = history.events(Event.BEGUN).first, history.ended
    zero_ns = begun.t_ns if begun else min((r.t_ns for r in records), default=0)
    last_ns = ended.t_ns if ended else max((r.t_ns for r in records), default=zero_ns)
    return zero_ns, max(1, last_ns - zero_ns)


def _head(history: History, verdict: Verdict, info: Mapping[str, Any], end_ns: int, replay: str) -> Head:
    plan = history.plan
    outcomes: dict[str, int] = {}
    for outcome in history.outcomes.values():
        outcomes[outcome.word] = outcomes.get(outcome.word, 0) + 1
    return Head(
        name=visible(plan.name),
        about=visible(" ".join(plan.about.split())),
        source=visible(plan.source),
        matrix=visible(", ".join(f"{key}={value}" for key, value in plan.matrix.items())),
        seed=plan.seed,
        run=visible(info.get("run", "")),
        testbed=visible(info.get("testbed", "")),
        plan=plan.hash,
        status=str(verdict.status),
        why=visible(_why_ended(history, info), 80),
        duration_ns=end_ns,
        clients=len(plan.clients),
        outcomes=outcomes,
        records=len(history),
        hosts=_hosts(info.get("hosts")),
        versions=[(visible(key), visible(value)) for key, value in (info.get("versions") or {}).items()],
        replay=visible(replay),
    )


def _why_ended(history: History, info: Mapping[str, Any]) -> object:
    """As the conductor's log says it; but a run may have been interrupted after that, while it was taken down."""
    if info.get("why_ended") == "interrupted":
        return "interrupted"
    return history.ended.fields.get("why") if history.ended else "the run has no end"


def _hosts(hosts: object) -> list[tuple[str, str]]:
    """Names with addresses, from the mapping or the list of `run.json`."""
    if isinstance(hosts, Mapping):
        return [(visible(name), visible(host.get("address", ""))) for name, host in hosts.items()]
    return (
        [(visible(h.get("name", "")), visible(h.get("address", ""))) for h in hosts] if isinstance(hosts, list) else []
    )


def _chosen_clients(clients: list[str], verdict: Verdict) -> list[str]:
    """All, or when there are too many: who broke a promise, who bears witness, then evenly from the rest."""
    if len(clients) <= LANES:
        return clients
    known = set(clients)
    named = [c for f in verdict.findings for c in [*f.offenders, *(w.client for w in f.witnesses)] if c in known]
    chosen = set(list(dict.fromkeys(str(c) for c in named))[: LANES // 2])
    rest = [c for c in clients if c not in chosen]
    room = LANES - len(chosen)
    chosen |= {rest[i * len(rest) // room] for i in range(room)}
    return [c for c in clients if c in chosen]


def _log(history: History, zero_ns: int) -> tuple[list[Entry], int]:
    """What happened to the world, and what the services printed; the sessions have their lanes. Of too many the first
    and the last, and how many that leaves out."""
    services = {s.name for s in history.plan.services}
    wanted = [
        r
        for r in history.records
        if r.client is None and (r.event in WORLD or (r.event == Event.LINE and r.host in services))
    ]
    over = max(0, len(wanted) - LOG_ENTRIES)
    half = LOG_ENTRIES // 2
    kept = wanted if not over else wanted[:half] + wanted[-half:]
    return [entry(r, zero_ns) for r in kept], over
