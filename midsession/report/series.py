"""Rates over a run: per bin of time, the clients connected, the replies, the losses, and the slowest reply."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from midsession.core.record import Event, Record

BINS = 160


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers per bin of `bin_ns`. `connected` is a level at the bin's end, `slowest_ns` the worst round trip in it;
    `replies` and `losses` are counts."""

    bin_ns: int
    connected: list[int]
    replies: list[int]
    losses: list[int]
    slowest_ns: list[int]


def series(records: Iterable[Record], zero_ns: int, end_ns: int) -> Series:
    """One pass over the clients' records; what stands outside [0, end_ns] counts in the nearest bin."""
    bin_ns = max(1, -(-end_ns // BINS))
    change, replies, losses, slowest = ([0] * BINS for _ in range(4))
    connected: set[str] = set()
    for record in records:
        if record.client is None:
            continue
        at = min(BINS - 1, max(0, (record.t_ns - zero_ns) // bin_ns))
        if record.event == Event.REPLIED:
            replies[at] += 1
            slowest[at] = max(slowest[at], int(record.fields.get("rtt_ns", 0)))
        elif record.event == Event.CONNECTED and record.client not in connected:
            connected.add(record.client)
            change[at] += 1
        elif record.event in (Event.LOST, Event.CLOSED) and record.client in connected:
            connected.discard(record.client)
            change[at] -= 1
            losses[at] += record.event == Event.LOST
    return Series(bin_ns, _running(change), replies, losses, slowest)


def _running(changes: list[int]) -> list[int]:
    level, levels = 0, []
    for change in changes:
        level += change
        levels.append(level)
    return levels
