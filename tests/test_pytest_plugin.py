"""`pytest scenarios/`: scenarios are tests among others, and a suite without scenarios does not notice the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from midsession.door import judged
from midsession.pytest_plugin import FAILURE_LINES, failure_lines
from tests.test_cli import BROKEN, GOOD, TYPO, stored

pytest_plugins = ["pytester"]

MATRIX = GOOD.replace("services:", "matrix: {n: [1, 2]}\ntags: [small, kill]\nservices:").replace(
    "count: 1", "count: ${{ matrix.n }}"
)
UNDECIDED = GOOD.replace(
    "checks:\n", "checks:\n  - every: talker\n    meets: lost\n    since: never\n    within: 1s\n"
).replace("checks:", "timeline:\n  - id: never\n    when: {event: gave_up, of: talker}\n    kill: server\nchecks:")


def test_importing_the_plugin_costs_nothing() -> None:
    """Beside pytest itself: this package's empty door, and no other module."""
    code = "import pytest, sys; old = {*sys.modules}; import midsession.pytest_plugin; print(*{*sys.modules} - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"midsession", "midsession.pytest_plugin"}


def test_a_suite_without_scenarios_is_left_alone(pytester: pytest.Pytester) -> None:
    """With strict markers, strict configuration and warnings as errors; nothing of Midsession is loaded."""
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert [m for m in sys.modules if m.startswith("midsession.")] == ["midsession.pytest_plugin"]
        """
    )
    pytester.makefile(".yaml", other="a: 1")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "midsession: seed" not in result.stdout.str()


def test_one_item_for_each_combination_with_the_same_ids_every_time(pytester: pytest.Pytester) -> None:
    """Ids are the file's name and the combination; tags are keywords and arguments of one marker."""
    pytester.makefile(".scenario.yaml", sizes=MATRIX, one=GOOD)
    collected = [
        [line for line in pytester.runpytest_subprocess("--collect-only", "-q", *more).outlines if "::" in line]
        for more in ([], ["-m", "midsession"], ["-k", "kill and 2"])
    ]
    everything = ["one.scenario.yaml::one", *(f"sizes.scenario.yaml::sizes[n={n}]" for n in (1, 2))]
    assert collected == [everything, everything, everything[2:]]


def test_an_invalid_scenario_is_a_collection_error_with_the_message_alone(pytester: pytest.Pytester) -> None:
    """Place, caret and remedy; no line of a traceback; the other files are still collected."""
    pytester.makefile(".scenario.yaml", typo=TYPO, good=GOOD)
    result = pytester.runpytest_subprocess("--collect-only", "-q")
    text = result.stdout.str()
    assert "typo.scenario.yaml:9:9: " in text
    assert "good.scenario.yaml::good" in text
    assert "Traceback" not in text
    assert ".py:" not in text
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_a_failure_is_at_most_25_lines_with_all_that_matters(tmp_path: Path) -> None:
    """Promise, place, what was seen, who broke it, the records around, the run directory, the replay command."""
    run = judged(stored(tmp_path / "run", kept=False))
    lines = failure_lines(run)
    text = "\n".join(lines)
    assert len(lines) <= FAILURE_LINES
    assert lines[0] == "fail: a world (seed 7)"
    parts = ["✗ every client of talkers meets lost", "x.scenario.yaml:20:5", "not kept by talkers-2", "talkers-2 #1"]
    for part in [*parts, f"run: {tmp_path}/run", "again: midsession run x.scenario.yaml --testbed netns --seed 7"]:
        assert part in text


def test_a_long_failure_is_cut_before_its_end(tmp_path: Path) -> None:
    """Many broken promises: the run directory and the replay command are still there."""
    run = judged(stored(tmp_path / "run", kept=False))
    view = run.view
    view.findings.extend([view.findings[0]] * 20)
    lines = failure_lines(run)
    assert FAILURE_LINES - 2 <= len(lines) <= FAILURE_LINES
    assert "more in the report" in lines[-3]
    assert lines[-2].startswith("run: ")
    assert lines[-1].startswith("again: ")


@pytest.mark.netns
def test_scenarios_pass_and_fail_as_tests_do(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept promise passes; a broken one and one that nobody can tell fail; the seed is said first and last."""
    monkeypatch.delenv("CI", raising=False)  # with it, pytest's own summary says whole failures once more, after ours
    pytester.makefile(".scenario.yaml", broken=BROKEN, good=GOOD, undecided=UNDECIDED)
    options = ["--midsession-testbed", "netns", "--midsession-seed", "7", "--strict-markers", "-p", "no:cacheprovider"]
    result = pytester.runpytest_subprocess(*options, "--junitxml=junit.xml", "-v", timeout=120)
    result.assert_outcomes(passed=1, failed=2)
    text = result.stdout.str()
    assert "inconclusive: One word (seed 7)" in text
    assert "fail: Nobody waits (seed 7)" in text
    assert "Traceback" not in text
    assert ".py:" not in text
    assert text.index("midsession: seed 7") < text.index("good.scenario.yaml::good PASSED")
    assert text.rindex("midsession: seed 7") > text.rindex("again: ")
    assert 'name="scenario" value="good.scenario.yaml"' in (pytester.path / "junit.xml").read_text()
    assert len(list((pytester.path / "runs").iterdir())) == 3
