"""Whom a step hits, where the scenario leaves that to the seed: `{one: talkers}`, `{minority: [a, b, c]}`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from midsession.core.plan import draw

SIZES: Mapping[str, Callable[[int], int]] = {
    "one": lambda count: 1,
    "minority": lambda count: (count - 1) // 2,
    "majority": lambda count: count // 2 + 1,
    "all": lambda count: count,
}
"""How many of so many are chosen. A minority is the largest number that is less than half."""

LEAST = {"one": 1, "minority": 3, "majority": 1, "all": 1}
"""How many there must be to choose from: less than half of two is nobody."""


def choose(how: str, among: Sequence[str], key: str) -> list[str]:
    """That many of them, each subset as likely as any other, in the order in which they were named."""
    positions = shuffled(len(among), key)[: SIZES[how](len(among))]
    return [among[at] for at in sorted(positions)]


def shuffled(count: int, key: str) -> list[int]:
    """The numbers below `count`, in an order that is drawn (Fisher-Yates)."""
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(draw(key, last) * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order
