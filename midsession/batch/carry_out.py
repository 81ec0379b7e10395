"""A batch from its first run to its reports: performed here or in workers, told as it goes, ended well by Ctrl-C."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from midsession.batch.schedule import Batch, Bounds, Perform, Repetition
from midsession.batch.told import perform, perform_unseen
from midsession.batch.workers import Order, Workers
from midsession.core.repetition import repetition_seed
from midsession.door import give_to_owner
from midsession.errors import Problem, ScenarioError
from midsession.interrupts import heard
from midsession.keep import Keep
from midsession.leave import leave
from midsession.ledger import cannot_write
from midsession.report.paint import Out
from midsession.report.text import visible
from midsession.select import Selected
from midsession.testbeds.registry import TESTBEDS, choose

if TYPE_CHECKING:
    from midsession.report.batch import BatchView

JSON = "batch.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command asks for: how often, how many at once, where, and what stays of them."""

    seed: int
    bounds: Bounds
    jobs: int
    testbed: str
    runs: Path
    keep: Keep


async def carry_out(selected: Selected, wanted: Wanted, out: Out, err: Out) -> int:
    """Run all of it; the exit code of the worst. Raises ScenarioError for a testbed that serves one run at a time."""
    batch_of = _BatchOf(selected, wanted, out, err)
    await (batch_of.in_workers() if wanted.jobs > 1 else batch_of.here())
    return batch_of.finish()


class _BatchOf:
    """One command's batch, and how it is told."""

    def __init__(self, selected: Selected, wanted: Wanted, out: Out, err: Out) -> None:
        self._wanted, self._out, self._err = wanted, out, err
        self._bounds = wanted.bounds
        first = selected.plans(wanted.seed)
        self._order = Order(choose(wanted.testbed, first), str(wanted.runs), wanted.keep)
        self._batch = Batch(first, lambda n: selected.plans(repetition_seed(wanted.seed, n)), self._bounds, self._tell)
        self._wide = max(len(visible(plan)) for plan in self._batch.series)

    async def here(self) -> None:
        """One run after the other in this process: told live, unless it is repeated."""
        bench = self._order.bench()
        quietly: Perform = lambda plan: perform_unseen(bench, plan)  # noqa: E731 - one of two
        live: Perform = lambda plan: perform(bench, plan, self._out)  # noqa: E731 - one of two
        with heard(self._stop_here) as interrupts:
            try:
                await self._batch.run_all(quietly if self._bounds.repeats else live)
            finally:
                await bench.shut()
            interrupts.obeyed()

    def _stop_here(self) -> None:
        """Between two runs: no further one. The second time there is nothing left to wait for."""
        if self._batch.interrupted:
            leave()
        self._batch.stop()

    async def in_workers(self) -> None:
        """As many at once as there are jobs."""
        _refuse_single(self._order.testbed)
        workers = Workers(self._order)

        def stop() -> None:
            self._batch.stop()
            workers.interrupt()

        with heard(stop) as interrupts:
            try:
                await self._batch.run_all(workers.perform, self._wanted.jobs)
            finally:
                await workers.shut()
            interrupts.obeyed()

    def finish(self) -> int:
        """Sum up, write the reports; of a single run there is nothing to sum up. Raises HarnessError where
        no reports can be written: what was found is told all the same."""
        batch, repeats = self._batch, self._bounds.repeats
        if repeats or len(batch.series) > 1:
            from midsession.report.batch import BatchView, tell_batch

            view = BatchView(list(batch.series.values()), self._wanted.seed, repeats, batch.interrupted)
            try:
                directory = str(_write_reports(view, self._wanted.runs))
            except OSError as error:
                tell_batch(self._out, view, "")
                raise cannot_write(self._wanted.runs, error) from None
            tell_batch(self._out, view, directory)
        return batch.exit_code

    def _tell(self, repetition: Repetition) -> None:
        """Tell what has not been told live: in full; of repetitions one line, and the first that did not pass."""
        told = repetition.told
        if self._bounds.repeats:
            from midsession.report.batch import repetition_line

            self._out.print(repetition_line(repetition, self._wide))
        if told.account and not (self._bounds.repeats and self._has_told_why(repetition)):
            self._out.write(told.account)
        if told.error:
            self._err.write("".join(f"{visible(text)}\n" for text in told.error.split("\n")))

    def _has_told_why(self, repetition: Repetition) -> bool:
        return repetition.told.exit_code == 0 or self._batch.series[repetition.plan].first_bad is not None


def _refuse_single(testbed: str) -> None:
    if not TESTBEDS[testbed].many:
        message = f"the testbed {testbed} serves one run at a time"
        raise ScenarioError([Problem(message, "one-at-a-time", remedy="leave out -n, or take another testbed")])


def _write_reports(view: BatchView, runs: Path) -> Path:
    """Write `<runs>/<YYYYmmdd-HHMMSS>-batch-<id>/`, and return it. Raises OSError."""
    from midsession.report import batch as report
    from midsession.rundir import JUNIT, SUMMARY, write_whole

    directory = runs / f"{datetime.now():%Y%m%d-%H%M%S}-batch-{os.urandom(4).hex()}"
    directory.mkdir(parents=True)
    write_whole(directory / SUMMARY, report.markdown(view).encode())
    write_whole(directory / JUNIT, report.junit(view).encode())
    write_whole(directory / JSON, report.to_json(view))
    give_to_owner(directory, runs)
    return directory
