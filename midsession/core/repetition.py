"""Repeating a run: the seed of each repetition, and what a few of them prove about all.

One run answers whether a promise was kept once. Some races are lost one time in fifty; their scenario is neither green
nor red but flaky, and how flaky is a rate with an interval, not a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from midsession.core.plan import substream
from midsession.core.verdict import Status, worst

FLAKY = "flaky"
Z_95 = 1.959963984540054
"""The standard normal deviate that 2.5 % lie above."""


def repetition_seed(base: int, number: int) -> int:
    """The seed of the repetition `number`, counted from 1: the base seed itself, then 32 bits of SHA-256 each.

    So the first repetition is the run that would have been made without repeating, and every repetition is a run of
    its own that its seed alone makes again.
    """
    return base if number == 1 else int(substream(base, "repetition", str(number))[:8], 16)


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The score interval of a binomial proportion: low and high, within 0 and 1. No trial: it may be anything.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212. Unlike
    the textbook's ±z·√(pq/n), it holds its 95 % with few trials, and 20 of 20 does not come out as certainty.
    """
    if not trials:
        return 0.0, 1.0
    share, weight = successes / trials, z * z / trials
    centre = share + weight / 2
    reach = z * sqrt(share * (1 - share) / trials + weight / (4 * trials))
    low, high = ((centre - reach) / (1 + weight), (centre + reach) / (1 + weight))
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of the repetitions of one plan: how often each status."""

    counts: Counter[Status]

    @staticmethod
    def of(statuses: Iterable[Status]) -> Tally:
        """Count them."""
        return Tally(Counter(statuses))

    @property
    def trials(self) -> int:
        """How many repetitions were decided: passed or failed. The others say nothing about the service."""
        return self.counts[Status.PASS] + self.counts[Status.FAIL]

    @property
    def passed(self) -> int:
        """How many passed."""
        return self.counts[Status.PASS]

    @property
    def rate(self) -> float | None:
        """The share that passed, of those that were decided; None when none was."""
        return self.passed / self.trials if self.trials else None

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % interval of the rate."""
        return wilson(self.passed, self.trials)

    @property
    def is_flaky(self) -> bool:
        """Whether some passed and some failed."""
        return 0 < self.passed < self.trials

    @property
    def word(self) -> str:
        """The worst status, as in a verdict; but `flaky` in place of `fail` where some passed."""
        status = worst(self.counts.elements())
        return FLAKY if status is Status.FAIL and self.is_flaky else str(status)
