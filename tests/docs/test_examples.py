"""What the documentation shows can be typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from midsession import language
from midsession.cli import app
from midsession.errors import ScenarioError
from tests.docs.examples import ROOT, Block, blocks, pages, whole
from tools import scenario_page

YAML = list(blocks("yaml"))
SCENARIO = ROOT / "docs" / "scenario.md"


def written(folder: Path, text: str) -> Path:
    path = folder / "example.scenario.yaml"
    path.write_text(text, encoding="utf-8")
    (folder / "promises.py").write_text("def everybody_was_answered(history): ...\n", encoding="utf-8")
    for name in ("driver.py", "proxy.conf"):
        (folder / name).write_text("", encoding="utf-8")
    return path


@pytest.mark.parametrize("block", YAML, ids=str)
def test_an_example_is_a_right_scenario_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    """As it stands, with what it leaves out filled in around it."""
    scenario = language.load(written(tmp_path, whole(block.text)), env={})
    assert scenario.plans(7)


def test_examples_were_read() -> None:
    """The loop above ran, over whole scenarios and parts of each kind."""
    assert len(YAML) >= 12
    assert sum(block.text.count("\nname: ") for block in YAML) >= 2


@pytest.mark.parametrize(
    "wrong", ["- kil: server\n  when: {at: 1s}\n", "- every: talkers\n  meet: lost\n", "- sned: {}\n"]
)
def test_a_wrong_example_would_be_found(wrong: str, tmp_path: Path) -> None:
    """Filling in hides no mistake."""
    with pytest.raises(ScenarioError):
        language.load(written(tmp_path, whole(wrong)), env={})


# --- the reference of the language ---------------------------------------------------------------------------------


def test_the_page_says_what_the_code_does() -> None:
    """Run `python tools/scenario_page.py` after a change of the language."""
    text = SCENARIO.read_text(encoding="utf-8")
    assert scenario_page.filled(text) == text


def test_the_page_has_a_table_for_every_mapping() -> None:
    """A model, the actions, the checks, the values: none is forgotten, none stands twice."""
    marks = re.findall(r"^<!-- (?:keys: )?(\w+) -->$", SCENARIO.read_text(encoding="utf-8"), re.MULTILINE)
    tables = sorted(mark for mark in marks if mark != "end")
    assert tables == sorted([*scenario_page.models(), *scenario_page.TABLES])
    assert len(tables) > 20


def test_every_key_of_the_language_has_a_meaning() -> None:
    """No empty cell at the end of a row."""
    rows = [line for line in SCENARIO.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_stale_table_is_found() -> None:
    """A row that the code does not have is not kept."""
    text = SCENARIO.read_text(encoding="utf-8")
    stale = text.replace("| `tags` |", "| `labels` |", 1)
    assert stale != text
    assert scenario_page.filled(stale) == text


# --- links ---------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links() -> list[tuple[Path, str]]:
    """Every link on every page that leads to a file or heading of ours."""
    found = []
    for page in pages():
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [(page, target) for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    return found


def test_every_link_leads_somewhere() -> None:
    """To a file that is there, and to a heading that it has."""
    broken = []
    for page, target in links():
        path, _, anchor = target.partition("#")
        there = page if not path else (page.parent / path).resolve()
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert len(links()) > 30
    assert broken == []


# --- the command line ----------------------------------------------------------------------------------------------


def test_every_command_has_its_row() -> None:
    """And no row is without its command."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(re.findall(r"^\| `midsession (\w+)", page, re.MULTILINE)) == sorted(commands)


def test_every_option_of_run_has_its_row() -> None:
    """And no row is without its option."""
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    options = {name for param in command.params for name in param.opts if name.startswith("-")}
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`-[^|]*) \|", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"(?<=`)--?[a-z-]+", row)} == options - {"--keyword"}


def test_every_option_of_the_plugin_has_its_row() -> None:
    """As the plugin adds them."""
    code = (ROOT / "midsession" / "pytest_plugin.py").read_text(encoding="utf-8")
    options = set(re.findall(r'"(--midsession-[a-z]+)"', code))
    page = (ROOT / "docs" / "pytest.md").read_text(encoding="utf-8")
    assert len(options) >= 4
    assert set(re.findall(r"^\| `(--midsession-[a-z]+) ", page, re.MULTILINE)) == options


@pytest.mark.parametrize(
    "command", re.findall(r"^\$ (pytest .*)$", (ROOT / "docs" / "pytest.md").read_text(), re.MULTILINE)
)
def test_a_command_of_pytest_selects_what_is_there(command: str) -> None:
    """Its folders, tags and names are those of this repository."""
    words = re.sub(r" -n \d+| --lf", "", command).removeprefix("pytest")  # of pytest-xdist, and of a run before
    options = ["--collect-only", "--quiet", "--strict-markers", "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", *options, *shlex.split(words)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ".scenario.yaml: " in done.stdout


@pytest.mark.netns
def test_the_flaky_scenario_of_the_page_is_as_flaky_as_it_says(tmp_path: Path) -> None:
    """Its draws decide, and they are the seed's."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    [scenario] = [block.text for block in YAML if block.page.name == "cli.md"]
    [command] = re.findall(r"^\$ midsession (run late\.scenario\.yaml .*)$", page, re.MULTILINE)
    (tmp_path / "late.scenario.yaml").write_text(scenario, encoding="utf-8")
    argv = [sys.executable, "-m", "midsession", *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    told = re.findall(r"^.*(?:8 of 12 passed|12 runs:).*$", done.stdout, re.MULTILINE)
    assert len(told) == 2
    assert all(line in page for line in told)
