"""A pulse: how a process of the harness notices that it was not run in time, so that nobody is blamed for it.

A machine that is overloaded, or a virtual machine that its host does not run, makes everything late: what a client saw
only after 1.3 s may have come to its host in time. So whoever observes looks at the clock every `BEAT_S`; when that
look itself came late by `LATE_NS` or more, it writes `stalled`, and checks of time take it into account. Nothing is
written otherwise.

Knows neither clocks nor loops: the owner beats, and says when.
"""

from __future__ import annotations

from typing import Any

BEAT_S = 0.1
"""How often to beat. A stall that begins between two beats is seen from the second on: it is never made longer."""
LATE_NS = 100_000_000
"""What is late by less is no stall: every machine has that now and then."""

_BEAT_NS = round(BEAT_S * 1e9)


class Pulse:
    """The heart of one writer. Instants are CLOCK_MONOTONIC in nanoseconds."""

    __slots__ = ("_due_ns",)

    def __init__(self, now_ns: int) -> None:
        self._due_ns = now_ns + _BEAT_NS

    def beat(self, now_ns: int) -> dict[str, Any] | None:
        """Beat once; the fields of a `stalled` record for this instant, or None: it was in time."""
        late_ns = now_ns - self._due_ns
        self._due_ns = now_ns + _BEAT_NS
        return {"for_ns": late_ns} if late_ns >= LATE_NS else None
