"""When the hosts of a run stood still: a machine that was too slow to tell must not blame whom it watched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from midsession.core.logs import PROGRAM
from midsession.core.record import Event, Record

Span = tuple[int, int]
"""From and to, in nanoseconds of the run's clock."""


def spans_of(stalled: Iterable[Record], frozen: Sequence[Record]) -> list[Span]:
    """The times in which some writer was not run, in order and without overlap.

    `stalled` and `frozen` (with `thawed`) are the run's records of these events. Whom a fault had frozen did not stall:
    that was meant. The writers of a run share a machine, so one's stall speaks for all.
    """
    frosts = _frosts(frozen)
    spans = sorted(span for r in stalled for span in [_span(r)] if not (_meant(r, span, frosts)))
    merged: list[Span] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def overlap_ns(spans: Iterable[Span], from_ns: int, to_ns: int) -> int:
    """How much of that time lies in the spans."""
    return sum(max(0, min(end, to_ns) - max(begin, from_ns)) for begin, end in spans)


def _span(record: Record) -> Span:
    return record.t_ns - int(record.fields.get("for_ns", 0)), record.t_ns


def _frosts(records: Sequence[Record]) -> list[tuple[str, Span]]:
    """Host, and from when to when its program was frozen; one that was never thawed was so to the end."""
    found: list[tuple[str, Span]] = []
    for host in {r.host for r in records}:
        own = [r for r in records if r.host == host]
        found += [(host, (a.t_ns, b.t_ns)) for a, b in pairwise(own) if a.event == Event.FROZEN]
        found += [(host, (own[-1].t_ns, _FOR_EVER))] if own[-1].event == Event.FROZEN else []
    return found


_FOR_EVER = 2**63 - 1


def _meant(record: Record, span: Span, frosts: Iterable[tuple[str, Span]]) -> bool:
    return record.writer == PROGRAM and any(
        host == record.host and span[0] < end and begin < span[1] for host, (begin, end) in frosts
    )
