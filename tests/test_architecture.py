"""The architecture, as a test: what must not be in the house, and where what there is may stand."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "midsession"
IMPURE = {"asyncio", "socket", "subprocess", "time", "random", "os", "threading", "selectors", "signal", "uvloop"}
WORLDLY = {"subprocess", "ctypes", "fcntl", "docker", "pyroute2"}
WAITS = {"asyncio.sleep", "asyncio.wait_for", "asyncio.timeout", "asyncio.wait", "time.sleep"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def sources(*folders: Path) -> list[Path]:
    found = sorted(p for folder in folders for p in ([folder] if folder.is_file() else folder.rglob("*.py")))
    assert found, f"no source under {folders}"
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.partition(".")[0]


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(PACKAGE / "core"), ids=relative)
def test_the_core_is_pure(path: Path) -> None:
    """No module of the core imports I/O, a clock, randomness or asyncio, at any depth of the file."""
    assert not {top(m) for m in imports(path)} & IMPURE


@pytest.mark.parametrize("path", sources(PACKAGE / "core"), ids=relative)
def test_the_core_knows_no_fault_check_or_testbed(path: Path) -> None:
    """The core learns of faults, checks and testbeds only by what it is handed."""
    outer = ("midsession.faults", "midsession.checks", "midsession.testbeds", "midsession.agent", "midsession.report")
    assert not [m for m in imports(path) if m.startswith(outer)]


def test_only_testbeds_and_agents_touch_the_world() -> None:
    """Kernel, Docker and processes are touched in `testbeds/` and `agent/` alone; `doctor` only looks."""
    allowed = (PACKAGE / "testbeds", PACKAGE / "agent", PACKAGE / "doctor.py")
    offenders = {
        relative(path): found
        for path in sources(PACKAGE)
        if not any(path.is_relative_to(a) for a in allowed) and (found := {top(m) for m in imports(path)} & WORLDLY)
    }
    assert offenders == {}


def test_only_the_runner_waits() -> None:
    """Outside `runner` (and the I/O shells below it) nothing waits for time to pass.

    The calibration's probe is a program that runs on hosts, and no part of the harness.
    """
    allowed = (PACKAGE / "testbeds", PACKAGE / "agent", PACKAGE / "runner", PACKAGE / "calibration" / "probe.py")
    offenders = {
        relative(path): found
        for path in sources(PACKAGE)
        if not any(path.is_relative_to(a) for a in allowed) and (found := [n for n, _ in calls(path) if n in WAITS])
    }
    assert offenders == {}


@pytest.mark.parametrize("family", ["faults", "checks"])
def test_a_plug_in_is_named_in_its_own_file_alone(family: str) -> None:
    """No module imports a fault's or a check's own file, but the registry beside it."""
    folder = PACKAGE / family
    own = {f"midsession.{family}.{p.stem}" for p in folder.glob("*.py") if p.stem not in {"__init__", "base"}}
    assert own, f"no {family}"
    offenders = {
        relative(path): sorted(found)
        for path in sources(PACKAGE)
        if path.parent != folder and (found := own & set(imports(path)))
    }
    assert offenders == {}


def test_the_conductor_and_the_report_name_no_fault() -> None:
    """A fault's verb is no literal in the conductor, the runner, the plan or the report."""
    from midsession.faults import FAULTS

    assert len(FAULTS) >= 5
    watched = sources(PACKAGE / "core" / "conductor.py", PACKAGE / "core" / "plan.py", PACKAGE / "report")
    offenders = [
        (relative(path), node.value)
        for path in watched
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value in FAULTS
    ]
    assert offenders == []


def test_no_module_of_an_agent_needs_one_that_needs_it() -> None:
    """Not even for typing: each can be read behind those that it imports."""
    files = sources(PACKAGE / "agent")
    modules = {relative(path).removesuffix(".py").replace("/", "."): path for path in files}
    needs = {name: set(imports(path)) & set(modules) for name, path in modules.items()}
    assert sum(map(len, needs.values())) > len(modules)
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle
    assert order.index("midsession.agent.agent") < order.index("midsession.agent.verbs")


@pytest.mark.parametrize("path", sources(PACKAGE), ids=relative)
def test_the_harness_never_imports_the_programs(path: Path) -> None:
    """`server` and `client` are programs that are run, not packages that are imported."""
    assert not {top(m) for m in imports(path)} & {"server", "client"}


@pytest.mark.parametrize("path", sources(PACKAGE, ROOT / "server", ROOT / "client"), ids=relative)
def test_no_shell(path: Path) -> None:
    """No shell strings: no `shell=True`, no os.system and its kin."""
    for name, call in calls(path):
        assert name not in SHELLS
        assert not [k for k in call.keywords if k.arg == "shell"]


@pytest.mark.parametrize("path", sources(PACKAGE, ROOT / "server", ROOT / "client"), ids=relative)
def test_no_eval(path: Path) -> None:
    """Nothing that a scenario or a peer says is ever evaluated."""
    assert not [name for name, _ in calls(path) if name in {"eval", "exec", "yaml.load", "pickle.loads"}]


@pytest.mark.parametrize("path", sources(ROOT / "tests"), ids=relative)
def test_no_test_sleeps(path: Path) -> None:
    """A test waits for a condition, never for time."""
    assert not [name for name, _ in calls(path) if name in {"time.sleep", "asyncio.sleep", "sleep"}]


@pytest.mark.parametrize("module", ["midsession.agent.serve", "midsession.core.session", "midsession.core.record"])
def test_what_runs_in_a_host_starts_light(module: str) -> None:
    """Agents and programs import the standard library and msgspec (RE2 and uvloop only where they are used)."""
    code = f"import {module}, sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "midsession" in loaded
    assert not loaded & {"pydantic", "yaml", "typer", "rich", "jinja2", "docker", "pytest", "re2"}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "late"),
    [
        ("import midsession.cli", {"asyncio", "msgspec", "pydantic", "yaml", "rich", "jinja2", "docker", "re2"}),
        ("import midsession.batch.workers", {"pydantic", "yaml", "rich", "jinja2", "docker", "typer"}),
        (
            "import midsession.door, midsession.testbeds.netns",
            {"pydantic", "yaml", "rich", "jinja2", "docker", "typer"},
        ),
        ("import midsession.batch.carry_out, midsession.report.terminal", {"rich", "jinja2", "midsession.core.judge"}),
    ],
)
def test_a_door_opens_before_everything_is_there(code: str, late: set[str]) -> None:
    """What a run needs later, or not at all, is not imported at its start."""
    loaded = loaded_by(code)
    assert "midsession" in loaded
    assert not loaded & late


def test_a_scenario_loads_the_fault_and_the_checks_that_it_names() -> None:
    """And no other: a run uses few of the many there are."""
    path = ROOT / "scenarios" / "faults" / "kill.scenario.yaml"
    loaded = loaded_by(
        f"from pathlib import Path\nfrom midsession.language import plans\nplans(Path({str(path)!r}), 1)"
    )
    faults = {path.stem for path in (PACKAGE / "faults").glob("*.py")} - {"__init__", "base"}
    assert {name for name in faults if f"midsession.faults.{name}" in loaded} == {"kill"}
    checks = {path.stem for path in (PACKAGE / "checks").glob("*.py")}
    assert {name for name in checks if f"midsession.checks.{name}" in loaded} < checks
