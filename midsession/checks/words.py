"""How findings speak: offsets, counts, and what a client saw. One place, so that all checks sound alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from midsession.core.history import History, Selection
from midsession.core.record import Event, Record
from midsession.core.verdict import Status

SHOWN = 5
"""How many offenders or records a text names; the rest is counted."""


def offset(t_ns: int, origin_ns: int | None) -> str:
    """`at +1.234 s` after an origin; empty when there is none."""
    return "" if origin_ns is None else f"at +{(t_ns - origin_ns) / 1e9:.3f} s"


def stalled(stalled_ns: int) -> str:
    """`the host was stalled for 1.3 s`; empty for no time."""
    return f"the host was stalled for {stalled_ns / 1e9:.1f} s" if stalled_ns else ""


def with_excuse(seen: str, status: Status, stalls_ns: Sequence[int]) -> str:
    """What was seen; where nobody can tell, with the longest time that the hosts stood still meanwhile."""
    excuse = stalled(max(stalls_ns, default=0)) if status is Status.INCONCLUSIVE else ""
    return f"{seen}; but {excuse}" if excuse else seen


def times(n: int) -> str:
    """`once`, `twice`, `12 times`."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def listing(items: Iterable[str], separator: str = "; ") -> str:
    """The first few items, and how many more there are."""
    all_items = list(items)
    more = [f"and {len(all_items) - SHOWN} more"] if len(all_items) > SHOWN else []
    return separator.join(all_items[:SHOWN] + more)


def plural(n: int, noun: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def refuse_no_subject(service: str | None, clients: str | None) -> None:
    """Raises ValueError unless exactly one of the two is given."""
    if (service is None) == (clients is None):
        raise ValueError("say whose: either 'service' or 'clients'")


def hosts_of(history: History, service: str | None, clients: str | None) -> list[str]:
    """The hosts of the programs that are meant: the service's, or those of a group's client programs."""
    return list(history.clients_of(clients)) if clients is not None else [service] if service is not None else []


def origin_of(history: History, since: str | None) -> int | None:
    """The instant that offsets count from: the step, else the run's beginning; None when clocks do not allow it.

    Raises CannotTell for a step that never fired.
    """
    if since is not None:
        return history.instant(since)
    begun = history.events(Event.BEGUN).first
    return begun.t_ns if begun and history.comparable else None


def describe(record: Record, origin_ns: int | None) -> str:
    """One record: who, what, how, when."""
    details = (record.fields.get(k) for k in ("how", "outcome", "got", "text", "name"))
    detail = next((str(value) for value in details if value is not None), "")
    shown = f"{detail[:60]}…" if len(detail) > 60 else detail
    words = [f"{record.client or record.host}: {record.event}", f"({shown!r})" if shown else ""]
    return " ".join(w for w in [*words, offset(record.t_ns, origin_ns)] if w)


def how_it_exited(record: Record) -> str:
    """An `exited` record in words."""
    signal = record.fields.get("signal")
    return f"exited by SIG{signal}" if signal else f"exited with code {record.fields.get('code')}"


def seen_instead(records: Selection | Sequence[Record], origin_ns: int | None) -> str:
    """What a client saw in place of what was promised: its losses by their kind, else its end, else its last record."""
    lost = [r for r in records if r.event == Event.LOST]
    if lost:
        kinds = Counter(str(r.fields.get("how")) for r in lost)
        said = ", ".join(f"{how} {times(n)}" for how, n in kinds.items())
        return " ".join(filter(None, [f"{said}, last", offset(lost[-1].t_ns, origin_ns)]))
    ending = [r for r in records if r.event in (Event.DONE, Event.PROTOCOL_ERROR)] or list(records[-1:])
    if not ending:
        return "nothing at all"
    last = ending[-1]
    outcome = f" ({last.fields['outcome']})" if "outcome" in last.fields else ""
    return " ".join(filter(None, [f"{last.event}{outcome}", offset(last.t_ns, origin_ns)]))


def who(records: Iterable[Record]) -> list[str]:
    """The clients (or hosts) of records, each once, in order."""
    return list(dict.fromkeys(r.client or r.host for r in records))


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share `q` of the values does not exceed (nearest rank). Needs one value."""
    ordered = sorted(values)
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def spread_ms(values_ns: Sequence[int]) -> dict[str, float]:
    """Minimum, median, 99th percentile and maximum in milliseconds; empty for no values."""
    if not values_ns:
        return {}
    ms = [v / 1e6 for v in values_ns]
    picks = {"min_ms": min(ms), "p50_ms": percentile(ms, 0.5), "p99_ms": percentile(ms, 0.99), "max_ms": max(ms)}
    return {name: round(value, 3) for name, value in picks.items()}
