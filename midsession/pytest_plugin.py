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
    from midsession.core.plan import Plan
    from midsession.door import Given, Run
    from midsession.pytest_engine import Engine

SUFFIX = ".scenario.yaml"
KEEP = ["always", "on-failure", "never"]
"""The words of `midsession.keep`, which is not imported for them."""
SEED = "midsession_seed"
"""How pytest-xdist's controller hands its workers the seed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the group midsession."""
    group = parser.getgroup("midsession")
    group.addoption("--midsession-testbed", default="auto", help="what makes the hosts: see `midsession run --help`")
    group.addoption("--midsession-seed", type=int, default=None, help="the seed of all draws (default: a fresh one)")
    group.addoption(
        "--midsession-keep",
        choices=KEEP,
        default=KEEP[0],
        help="which runs' directories stay; on-failure: those of runs that did not pass (default: %(default)s)",
    )
    group.addoption("--midsession-runs", type=Path, default=Path("runs"), help="the folder for the runs' directories")


def pytest_configure(config: pytest.Config) -> None:
    """The marker that all scenarios have; their tags are registered when they are met."""
    config.addinivalue_line("markers", "midsession(*tags): a scenario of Midsession, with its tags")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The workers of pytest-xdist draw from one seed."""
    node.workerinput[SEED] = _seed(node.config)


def _seed(config: pytest.Config) -> int:
    """The seed that was given, else a fresh one for all processes of this session."""
    given: int | None = config.getoption("--midsession-seed")
    if given is not None:
        return given
    if hasattr(config, "workerinput"):
        handed: int = config.workerinput[SEED]
        return handed
    if _FRESH not in config.stash:
        from midsession.seed import fresh_seed

        config.stash[_FRESH] = fresh_seed()
    fresh: int = config.stash[_FRESH]
    return fresh


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
            _mark(item, plan.tags)
            item.extra_keyword_matches.update(f"{key}:{value}" for key, value in plan.matrix.items())
            item.user_properties += [("seed", plan.seed), ("scenario", plan.source)]
            yield item


def _mark(item: pytest.Item, tags: Iterable[str]) -> None:
    """Make tags selectable: all by `-k`, and by `-m` as markers.

    But a tag that is the name of a marker with arguments (`skip`, `timeout`) would do what that marker does: it stays a
    keyword.
    """
    item.add_marker(pytest.mark.midsession(*tags))
    item.extra_keyword_matches.update(tags)
    lines: list[str] = item.config.getini("markers")
    acting = {line.partition("(")[0] for line in lines if "(" in line.partition(":")[0]}
    known = {line.partition(":")[0].strip() for line in lines}
    for tag in tags:
        if tag in acting:
            continue
        if tag not in known:
            item.config.addinivalue_line("markers", f"{tag}: a tag of scenarios")
        item.add_marker(tag)


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

    def __init__(self, engine: Engine, plan: Plan) -> None:
        self._engine, self._plan = engine, plan
        self.__name__ = plan.name

    def __call__(self) -> None:
        from midsession.errors import MidsessionError

        try:
            run = self._engine.perform(self._plan)
            why = run.explain() if run.exit_code else ""
        except MidsessionError as error:
            why = str(error)
        if why:
            pytest.fail(why, pytrace=False)


# --- Python tests --------------------------------------------------------------------------------------------------


class Midsession:
    """What the fixture `midsession` gives: `run` as in the module, with the options of the command line."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._engine, self._node = _engine(request.config), request.node

    def run(self, scenario: Given, *, keyword: str = "") -> Run:
        """Run one scenario: a path relative to the test's own file, or a mapping. See `midsession.run`."""
        from midsession.door import one_plan

        plan = one_plan(scenario, self._engine.seed, keyword, _from_here(self._node.path.parent))
        self._node.user_properties += [("seed", plan.seed), ("scenario", plan.source)]
        return self._engine.perform(plan)


@pytest.fixture
def midsession(request: pytest.FixtureRequest) -> Midsession:
    """Runs scenarios: `midsession.run("kill.scenario.yaml")`."""
    return Midsession(request)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """How events differ from what a test expects of them."""
    if op != "==":
        return None
    for ours, expected in ((left, right), (right, left)):
        told = getattr(ours, "difference", None)
        if told is not None and type(ours).__module__.startswith("midsession.core."):
            return list(told(expected))
    return None


_FRESH: Any = pytest.StashKey[int]()
_ENGINE: Any = pytest.StashKey["Engine"]()


def _engine(config: pytest.Config) -> Engine:
    if _ENGINE not in config.stash:
        from midsession.pytest_engine import Engine

        option = config.getoption
        testbed, runs, keep = (option(f"--midsession-{name}") for name in ("testbed", "runs", "keep"))
        config.stash[_ENGINE] = Engine(_seed(config), testbed, runs, keep)
    engine: Engine = config.stash[_ENGINE]
    return engine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed comes last, too; it is that of the reports, which may come from other processes."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [dict(getattr(report, "user_properties", ())) for report in reports]
    for seed in sorted({found["seed"] for found in properties if "scenario" in found and "seed" in found}):
        terminalreporter.write_line(f"midsession: seed {seed}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The end of the process: the testbed goes."""
    if _ENGINE in config.stash:
        config.stash[_ENGINE].shut()
