"""A sample of durations and its percentiles, exact: a limit that is kept by a hair must not be told as broken.

(A histogram with buckets, as HdrHistogram's, bounds the memory at the price of a thousandth; a run's replies fit into
memory anyway.) Values that never came, like a reply that did not arrive, are counted too, above all others: leaving
them out would flatter.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, get_args

Percentile = Literal["p50", "p75", "p90", "p95", "p99", "p99.9", "max"]

PER_MILLE: Mapping[str, int] = MappingProxyType(
    {"p50": 500, "p75": 750, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
)
"""Each percentile's share of all values, in thousandths: whole numbers, so that no rank is off by a rounding."""

assert tuple(PER_MILLE) == get_args(Percentile)


class Sample:
    """Whole numbers of less than 64 bits, and how many `never` came."""

    def __init__(self, values: Iterable[int] = (), never: int = 0) -> None:
        self._ordered = array("q", sorted(values))
        self.never = never

    def __len__(self) -> int:
        """How many values, those that never came included."""
        return len(self._ordered) + self.never

    def percentile(self, which: Percentile) -> int | None:
        """The smallest value that at least this share of all values does not exceed (nearest rank).

        None: that value never came. Needs at least one value.
        """
        assert len(self) > 0
        rank = max(1, -(-len(self) * PER_MILLE[which] // 1000))
        return self._ordered[rank - 1] if rank <= len(self._ordered) else None

    def summary_ms(self) -> dict[str, float]:
        """Minimum, the percentiles and maximum of nanoseconds, in milliseconds, of those that came at all."""
        if not self._ordered:
            return {}
        came = Sample(self._ordered)
        named = {"min_ms": self._ordered[0]}
        named |= {f"{p.replace('.', '_')}_ms": came.percentile(p) or 0 for p in get_args(Percentile)}
        return {name: round(value / 1e6, 3) for name, value in named.items()}
