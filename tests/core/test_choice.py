"""Whom a step hits, where the seed chooses."""

from __future__ import annotations

from itertools import combinations

import pytest

from midsession.core.choice import LEAST, SIZES, choose

FIVE = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("how", "sizes"),
    [
        ("one", [1, 1, 1, 1, 1]),
        ("minority", [1, 1, 2, 2, 3]),
        ("majority", [2, 3, 3, 4, 4]),
        ("all", [3, 4, 5, 6, 7]),
    ],
)
def test_how_many_of_three_to_seven(how: str, sizes: list[int]) -> None:
    """A minority is less than half, a majority more, and neither is larger or smaller than it must be."""
    assert [SIZES[how](count) for count in range(3, 8)] == sizes


def test_nobody_is_never_chosen() -> None:
    """The least that there must be to choose from gives somebody, and one less does not."""
    assert LEAST.keys() == SIZES.keys()
    assert {how: SIZES[how](least) for how, least in LEAST.items()} == dict.fromkeys(SIZES, 1)
    assert SIZES["minority"](LEAST["minority"] - 1) == 0


def test_every_choice_can_be_drawn_and_keeps_the_order() -> None:
    """Ten pairs of five: in 300 draws each comes, about as often as the others, and never as (b, a)."""
    drawn = [tuple(choose("minority", FIVE, str(seed))) for seed in range(300)]
    counts = {pair: drawn.count(pair) for pair in combinations(FIVE, 2)}
    assert sum(counts.values()) == 300
    assert min(counts.values()) > 10


def test_a_choice_is_a_function_of_its_key() -> None:
    """The same key chooses the same, another may not."""
    assert choose("majority", FIVE, "k") == choose("majority", FIVE, "k")
    assert len({tuple(choose("one", FIVE, str(seed))) for seed in range(40)}) == 5
