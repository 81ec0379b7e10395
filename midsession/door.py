"""What every door (command line, pytest, Python) does with a plan: run it, judge it, write its reports.

The doors differ in how they choose plans and in how they tell what came of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midsession.core.faultless import has_faults, without_faults
from midsession.core.plan import Plan
from midsession.errors import Problem, ScenarioError
from midsession.keep import Keep
from midsession.ledger import cannot_write
from midsession.runner import Listener, run_plan
from midsession.seed import fresh_seed
from midsession.select import narrowed, select, variant
from midsession.testbeds import Testbed
from midsession.testbeds.registry import AUTO, choose, make, replay_command

if TYPE_CHECKING:
    from midsession.core.history import History, Selection
    from midsession.core.verdict import Finding, Verdict
    from midsession.report.model import View

INTERRUPTED = 2
IN_PYTHON = "(python)"
"""The file name, in plans and reports, of a scenario that stands in no file."""
RUNS = "runs"
"""The folder for the runs' directories, unless another is named."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over and judged. `view` is what its reports show.

    Its directory may be gone (see `kept_in`); what is asked of the run needs none.
    """

    directory: Path
    why_ended: str
    history: History
    verdict: Verdict
    view: View

    @property
    def plan(self) -> Plan:
        """What was run."""
        return self.history.plan

    @property
    def exit_code(self) -> int:
        """2 when it was interrupted, else the verdict's."""
        return INTERRUPTED if self.why_ended == "interrupted" else self.verdict.exit_code

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return self.exit_code == 0

    def explain(self) -> str:
        """What was not kept, where it stands, what was seen, and how to run it again: at most 25 lines."""
        from midsession.report.failure import failure_lines

        return "\n".join(failure_lines(self.view, self.kept_in))

    @property
    def own_findings(self) -> list[Finding]:
        """Those of the scenario's own checks, in its order."""
        return self.verdict.findings[: len(self.plan.checks)]

    @property
    def kept_in(self) -> str:
        """Where its files are; empty when they were not kept."""
        return str(self.directory) if self.directory.is_dir() else ""

    def events(self, *names: str) -> Selection:
        """The records of these events, see `History.events`."""
        return self.history.events(*names)


class Bench:
    """A testbed that serves one run after the other, on one event loop, and the folder for the runs' directories.

    `keep` says which of these stay.
    """

    def __init__(self, testbed: Testbed, runs: Path, keep: Keep = Keep.ALWAYS) -> None:
        self.testbed, self._runs, self._keep = testbed, runs, keep

    @staticmethod
    def of(name: str, runs: Path, plans: Iterable[Plan] = (), keep: Keep = Keep.ALWAYS) -> Bench:
        """A bench with a testbed by its name; `auto` is one that can serve `plans`. Raises ScenarioError."""
        return Bench(make(choose(name, plans)), runs, keep)

    async def perform(self, plan: Plan, listener: Listener | None = None) -> Run:
        """Run, judge, report.

        Raises EnvironmentLacks when the testbed cannot serve the plan, HarnessError when the disk takes no more.
        """
        result = await run_plan(
            plan, self.testbed, self._runs, listener, meanwhile=(_learn_to_report, _prepare_a_report)
        )
        try:
            run = judged(result.directory, result.why_ended, problems=result.problems)
            self._save_or_remove(run)
        except OSError as error:
            raise cannot_write(result.directory, error) from None
        finally:
            give_to_owner(result.directory, self._runs)
        return run

    def _save_or_remove(self, run: Run) -> None:
        if self._keep.wants(run.exit_code):
            save(run)
        else:
            shutil.rmtree(run.directory)

    async def shut(self) -> None:
        """Let go of the testbed."""
        await self.testbed.shut()


def _learn_to_report() -> None:
    """Import what reports are made with, so that it need not be done after the run."""
    from midsession.report import html, write  # noqa: F401 - imported to be there


def _prepare_a_report() -> None:
    """Have ready what takes a moment to be."""
    from midsession.report import html

    html.template()


async def rerun_without_faults(directory: Path, runs: Path) -> Run | None:
    """Run the plan of a stored run again, on its testbed, with nothing broken; None: it breaks nothing.

    Raises NotARun, EnvironmentLacks, OSError.
    """
    from midsession import rundir

    plan = rundir.read_plan(directory)
    mending = rundir.mending(plan)
    if not has_faults(plan, mending):
        return None
    harmless = without_faults(plan, mending)
    bench = Bench.of(str(rundir.read_run(directory).get("testbed") or AUTO), runs, [harmless])
    try:
        return await bench.perform(harmless)
    finally:
        await bench.shut()


def save(run: Run) -> None:
    """Write a run's verdict and its reports into its directory. Raises OSError."""
    from midsession import rundir
    from midsession.report.write import write_reports

    rundir.write_verdict(run.directory, run.verdict)
    write_reports(run.directory, run.view)


def judged(directory: Path, why_ended: str = "", checks: Path | None = None, problems: Sequence[str] = ()) -> Run:
    """Judge a stored run, by the checks of another file where one is named; writes nothing.

    `problems` as of `rundir.judge_run`. Raises NotARun, and ScenarioError for a file of checks that cannot be used.
    """
    from midsession import rundir
    from midsession.report.model import view

    history = rundir.read_history(directory)
    if checks is not None:
        from midsession.language import read_checks

        history = history.with_checks(read_checks(checks, history.plan))
    info = rundir.read_run(directory)
    verdict = rundir.judge_run(directory, history, problems)
    shown = view(history, verdict, info, replay_of(history.plan, info))
    return Run(directory, why_ended or str(info.get("why_ended", "")), history, verdict, shown)


def replay_of(plan: Plan, info: Mapping[str, Any]) -> str:
    """The command that runs a plan again on the testbed that it ran on; empty for a scenario that is in no file."""
    if Path(plan.source).name == IN_PYTHON:
        return ""
    runs = str(info.get("runs", RUNS))
    testbed = str(info.get("testbed", ""))
    fleets = [host for host in info.get("hosts", {}).values() if host.get("role") == "clients"]
    return replay_command(testbed, plan.source, plan.seed, variant(plan), "" if runs == RUNS else runs, len(fleets))


def give_to_owner(directory: Path, runs: Path) -> None:
    """Give a run that root wrote to whoever owns the folder of runs: in a container, that is the user outside."""
    owner = runs.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for parent, folders, files in os.walk(directory):
        for name in ("", *folders, *files):
            os.chown(Path(parent, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


Given = str | os.PathLike[str] | Mapping[str, Any]
"""A scenario: the path of its file, or the same in Python objects."""


def run(
    scenario: Given,
    *,
    testbed: str = AUTO,
    seed: int | None = None,
    runs: str | os.PathLike[str] = RUNS,
    keep: str = Keep.ALWAYS,
    keyword: str = "",
    listener: Listener | None = None,
) -> Run:
    """Run one scenario and return what came of it. Not for use inside a running event loop.

    `scenario` is a path, or a mapping with the keys and values of a scenario file. `keyword` picks one combination of
    a matrix (`"[clients=50]"`); `seed` None: a fresh one; `keep` says whether the run's directory stays: `always`,
    `on-failure`, `never`. Raises ScenarioError for a scenario that cannot be used or is not one plan, NothingSelected
    for a keyword that fits none, EnvironmentLacks when this machine cannot run it.
    """
    plan = one_plan(scenario, fresh_seed() if seed is None else seed, keyword)
    return asyncio.run(_run_one(Bench.of(testbed, Path(runs), [plan], Keep(keep)), plan, listener))


def one_plan(scenario: Given, seed: int, keyword: str = "", folder: Path | None = None) -> Plan:
    """The one plan of a scenario. Paths are relative to `folder` (None: to here). Raises ScenarioError."""
    if isinstance(scenario, Mapping):
        from midsession.language import load_objects

        plans = narrowed([load_objects(scenario, (folder or Path()) / IN_PYTHON)], keyword).plans(seed)
    else:
        plans = select([folder / scenario if folder else Path(scenario)], keyword).plans(seed)
    if len(plans) != 1:
        found = ", ".join(variant(p) or p.source for p in plans)
        message = f"{plans[0].source} must give one plan, not {len(plans)} ({found})"
        raise ScenarioError([Problem(message, "not-one-plan", remedy="pick one with keyword=")])
    return plans[0]


async def _run_one(bench: Bench, plan: Plan, listener: Listener | None) -> Run:
    try:
        return await bench.perform(plan, listener)
    finally:
        await bench.shut()
