"""What is asked of each fault of a link, what a neutral probe must then measure, and how far off it may be.

Tolerances are wide enough for a loaded machine of two cores, and narrow enough that a fault that does nothing, or
twice too much, is out of them. Exact promises have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Measured = Mapping[str, float]
_EXACT = 1e-9
"""A tolerance that is none: shares are quotients."""
_MEASURES = {
    "p50_ms": "median delay",
    "p90_ms": "90 of 100 within",
    "middle_ms": "middle half",
    "lost_share": "lost",
    "lost_segments": "segments lost",
    "heralds_came": "too long, and came",
    "burst": "mean burst",
    "twice_share": "came twice",
    "late_share": "overtaken",
    "overtaken_ms": "their delay",
    "bytes_per_s": "throughput",
    "since_heal_ms": "first after the heal",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """`measure` (see `probe.py`) lies within `tolerance` of `asked`. `unit`: `ms`, `%`, `kB/s`; empty: a number."""

    measure: str
    asked: float
    tolerance: float
    unit: str

    def keeps(self, measured: Measured) -> bool:
        """Whether what was measured is near enough; what was not measured is not."""
        value = measured.get(self.measure)
        return value is not None and abs(value - self.asked) <= self.tolerance

    @property
    def about(self) -> str:
        """What is measured, for people."""
        return _MEASURES[self.measure]

    def seen(self, measured: Measured) -> str:
        """What was measured, for people."""
        value = measured.get(self.measure)
        return "nothing" if value is None else self._words(value)

    def said(self) -> str:
        """What was asked, for people."""
        if self.tolerance <= _EXACT:
            return f"exactly {self._words(self.asked)}"
        return self._words(self.asked, f" ± {self.tolerance * self._scale:.2f}")

    def _words(self, value: float, more: str = "") -> str:
        return f"{value * self._scale:.2f}{more} {self.unit}".strip()

    @property
    def _scale(self) -> float:
        return {"%": 100.0, "kB/s": 1e-3}.get(self.unit, 1.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A fault as the timeline says it (`{…}` without target and `with`), the probe's arguments, what must come of it.

    `heal_after` heals it that long after it was injected; without it, when all is measured.
    """

    name: str
    verb: str
    fields: str
    source: tuple[str, ...]
    promises: tuple[Promise, ...]
    heal_after: str = ""


def _datagrams(count: int, per_s: int) -> tuple[str, ...]:
    return "source", str(count), str(1 / per_s)


_NO_LOSS = Promise("lost_share", 0.0, 0.0, "%")
_NO_COPIES = Promise("twice_share", 0.0, 0.0, "%")
_IN_ORDER = Promise("late_share", 0.0, 0.0, "%")
_AT_ONCE = Promise("p50_ms", 0.0, 2.0, "ms")
_MTU, _PAYLOAD = 1500, 1448
"""Bytes of an Ethernet packet, and of a TCP segment's payload in it (RFC 7323 timestamps)."""


def _stream(count: int, size: int) -> tuple[str, ...]:
    return "stream", str(count), str(size)


def _within(share: float, tolerance: float) -> Promise:
    return Promise("lost_share", share, tolerance, "%")


CASES = (
    Case("nothing", "", "", _datagrams(500, 500), (_AT_ONCE, _NO_LOSS, _NO_COPIES, _IN_ORDER)),
    Case(
        "delay",
        "delay",
        "latency: 50ms, direction: to",
        _datagrams(1000, 500),
        (Promise("p50_ms", 50, 2, "ms"), Promise("p90_ms", 50, 5, "ms"), _NO_LOSS, _NO_COPIES, _IN_ORDER),
    ),
    Case(
        "jitter",
        "delay",
        "latency: 20ms, jitter: 5ms, direction: to",
        _datagrams(2500, 500),
        (Promise("p50_ms", 20, 2.5, "ms"), Promise("middle_ms", 5, 1.5, "ms"), _NO_LOSS, _IN_ORDER),
    ),
    Case("each tenth lost", "loss", "every: 10", _datagrams(1000, 500), (_within(0.1, _EXACT), _AT_ONCE)),
    Case("two lost", "loss", "packets: [3, 7]", _datagrams(100, 500), (_within(0.02, _EXACT), _AT_ONCE)),
    Case(
        "each tenth lost of a stream",
        "loss",
        "every: 10",
        _stream(400_000, _MTU),
        (_within(0.1, 0.005),),
    ),
    Case(
        "two lost of a stream", "loss", "packets: [5, 9]", _stream(200_000, _MTU), (Promise("lost_segments", 2, 0, ""),)
    ),
    Case(
        "mtu",
        "mtu",
        "size: 1000B",
        _stream(200_000, 1000),
        (Promise("lost_segments", 0, 0, ""), Promise("heralds_came", 0, 0, "")),
    ),
    Case("loss", "loss", "rate: 10%", _datagrams(2000, 500), (_within(0.1, 0.035), _IN_ORDER)),
    Case(
        "bursts of loss",
        "loss",
        "rate: 10%, burst: 4",
        _datagrams(3000, 500),
        (_within(0.1, 0.07), Promise("burst", 4, 1.2, "")),
    ),
    Case(
        "duplicate",
        "duplicate",
        "rate: 10%, direction: to",
        _datagrams(2000, 500),
        (Promise("twice_share", 0.1, 0.035, "%"), _NO_LOSS, _IN_ORDER),
    ),
    Case(
        "reorder",
        "reorder",
        "rate: 10%, late: 20ms, direction: to",
        _datagrams(2000, 500),
        (Promise("late_share", 0.1, 0.035, "%"), Promise("overtaken_ms", 20, 5, "ms"), _NO_LOSS),
    ),
    Case("corrupt", "corrupt", "rate: 10%, direction: to", _datagrams(2000, 500), (_within(0.1, 0.035), _IN_ORDER)),
    Case(
        "rate",
        "rate",
        "bandwidth: 1MB/s, queue: 100ms, direction: to",
        ("bulk", "3"),
        (Promise("bytes_per_s", 1e6 * _PAYLOAD / _MTU, 8e4, "kB/s"),),
    ),
    Case(
        "hold",
        "hold",
        "direction: to",
        _datagrams(250, 500),
        (Promise("since_heal_ms", 0, 50, "ms"), _NO_LOSS, _NO_COPIES, _IN_ORDER),
        heal_after="1s",
    ),
)
"""Every fault of a link that has a number. The first is the probe itself: what it measures when nothing is wrong."""
