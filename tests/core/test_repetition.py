"""Rates are told with the interval that few runs allow, and each repetition can be made again."""

from __future__ import annotations

import pytest

from midsession.core.repetition import Tally, repetition_seed, wilson
from midsession.core.verdict import Status

PASS, FAIL, INCONCLUSIVE, ERROR = Status.PASS, Status.FAIL, Status.INCONCLUSIVE, Status.ERROR


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    """The worked examples of R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_is_the_same_seen_from_the_failures() -> None:
    """And always holds the rate, within 0 and 1; all of any number is no certainty."""
    tried = [(s, n) for n in (1, 2, 10, 1000) for s in range(0, n + 1, max(1, n // 10))]
    assert len(tried) > 20
    for successes, trials in tried:
        low, high = wilson(successes, trials)
        assert 0 <= low <= successes / trials <= high <= 1
        assert low < high
        assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("statuses", "word", "trials", "rate"),
    [
        ([PASS, PASS], "pass", 2, 1.0),
        ([PASS, FAIL, PASS, PASS], "flaky", 4, 0.75),
        ([FAIL, FAIL], "fail", 2, 0.0),
        ([PASS, INCONCLUSIVE], "inconclusive", 1, 1.0),
        ([PASS, FAIL, INCONCLUSIVE], "flaky", 2, 0.5),
        ([PASS, FAIL, ERROR], "error", 2, 0.5),
        ([INCONCLUSIVE], "inconclusive", 0, None),
        ([], "inconclusive", 0, None),
    ],
)
def test_the_worst_word_wins_and_only_what_was_decided_counts(
    statuses: list[Status], word: str, trials: int, rate: float | None
) -> None:
    """Flaky takes the place of fail, never that of error; an inconclusive run is neither for nor against."""
    tally = Tally.of(statuses)
    assert (tally.word, tally.trials, tally.rate) == (word, trials, rate)


def test_each_repetition_has_a_seed_of_its_own() -> None:
    """The first has the base seed; all are 32 bits, different, and the same every time."""
    seeds = [repetition_seed(7, number) for number in range(1, 1001)]
    assert seeds[:3] == [7, 3422726450, 1650542898]
    assert len(set(seeds)) == 1000
    assert max(seeds) < 2**32
    assert seeds[1] != repetition_seed(8, 2)
