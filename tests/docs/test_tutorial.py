"""The tutorial's runs end as the tutorial says, and its commands can be typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import ROOT, tutorial_runs

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
RUNS = tutorial_runs()
EXIT_CODES = {"fail": 1, "pass": 0, "inconclusive": 11}

pytestmark = pytest.mark.netns


def told(output: str) -> list[str]:
    """What a run says that is the same every time: findings, how many kept them, the verdict; without numbers."""
    lines = re.findall(
        r"^(?:[✓✗?] .*|    \d+ of \d+ did in time|(?:PASS|FAIL|INCONCLUSIVE)  .*(?= · .* · ))", output, re.M
    )
    return [re.sub(r"\d+", "#", line) for line in lines]


def test_the_tutorial_shows_each_verdict() -> None:
    """The failing run first, then the passing one, then one that proves nothing; and as many files."""
    assert [int(code) for *_, code in RUNS] == list(EXIT_CODES.values())
    named = [command.split()[1] for command, *_ in RUNS]
    assert named == [f"docs/tutorial/{path.name}" for path in sorted((ROOT / "docs" / "tutorial").iterdir())]


@pytest.mark.parametrize("number", range(len(RUNS)), ids=EXIT_CODES)
def test_a_run_ends_as_the_page_shows(tutorial: Path, number: int) -> None:
    """The same exit code, the same findings, the same verdict."""
    _, shown, code = RUNS[number]
    output = (tutorial / f"{number}.txt").read_text()
    assert output.endswith(f"\n{code}"), output
    assert len(told(shown)) >= 4
    assert told(output) == told(shown)


def test_the_scenario_on_the_page_is_the_file() -> None:
    """Whoever reads along reads what is run; the second differs by the one line that the page shows."""
    first, second = (ROOT / "docs" / "tutorial" / f"{name}.scenario.yaml" for name in ("1-no-reconnect", "2-reconnect"))
    text = first.read_text(encoding="utf-8")
    assert f"```yaml\n{text}```" in PAGE
    [added] = re.findall(r"^\+(.*)$", PAGE, re.MULTILINE)
    renamed = text.replace("name: A client that does not come back", "name: A client that comes back")
    assert renamed.replace("    script:\n", f"{added}\n    script:\n", 1) == second.read_text(encoding="utf-8")


def test_the_delays_are_those_of_the_page(tutorial: Path) -> None:
    """They are drawn from the seed before the run."""
    [events] = tutorial.glob("runs/*-a-client-that-comes-back-*/events/client-1.program.1.jsonl")
    delays = re.findall(r'"client":"talkers-1".*"delay_s":([0-9.]+)', events.read_text(encoding="utf-8"))
    shown = re.findall(r'"delay_s":([0-9.]+)', PAGE)
    assert len(shown) > 2
    compared = min(len(delays), len(shown))
    assert compared
    assert delays[:compared] == shown[:compared]


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_its_questions_have_answers(tutorial: Path) -> None:
    """Each jq command works as it stands; the last word is the client's outcome."""
    commands = re.findall(r"^\$ (jq .*(?:\\\n.*)?)\n(?:[\[{].*\n)*(\[.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    for command, last in commands:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tutorial, check=True)
        assert done.stdout.splitlines()[-1] == last


def test_the_typo_is_told_as_the_page_shows(tmp_path: Path) -> None:
    """Word for word."""
    text = (ROOT / "docs" / "tutorial" / "1-no-reconnect.scenario.yaml").read_text(encoding="utf-8")
    (tmp_path / "typo.scenario.yaml").write_text(text.replace("- send:", "- sned:"), encoding="utf-8")
    argv = [sys.executable, "-m", "midsession", "validate", "typo.scenario.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 4
    assert f"```console\n$ midsession {' '.join(argv[3:])}\n{done.stderr}$ echo $?\n4\n```" in PAGE
