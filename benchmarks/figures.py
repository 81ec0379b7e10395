"""Samples and how they are shown: each figure as a median with its spread, over interleaved rounds.

A noise probe (a bare Python, started and ended) runs beside the rounds: absolute times mean little on a shared machine,
the ratio to the probe a little more.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence


class Figures:
    """Samples by name, and their line in the table."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """One sample; the name says what of, and its unit."""
        self._samples[name].append(value)

    def show(self) -> None:
        """Median, spread, and the tail where there are enough samples to have one."""
        for name, samples in self._samples.items():
            p10, p50, p90, p99 = (percentile(samples, share) for share in (0.1, 0.5, 0.9, 0.99))
            tail = f"   p99 {p99:.2f}, max {max(samples):.2f}" if len(samples) >= 100 else ""
            sys.stdout.write(f"{name:<62} {p50:9.2f}   ({p10:.2f} to {p90:.2f}, n={len(samples)}){tail}\n")


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def timed(work: Callable[[], object]) -> float:
    """How many milliseconds it takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def probe(figures: Figures) -> None:
    """A bare Python, started and ended."""
    figures.add(
        "noise probe: python -c pass, ms", timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    )
