"""Which run comes next, when it is enough, and what came of each plan.

Knows nothing of how a run is performed (here, or in a worker process) or told. The order is round by round: the first
repetition of every plan, then the second of every plan; so a bound in time cuts all of them alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf

from midsession.batch.told import STOPPED, Told
from midsession.core.plan import Plan
from midsession.core.repetition import Tally
from midsession.core.verdict import Status
from midsession.select import plan_id

UNTIL_FAIL_AT_MOST = 1000
"""How often `--until-fail` repeats without another bound."""

NOT_RUN = "not run"
"""The word for a plan whose turn never came."""

SEVERITY = (2, 3, 4, 1, 10, 11, 0)
"""Exit codes from worst to best (interrupted, error, unusable, failed, lacking, inconclusive, pass): a batch has its
worst."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often the plans are run: `repeat` times, until one does not pass, or as long as a run begins within `for_s`
    seconds (but each plan once). Without any of them: once."""

    repeat: int | None = None
    until_fail: bool = False
    for_s: float = inf

    @property
    def repeats(self) -> bool:
        """Whether rates are asked for."""
        return self.until_fail or self.repeat is not None or self.for_s < inf

    @property
    def rounds(self) -> float:
        """How many rounds at most."""
        if self.repeat is not None:
            return self.repeat
        if self.for_s < inf:
            return inf
        return UNTIL_FAIL_AT_MOST if self.until_fail else 1


@dataclass(frozen=True, slots=True)
class Repetition:
    """One run of a batch: of which plan, which repetition, and what came of it."""

    plan: str
    name: str
    number: int
    told: Told


@dataclass(slots=True)
class Series:
    """All repetitions of one plan."""

    plan: str
    name: str
    repetitions: list[Repetition] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """Those with a verdict, counted."""
        return Tally.of(Status(r.told.word) for r in self.repetitions if r.told.word in set(Status))

    @property
    def word(self) -> str:
        """What came of the plan: the tally's word, or why there is none."""
        words = {r.told.word for r in self.repetitions} - set(Status) - {STOPPED}
        if not self.tally.counts and not words:
            return STOPPED if self.repetitions else NOT_RUN
        return words.pop() if words else self.tally.word

    @property
    def first_bad(self) -> Repetition | None:
        """The first repetition that failed, else the first that did not pass (but for an interrupt)."""
        bad = [r for r in self.repetitions if r.told.exit_code and r.told.word != STOPPED]
        return next((r for r in bad if r.told.word == Status.FAIL), bad[0] if bad else None)


Perform = Callable[[Plan], Awaitable[Told]]
"""Runs a plan, here or elsewhere. Does not raise what a user can mend."""


class Batch:
    """A batch under way. `plans` are those of the first round; `plans_of` gives the same with other seeds for the
    rounds from 2 on.

    `tell` is called with each repetition in the order of the schedule, whatever the order in which they end.
    """

    def __init__(
        self,
        plans: list[Plan],
        plans_of: Callable[[int], list[Plan]],
        bounds: Bounds,
        tell: Callable[[Repetition], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds, self._tell, self._clock = bounds, tell, clock
        self._first, self._further = plans, plans_of
        self.series = {plan_id(plan): Series(plan_id(plan), plan.name) for plan in plans}
        self.interrupted = False
        self._hopeless: set[str] = set()
        self._over = False
        self._ended: dict[int, Repetition] = {}
        self._told = 0

    @property
    def exit_code(self) -> int:
        """The worst of all runs; interrupted when it was stopped before one was made."""
        codes = [r.told.exit_code for series in self.series.values() for r in series.repetitions]
        return min([*codes, *([SEVERITY[0]] if self.interrupted else [])], key=SEVERITY.index)

    def stop(self) -> None:
        """Begin no further run."""
        self._over = self.interrupted = True

    async def run_all(self, perform: Perform, at_once: int = 1) -> None:
        """Perform until it is enough, `at_once` runs beside each other."""
        schedule = enumerate(self._schedule())
        await asyncio.gather(*(self._work(schedule, perform) for _ in range(at_once)))

    async def _work(self, schedule: Iterator[tuple[int, tuple[Plan, int]]], perform: Perform) -> None:
        for index, (plan, number) in schedule:
            self._take(index, Repetition(plan_id(plan), plan.name, number, await perform(plan)))

    def _schedule(self) -> Iterator[tuple[Plan, int]]:
        begun, number = self._clock(), 1
        while number <= self._bounds.rounds and len(self._hopeless) < len(self.series):
            for plan in self._first if number == 1 else self._further(number):
                if self._over or (number > 1 and self._clock() - begun >= self._bounds.for_s):
                    return
                if plan_id(plan) not in self._hopeless:
                    yield plan, number
            number += 1

    def _take(self, index: int, repetition: Repetition) -> None:
        """Note what came of a run, and tell of all whose turn it is."""
        told = repetition.told
        if told.error:
            self._hopeless.add(repetition.plan)  # the next one would find the same machine, the same disk
        if told.word == STOPPED:
            self.stop()
        self._over |= self._bounds.until_fail and told.exit_code != 0
        self._ended[index] = repetition
        while self._told in self._ended:
            due = self._ended.pop(self._told)
            self._told += 1
            self._tell(due)
            self.series[due.plan].repetitions.append(replace(due, told=replace(due.told, account="")))
