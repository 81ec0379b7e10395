"""A sample: exact percentiles by the nearest rank, and values that never came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midsession.core.sample import PER_MILLE, Percentile, Sample

VALUES = st.lists(st.integers(0, 10**15), min_size=1, max_size=300)


@given(VALUES)
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[int]) -> None:
    """And no smaller value is."""
    sample = Sample(values)
    for which, per_mille in PER_MILLE.items():
        told = sample.percentile(which)
        assert told in values
        assert sum(v <= told for v in values) * 1000 >= len(values) * per_mille
        assert sum(v < told for v in values) * 1000 < len(values) * per_mille
    assert sample.percentile("max") == max(values)


def test_a_limit_that_is_kept_by_a_hair_is_kept() -> None:
    """A bucket's upper end would be over it."""
    assert Sample([999_900_000, 999_900_000, 1_500_000_000]).percentile("p50") == 999_900_000


def test_what_never_came_stands_above_all_others() -> None:
    """Ten of a thousand that never came are the p99.9 and the maximum, but not the p99."""
    sample = Sample([5] * 990, never=10)
    wanted: dict[Percentile, int | None] = {"p50": 5, "p99": 5, "p99.9": None, "max": None}
    assert {which: sample.percentile(which) for which in wanted} == wanted
    assert len(sample) == 1000


def test_a_sample_of_nothing_has_no_summary() -> None:
    """And no length."""
    assert len(Sample()) == 0
    assert Sample(never=3).summary_ms() == {}
    assert Sample([2_000_000]).summary_ms()["p99_9_ms"] == 2.0
