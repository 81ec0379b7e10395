"""Upper limits on percentiles of durations: how they are said, judged and shown. One place for all checks of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from midsession.core.sample import PER_MILLE, Percentile, Sample
from midsession.core.verdict import Status

Limits = Mapping[Percentile, float]
"""Percentile → at most so many seconds."""


def refuse_no_limits(limits: Limits) -> None:
    """Raises ValueError when there is nothing to keep, or when a higher percentile has the lower limit."""
    if not limits:
        raise ValueError(f"say what it is at most: some of {', '.join(PER_MILLE)}, like {{p99: 50ms}}")
    ordered = sorted(limits, key=PER_MILLE.__getitem__)
    for low, high in pairwise(ordered):
        if limits[low] > limits[high]:
            raise ValueError(f"{low} may be more than {high}: the limits contradict each other")


def said(limits: Limits) -> str:
    """`p50 at most 5 ms, p99 at most 50 ms`."""
    return ", ".join(f"{p} at most {seconds * 1e3:g} ms" for p, seconds in _ordered(limits))


def broken(limits: Limits, times: Sample) -> list[Percentile]:
    """The percentiles that are over their limits; what never came is over every limit."""
    return [p for p, seconds in _ordered(limits) if (t := times.percentile(p)) is None or t > round(seconds * 1e9)]


def shown(limits: Limits, times: Sample) -> str:
    """`p50 1.2 ms, p99 never, of 500`."""
    return ", ".join(f"{p} {_ms(times.percentile(p))}" for p, _ in _ordered(limits)) + f", of {len(times)}"


def status_of(limits: Limits, at_best: Sample, at_worst: Sample) -> Status:
    """What is broken even at best has failed; what is kept even at worst has passed; else nobody can tell.

    Without a single value it is inconclusive.
    """
    if len(at_best) and broken(limits, at_best):
        return Status.FAIL
    return Status.PASS if len(at_worst) and not broken(limits, at_worst) else Status.INCONCLUSIVE


def _ordered(limits: Limits) -> Sequence[tuple[Percentile, float]]:
    return sorted(limits.items(), key=lambda item: PER_MILLE[item[0]])


def _ms(t_ns: int | None) -> str:
    return "never" if t_ns is None else f"{t_ns / 1e6:.3f} ms"
