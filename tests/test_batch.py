"""A batch runs what it was asked to, no more, and tells of it in order, whatever ends first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from midsession.batch.schedule import UNTIL_FAIL_AT_MOST, Batch, Bounds, Repetition
from midsession.batch.told import Told
from midsession.core.plan import Plan
from midsession.keep import Keep
from tests.build import World
from tests.report.batches import CODES


class Steps:
    """A clock that moves by one second whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Performer:
    """Performs a plan by looking up its word: the n-th of its plan, the last one again and again."""

    def __init__(self, words: dict[str, str]) -> None:
        self._words = {name: text.split() for name, text in words.items()}
        self.made: list[tuple[str, int]] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, plan: Plan) -> Told:
        number = sum(name == plan.source for name, _ in self.made)
        self.made.append((plan.source, plan.seed))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for _ in range(10 if plan.source == "slow" else 1):
            await asyncio.get_running_loop().run_in_executor(None, int)
        self.at_once -= 1
        word = self._words[plan.source][min(number, len(self._words[plan.source]) - 1)]
        error = "it lacks" if word == "lacks" else ""
        return Told(word, CODES[word], plan.seed, error=error, account=f"{plan.source} {plan.seed}\n")


def plans(names: Iterable[str], seed: int) -> list[Plan]:
    return [msgspec.structs.replace(World(talkers=1).plan, source=name, seed=seed) for name in names]


def run(words: dict[str, str], bounds: Bounds, jobs: int = 1) -> tuple[Batch, Performer, list[Repetition]]:
    told: list[Repetition] = []
    batch = Batch(plans(words, 1), lambda number: plans(words, number), bounds, told.append, Steps())
    performer = Performer(words)
    asyncio.run(batch.run_all(performer, jobs))
    return batch, performer, told


@pytest.mark.parametrize(
    ("bounds", "words", "made"),
    [
        (Bounds(), {"a": "pass", "b": "fail"}, ["a1", "b1"]),
        (Bounds(repeat=2), {"a": "pass", "b": "fail"}, ["a1", "b1", "a2", "b2"]),
        (Bounds(until_fail=True), {"a": "pass pass fail"}, ["a1", "a2", "a3"]),
        (Bounds(until_fail=True), {"a": "pass", "b": "pass inconclusive"}, ["a1", "b1", "a2", "b2"]),
        (Bounds(repeat=2, until_fail=True), {"a": "pass pass fail"}, ["a1", "a2"]),
        (Bounds(for_s=2.5), {"a": "fail"}, ["a1", "a2", "a3"]),
        (Bounds(for_s=0.0), {"a": "pass"}, ["a1"]),
        (Bounds(repeat=9, for_s=1.5), {"a": "pass"}, ["a1", "a2"]),
        (Bounds(repeat=3), {"a": "pass lacks", "b": "pass"}, ["a1", "b1", "a2", "b2", "b3"]),
        (Bounds(repeat=9), {"a": "lacks"}, ["a1"]),
        (Bounds(repeat=3), {"a": "pass interrupted", "b": "pass"}, ["a1", "b1", "a2"]),
    ],
)
def test_the_bounds_are_kept(bounds: Bounds, words: dict[str, str], made: list[str]) -> None:
    """Round by round; a plan that cannot be run is not tried again, and an interrupt is the end."""
    assert [f"{name}{seed}" for name, seed in run(words, bounds)[1].made] == made


def test_until_fail_alone_ends_too() -> None:
    """A service without a failure does not hold a machine for ever."""
    assert len(run({"a": "pass"}, Bounds(until_fail=True))[1].made) == UNTIL_FAIL_AT_MOST


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"a": "pass"}, 0),
        ({"a": "pass fail pass"}, 1),
        ({"a": "pass inconclusive"}, 11),
        ({"a": "fail", "b": "lacks"}, 1),
        ({"a": "inconclusive", "b": "lacks"}, 10),
        ({"a": "fail error"}, 3),
        ({"a": "error interrupted"}, 2),
    ],
)
def test_the_worst_run_is_the_exit_code(words: dict[str, str], code: int) -> None:
    """Flaky is a failure."""
    assert run(words, Bounds(repeat=3))[0].exit_code == code


def test_what_ends_first_is_told_in_its_turn() -> None:
    """Several at once, as many as there are jobs; the order of the account is that of the plans."""
    _, performer, told = run({"slow": "pass", "a": "pass", "b": "pass"}, Bounds(repeat=2), jobs=2)
    assert performer.most_at_once == 2
    assert [(r.plan, r.number) for r in told] == [(name, number) for number in (1, 2) for name in ("slow", "a", "b")]
    assert [r.told.account for r in told][:2] == ["slow 1\n", "a 1\n"]


def test_what_was_told_is_not_kept() -> None:
    """Of thousands of runs only their words stay in memory."""
    batch, _, _ = run({"a": "pass"}, Bounds(repeat=3))
    assert [r.told.account for r in batch.series["a"].repetitions] == ["", "", ""]


def test_stopped_before_its_end_a_batch_is_interrupted() -> None:
    """Also when no run was under way."""
    batch, performer, _ = run({"a": "pass"}, Bounds())
    batch.stop()
    asyncio.run(batch.run_all(performer))
    assert performer.made == [("a", 1)]
    assert batch.exit_code == 2


@pytest.mark.parametrize(("keep", "stays"), [(Keep.ALWAYS, (0, 1, 11)), (Keep.ON_FAILURE, (1, 11)), (Keep.NEVER, ())])
def test_keep_says_which_directories_stay(keep: Keep, stays: tuple[int, ...]) -> None:
    """On failure is: on anything that is no pass."""
    assert tuple(code for code in (0, 1, 11) if keep.wants(code)) == stays
