"""A log-linear histogram of whole numbers, as HdrHistogram's: bounded memory, a bounded relative error.

Values below 2048 are counted exactly; above, a bucket is at most 1/1024 as wide as the values in it. A percentile is
the upper end of its bucket (never more than the largest value that was added), so it never flatters. Values that never
came (a reply that did not arrive) are counted too, above all others: leaving them out would flatter most of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, get_args

PRECISION_BITS = 11

Percentile = Literal["p50", "p75", "p90", "p95", "p99", "p99.9", "max"]

PER_MILLE: Mapping[str, int] = MappingProxyType(
    {"p50": 500, "p75": 750, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
)
"""Each percentile's share of all values, in thousandths: whole numbers, so that no rank is off by a rounding."""

assert tuple(PER_MILLE) == get_args(Percentile)


class Histogram:
    """Counts of values ≥ 0 (and of values that never came)."""

    def __init__(self, values: Iterable[int] = (), never: int = 0) -> None:
        self._counts: Counter[int] = Counter(map(highest_equivalent, seen := list(values)))
        self._min, self._max = min(seen, default=0), max(seen, default=0)
        self.never = never

    def __len__(self) -> int:
        """How many values, those that never came included."""
        return self._counts.total() + self.never

    def percentile(self, which: Percentile) -> int | None:
        """The smallest value that at least this share of all values does not exceed (nearest rank).

        None: that value never came. Needs at least one value.
        """
        assert len(self) > 0
        rank = max(1, -(-len(self) * PER_MILLE[which] // 1000))
        for value in sorted(self._counts):
            rank -= self._counts[value]
            if rank <= 0:
                return min(value, self._max)
        return None

    def summary_ms(self) -> dict[str, float]:
        """Minimum, the percentiles and maximum of nanoseconds, in milliseconds, of those that came at all."""
        if not self._counts:
            return {}
        came = Histogram()
        came._counts, came._max = self._counts, self._max
        named = {"min_ms": self._min} | {f"{p.replace('.', '_')}_ms": came.percentile(p) for p in get_args(Percentile)}
        return {name: round(value / 1e6, 3) for name, value in named.items() if value is not None}


def highest_equivalent(value: int) -> int:
    """The largest value of the bucket in which `value` is counted."""
    assert value >= 0
    shift = max(0, value.bit_length() - PRECISION_BITS)
    return (((value >> shift) + 1) << shift) - 1
