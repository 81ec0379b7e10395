"""The tests' own patience: what it returns, and what it says when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.fakes import FakeClock, run_on
from tests.waiting import eventually, eventually_here, stays_so


def _third(seen: list[int]) -> Callable[[], str]:
    def look() -> str:
        seen.append(len(seen))
        return "here" if len(seen) == 3 else ""

    return look


def test_what_was_looked_for_is_returned_as_soon_as_it_is_there() -> None:
    """And looked for no more."""
    seen: list[int] = []
    assert eventually(_third(seen), 10, "a third look", pause_s=0) == "here"
    assert len(seen) == 3


def test_what_does_not_come_is_named_with_what_was_seen_last() -> None:
    """Whoever reads the failure knows what was waited for, and for how long."""
    with pytest.raises(AssertionError, match="the moon: not within 0 s; last seen ''"):
        eventually(lambda: "", 0, "the moon")


def test_on_a_loop_the_loops_clock_counts() -> None:
    """A minute of a fake clock takes no time; the same words when it is over."""

    async def main() -> None:
        seen: list[int] = []
        assert await eventually_here(_third(seen), 60, "a third look") == "here"
        await eventually_here(lambda: 0, 60, "the moon")

    with pytest.raises(AssertionError, match="the moon: not within 60 s; last seen 0"):
        run_on(FakeClock(), main())
    with pytest.raises(AssertionError, match="the moon"):
        asyncio.run(eventually_here(lambda: 0, 0, "the moon"))


def test_what_is_to_stay_so_is_looked_at_until_the_time_is_over() -> None:
    """And the moment that it does not hold is the end."""
    seen: list[int] = []

    async def main() -> None:
        await stays_so(lambda: len(seen) == 0, 60, "nothing seen")
        asyncio.get_running_loop().call_later(30, seen.append, 1)
        await stays_so(lambda: len(seen) == 0, 60, "nothing seen")

    with pytest.raises(AssertionError, match="nothing seen: not for 60 s"):
        run_on(FakeClock(), main())
    assert seen == [1]
