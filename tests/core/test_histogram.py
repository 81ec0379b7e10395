"""The histogram: exact ranks, a bounded error that never flatters, and values that never came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midsession.core.histogram import PER_MILLE, Histogram, Percentile, highest_equivalent

VALUES = st.lists(st.integers(0, 10**15), min_size=1, max_size=300)


@given(VALUES)
def test_a_percentile_is_at_most_a_thousandth_above_the_true_one_and_never_below(values: list[int]) -> None:
    """Beside the nearest rank in the sorted list."""
    histogram, ordered = Histogram(values), sorted(values)
    for which, per_mille in PER_MILLE.items():
        true = ordered[max(1, -(-len(values) * per_mille // 1000)) - 1]
        told = histogram.percentile(which)
        assert told is not None
        assert true <= told <= true * (1 + 1 / 1000)
    assert histogram.percentile("max") == ordered[-1]


@given(st.integers(0, 2**60))
def test_small_values_are_exact_and_the_ends_of_buckets_stay_themselves(value: int) -> None:
    """Adding a bucket's end again lands in the same bucket."""
    top = highest_equivalent(value)
    assert top >= value
    assert highest_equivalent(top) == top
    assert value >= 2048 or top == value


def test_what_never_came_stands_above_all_others() -> None:
    """Ten of a thousand that never came are the p99.9 and the maximum, but not the p99."""
    histogram = Histogram([5] * 990, never=10)
    wanted: dict[Percentile, int | None] = {"p50": 5, "p99": 5, "p99.9": None, "max": None}
    assert {which: histogram.percentile(which) for which in wanted} == wanted
    assert len(histogram) == 1000


def test_a_histogram_of_nothing_has_no_summary() -> None:
    """And no length."""
    assert len(Histogram()) == 0
    assert Histogram(never=3).summary_ms() == {}
    assert Histogram([2_000_000]).summary_ms()["p99_9_ms"] == 2.0
