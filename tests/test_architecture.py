"""The architecture, as a test: what must not be in the house, and where what there is may stand.

The rules are data, in `tests/architecture/rules.py`; beside them `test_rules.py` plants what each of them must find.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest

from tests.architecture.rules import ROOT, RULES, But, sources

PACKAGE = ROOT / "midsession"
INVARIANTS = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Invariants")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", RULES)
def test_the_rules_of_the_house_are_kept(name: str) -> None:
    """Nothing is said where it may not be, but for exceptions that are written down, each with its reason."""
    rule, looked_at = RULES[name], sources(*RULES[name].where)
    assert len(looked_at) > 30
    found = [(source.path, said, but) for source in looked_at for said, but in rule.broken_by(source)]
    assert [f"{path}:{said.line}: {said.what}" for path, said, but in found if but is None] == []
    said_somewhere = {(path, said.what) for path, said, _ in found}
    single = [But(but.where, (what,), but.why) for but in rule.but for what in but.what]
    idle = [but for but in single if not any(but.allows(path, what) for path, what in said_somewhere)]
    assert idle == [], "these exceptions allow nothing any more"


def test_the_invariants_are_the_rules_and_name_their_other_tests() -> None:
    """ARCHITECTURE.md says each rule word for word; each test that it names is there."""
    said = " ".join(INVARIANTS.split())
    assert [rule.promise for rule in RULES.values() if rule.promise not in said] == []
    named = re.findall(r"`(test_\w+)` in `(tests/[\w/]+\.py)`", said)
    assert len(named) >= 5
    for name, path in named:
        defined = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert name in defined, path


def test_no_module_of_an_agent_needs_one_that_needs_it() -> None:
    """Not even for typing: each can be read behind those that it imports."""
    modules = {source.path.removesuffix(".py").replace("/", "."): source for source in sources("midsession/agent/")}
    needs = {name: {said.what for said in source.names} & set(modules) for name, source in modules.items()}
    assert sum(map(len, needs.values())) > len(modules)
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle
    assert order.index("midsession.agent.agent") < order.index("midsession.agent.verbs")


def test_the_programs_are_no_packages_of_the_wheel() -> None:
    """They are installed as data below `midsession/`: no `server` and no `client` comes to lie in site-packages."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["midsession"]
    assert wheel["force-include"] == {name: f"midsession/_programs/{name}" for name in ("server", "client")}


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
            "import midsession.door, midsession.testbeds.netns.testbed",
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
