"""The pytest door: `pytest scenarios/` collects `*.scenario.yaml`, one item for each plan.

Installed plugins are imported into every pytest run of the environment, most of which have no scenario: this module
imports nothing but pytest, and what it needs when it meets a scenario. It patches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import asyncio

    from midsession.core.plan import Plan
    from midsession.door import Bench, Run

SUFFIX = ".scenario.yaml"
FAILURE_LINES = 25


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the group midsession."""
    group = parser.getgroup("midsession")
    group.addoption("--midsession-testbed", default="auto", help="what makes the hosts: auto, compose, docker, netns")
    group.addoption("--midsession-seed", type=int, default=None, help="the seed of all draws (default: a fresh one)")
    group.addoption("--midsession-runs", type=Path, default=Path("runs"), help="the folder for the runs' directories")


def pytest_configure(config: pytest.Config) -> None:
    """One marker for all: a scenario's tags are its arguments and the item's keywords, not markers of their own."""
    config.addinivalue_line("markers", "midsession(*tags): a scenario of Midsession, with its tags")


def pytest_report_header(config: pytest.Config) -> str | None:
    """The seed comes first, where one was given."""
    seed = config.getoption("--midsession-seed")
    return None if seed is None else f"midsession: seed {seed}"


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> pytest.Collector | None:
    """Scenario files, and nothing else."""
    if not file_path.name.endswith(SUFFIX):
        return None
    return ScenarioFile.from_parent(parent, path=file_path)


class ScenarioFile(pytest.File):
    """A scenario: one item for each combination of its matrix, `clients=50` or `plan` without a matrix."""

    def collect(self) -> Iterable[pytest.Item]:
        """Read it. What is wrong with it is a collection error, without a traceback."""
        from midsession import language
        from midsession.errors import ScenarioError
        from midsession.select import variant

        engine = _engine(self.config)
        try:
            plans = language.plans(_from_here(self.path), engine.seed)
        except ScenarioError as error:
            raise self.CollectError(str(error)) from None
        for plan in plans:
            name = f"{self.path.name.removesuffix(SUFFIX)}{variant(plan)}"
            item = ScenarioItem.from_parent(self, name=name, callobj=_Perform(engine, plan))
            item.add_marker(pytest.mark.midsession(*plan.tags))
            item.extra_keyword_matches.update(plan.tags)
            item.user_properties += [("seed", plan.seed), ("scenario", plan.source)]
            yield item


class ScenarioItem(pytest.Function):
    """One plan. A function item, so that fixtures, marks and other plugins treat it as any test."""

    def reportinfo(self) -> tuple[Path, int, str]:
        """The scenario's file stands where a Python test's file would."""
        return self.path, 0, self.name


def _from_here(path: Path) -> Path:
    """The path as a user would write it here, so that plans and replay commands do not name this machine's folders."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


class _Perform:
    """What an item calls: runs its plan and fails with what was seen."""

    def __init__(self, engine: _Engine, plan: Plan) -> None:
        self._engine, self._plan = engine, plan
        self.__name__ = plan.name

    def __call__(self) -> None:
        from midsession.errors import MidsessionError

        try:
            run = self._engine.perform(self._plan)
        except MidsessionError as error:
            pytest.fail(str(error), pytrace=False)
        if run.why_ended == "interrupted":
            raise KeyboardInterrupt
        if run.exit_code:
            pytest.fail("\n".join(failure_lines(run)), pytrace=False)


def failure_lines(run: Run) -> list[str]:
    """At most 25 lines: what was promised, where, what was seen, the records around it, and how to run it again."""
    from midsession.report.terminal import finding_lines

    bad = [finding for finding in run.view.findings if finding.status != "pass"]
    end = [f"run: {run.directory}", f"again: {run.view.head.replay}"]
    room = FAILURE_LINES - len(end) - 1
    lines = [f"{run.view.head.status}: {run.view.head.name} (seed {run.view.head.seed})"]
    for finding in bad:
        lines += [text.plain for text in finding_lines(finding, evidence=1)]
    if len(lines) > room:
        lines = [*lines[: room - 1], f"    … and {len(lines) - room + 1} lines more in the report"]
    return [*lines, *end]


class _Engine:
    """The testbeds of a pytest process, each made for the first scenario that needs it, and their event loop."""

    def __init__(self, config: pytest.Config) -> None:
        from midsession.select import fresh_seed

        seed = config.getoption("--midsession-seed")
        self.seed: int = fresh_seed() if seed is None else seed
        self._testbed: str = config.getoption("--midsession-testbed")
        self._runs: Path = config.getoption("--midsession-runs")
        self._benches: dict[str, Bench] = {}
        self._loop: asyncio.Runner | None = None

    def perform(self, plan: Plan) -> Run:
        """Run a plan on the testbed that serves it."""
        import asyncio

        from midsession.door import Bench
        from midsession.testbeds.registry import choose

        name = choose(self._testbed, [plan])
        if name not in self._benches:
            self._benches[name] = Bench.of(name, self._runs)
        self._loop = self._loop or asyncio.Runner()
        return self._loop.run(self._benches[name].perform(plan))

    def shut(self) -> None:
        """Let go of the testbeds."""
        if self._loop is not None:
            for bench in self._benches.values():
                self._loop.run(bench.shut())
            self._loop.close()


_ENGINE: Any = pytest.StashKey["_Engine"]()


def _engine(config: pytest.Config) -> _Engine:
    if _ENGINE not in config.stash:
        config.stash[_ENGINE] = _Engine(config)
    engine: _Engine = config.stash[_ENGINE]
    return engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The seed comes last, too."""
    if _ENGINE in config.stash:
        terminalreporter.write_line(f"midsession: seed {config.stash[_ENGINE].seed}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The end of the process: the testbed goes."""
    if _ENGINE in config.stash:
        config.stash[_ENGINE].shut()
