"""What the page about run directories says of them is so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, blocks

PAGE = ROOT / "docs" / "run-directory.md"
TEXT = PAGE.read_text(encoding="utf-8")
CHAIN, FROM_PYTHON = (block.text for block in blocks("python") if block.page == PAGE)

pytestmark = pytest.mark.netns


@pytest.fixture
def run(tutorial: Path, tmp_path: Path) -> Path:
    """A copy of the run of which the page tells."""
    [directory] = tutorial.glob("runs/*-a-client-that-comes-back-*")
    return Path(shutil.copytree(directory, tmp_path / "run"))


def python(*argv: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def test_every_file_has_its_row(run: Path) -> None:
    """And no row is without its file."""
    rows = re.findall(r"^\| `(\S+)` \|", TEXT, re.MULTILINE)
    assert {row.partition("/")[0] for row in rows} == {path.name for path in run.iterdir()}


def test_an_event_file_is_called_by_host_writer_and_incarnation(run: Path) -> None:
    """Each of the three writers is there."""
    names = [path.name.split(".") for path in (run / "events").iterdir()]
    assert {(len(parts), parts[1], parts[3]) for parts in names} == {
        (4, writer, "jsonl") for writer in ("conductor", "agent", "program")
    }


def questions() -> Iterator[str]:
    for block in blocks("console"):
        if block.page == PAGE:
            yield from re.findall(r"^\$ (jq .*|wc .*)$", block.text, re.MULTILINE)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_every_question_can_be_asked(run: Path) -> None:
    """Each command works as it stands; all but the one for what was not kept have an answer."""
    answers = {}
    for command in questions():
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=run, check=True)
        answers[command] = done.stdout.strip()
    assert len(answers) >= 7
    assert [command for command, answer in answers.items() if not answer] == [c for c in answers if "verdict.json" in c]


def test_the_chain_is_what_the_page_says(run: Path, tmp_path: Path) -> None:
    """Its few lines agree with every file, and find a line that is missing."""
    script = tmp_path / "chain.py"
    script.write_text(CHAIN)
    files = sorted((run / "events").iterdir())
    assert len(files) == 6
    assert [python(script, path).returncode for path in files] == [0] * 6
    lines = files[1].read_bytes().splitlines(keepends=True)
    files[1].write_bytes(b"".join(lines[:299] + lines[300:]))
    assert "AssertionError" in python(script, files[1]).stderr


def test_a_deleted_line_makes_the_run_inconclusive(run: Path) -> None:
    """As shown: what was found, and the exit code."""
    events = run / "events" / "client-1.program.1.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:299] + lines[300:]))
    done = python("-m", "midsession", "check", run)
    assert done.returncode == 11
    shown = "a line was altered, lost, doubled or moved (checksum chain)"
    assert shown in TEXT
    assert shown in done.stdout
    assert re.search(r"^INCONCLUSIVE  A client that comes back", done.stdout, re.MULTILINE)


def test_a_run_can_be_read_from_python(run: Path, tmp_path: Path) -> None:
    """The example prints each loss and the verdict."""
    script = tmp_path / "read.py"
    script.write_text(re.sub(r'Path\("runs/.*"\)', f"Path({str(run)!r})", FROM_PYTHON))
    said = python("-c", f"import runpy; runpy.run_path({str(script)!r})")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "pass"
    assert len(said.stdout.splitlines()) > 10
