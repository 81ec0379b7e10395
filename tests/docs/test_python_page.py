"""What the page about Python shows is run as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import midsession
from tests.docs.examples import ROOT, blocks

pytest_plugins = ["pytester"]

PAGE = ROOT / "docs" / "python.md"
EXAMPLES = [block for block in blocks("python") if block.page == PAGE]
WRONG = """
def test_wrong_sequence(midsession):
    run = midsession.run("kill.scenario.yaml")
    assert run.events("connected", "done").client("talkers-1").sequence() == ["done", "connected"]

def test_wrong_counts(midsession):
    run = midsession.run("kill.scenario.yaml")
    assert {"eof": 100} == run.events("lost").counts("how")
"""


def test_the_documented_names_are_the_exported_ones() -> None:
    """The table has a row for each, and none besides."""
    table = PAGE.read_text(encoding="utf-8").partition("| name in `midsession` |")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(
        name for name in midsession.__all__ if not name.startswith("__")
    )


@pytest.mark.netns
def test_the_examples_pass_and_differences_are_told(pytester: pytest.Pytester) -> None:
    """Each example is a test file beside its scenario; two comparisons that fail say how, whichever side is ours."""
    assert len(EXAMPLES) >= 4
    shutil.copytree(ROOT / "docs" / "python", pytester.path / "docs" / "python")
    shutil.copy(ROOT / "docs" / "python" / "kill.scenario.yaml", pytester.path)
    for number, block in enumerate(EXAMPLES):
        Path(pytester.path, f"test_{number}.py").write_text(block.text, encoding="utf-8")
    Path(pytester.path, "test_wrong.py").write_text(WRONG, encoding="utf-8")
    options = ["--midsession-testbed", "netns", "--midsession-seed", "7", "-p", "no:cacheprovider", "-vv"]
    tests = [str(path) for path in sorted(pytester.path.glob("test_*.py"))]
    result = pytester.runpytest_subprocess(*options, *tests, timeout=180)
    examples = sum(block.text.count("def test_") for block in EXAMPLES) + 1  # one has two parameters
    result.assert_outcomes(passed=examples, failed=2)
    text = result.stdout.str()
    assert "(- missing, + not expected):" in text
    assert re.search(r"E +\+ connected  talkers-1 #1 at \d", text)
    assert re.search(r"E +eof: \d+, expected 100; the first: talkers-\d #1 at \d", text)
    assert "midsession: seed 7" in result.outlines
