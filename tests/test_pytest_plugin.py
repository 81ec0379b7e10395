"""`pytest scenarios/`: scenarios are tests among others, and a suite without scenarios does not notice the plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from midsession.door import judged
from midsession.keep import Keep
from midsession.pytest_plugin import KEEP
from midsession.report.failure import FAILURE_LINES
from tests.test_cli import BROKEN, ENDLESS, GOOD, TYPO, stored

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
    """Ids are the file's name and the combination; tags are keywords, markers, and arguments of the one marker."""
    pytester.makefile(".scenario.yaml", sizes=MATRIX, one=GOOD)
    collected = [
        [line for line in pytester.runpytest_subprocess("--collect-only", "-q", *more).outlines if "::" in line]
        for more in ([], ["-m", "midsession"], ["-k", "kill and 2"], ["-m", "small"])
    ]
    everything = ["one.scenario.yaml::one", *(f"sizes.scenario.yaml::sizes[n={n}]" for n in (1, 2))]
    assert collected == [everything, everything, everything[2:], everything[1:]]


def test_a_combination_is_chosen_by_k(pytester: pytest.Pytester) -> None:
    """As the docs have it."""
    pytester.makefile(".scenario.yaml", sizes=MATRIX)
    said = pytester.runpytest_subprocess("--collect-only", "-q").outlines
    (first, *others) = [line for line in said if "::" in line]
    assert others
    chosen = first.partition("[")[2].rstrip("]").replace("=", ":")
    result = pytester.runpytest_subprocess("--collect-only", "-q", "-k", chosen)
    assert [line for line in result.outlines if "::" in line] == [first]


@pytest.mark.netns
def test_a_fixture_may_go_elsewhere(pytester: pytest.Pytester) -> None:
    """What the scenario names is still found, and the run's directory is where the option says."""
    pytester.makefile(".scenario.yaml", good=GOOD + "  - python: judge.py::anything\n")
    pytester.makepyfile(judge="def anything(history):\n    assert history.events('done')\n")
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def elsewhere(tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)
        """
    )
    result = pytester.runpytest_subprocess(*NETNS, "good.scenario.yaml", "-p", "no:cacheprovider", timeout=120)
    result.assert_outcomes(passed=1)
    assert len(list((pytester.path / "runs").iterdir())) == 1


def test_what_this_machine_lacks_is_told_once(pytester: pytest.Pytester) -> None:
    """As a failure of one line, and not as an error while another was handled."""
    pytester.makefile(".scenario.yaml", good=GOOD)
    result = pytester.runpytest_subprocess("--midsession-testbed", "moon", "-p", "no:cacheprovider", timeout=60)
    result.assert_outcomes(failed=1)
    assert "During handling" not in str(result.stdout)
    assert sum("unknown testbed 'moon'" in line for line in result.outlines if not line.startswith("FAILED")) == 1


def test_a_tag_is_registered_and_does_nothing_but_select(pytester: pytest.Pytester) -> None:
    """Strict markers know it; one that is called like a marker that acts (`skip`, `timeout`) does not act."""
    pytester.makefile(".scenario.yaml", good=GOOD.replace("services:", "tags: [slow-one, skip, timeout]\nservices:"))
    counts = {}
    for chosen in ("-m slow-one", "-m skip or timeout", "-k skip and timeout"):
        result = pytester.runpytest_subprocess("--collect-only", "-q", "--strict-markers", chosen[:2], chosen[3:])
        counts[chosen] = sum("::" in line for line in result.outlines)
    assert counts == {"-m slow-one": 1, "-m skip or timeout": 0, "-k skip and timeout": 1}


def test_the_words_of_keep_are_those_of_every_door(pytester: pytest.Pytester) -> None:
    """They are written twice, since the plugin imports nothing for its help."""
    assert [str(word) for word in Keep] == KEEP


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
    lines = run.explain().split("\n")
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
    lines = run.explain().split("\n")
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


NETNS = ("--midsession-testbed", "netns")


@pytest.mark.netns
def test_workers_share_a_seed_and_nothing_else(pytester: pytest.Pytester) -> None:
    """`-n 2`: every plan once, each in a directory of its own, all drawn from one fresh seed, which is said last."""
    pytester.makefile(".scenario.yaml", a=MATRIX, b=MATRIX, broken=BROKEN)
    result = pytester.runpytest_subprocess(*NETNS, "-n", "2", "-p", "no:cacheprovider", "--junitxml=j.xml", timeout=120)
    result.assert_outcomes(passed=4, failed=1)
    [last] = [line for line in result.outlines if line.startswith("midsession: seed ")]
    plans = [json.loads(path.read_bytes()) for path in (pytester.path / "runs").glob("*/plan.json")]
    assert sorted((plan["source"], str(plan.get("matrix"))) for plan in plans) == sorted(
        [(f"{name}.scenario.yaml", f"{{'n': {n}}}") for name in "ab" for n in (1, 2)]
        + [("broken.scenario.yaml", "None")]
    )
    assert {f"midsession: seed {plan['seed']}" for plan in plans} == {last}
    junit = ElementTree.parse(pytester.path / "j.xml")
    seeds = [p.get("value") for p in junit.iter("property") if p.get("name") == "seed"]
    assert seeds == [str(plan["seed"]) for plan in plans]


@pytest.mark.netns
def test_only_what_failed_is_kept_rerun_and_run_last(pytester: pytest.Pytester) -> None:
    """`--midsession-keep on-failure`, pytest-rerunfailures (a rerun is a run of its own, of the same plan), `--lf`."""
    pytester.makefile(".scenario.yaml", good=GOOD, broken=BROKEN)
    keep = ("--midsession-keep", "on-failure", "--midsession-seed", "7")
    result = pytester.runpytest_subprocess(*NETNS, *keep, "--reruns", "1", timeout=120)
    result.assert_outcomes(passed=1, failed=1)
    assert "1 rerun" in result.stdout.str()
    runs = sorted((pytester.path / "runs").glob("*/plan.json"))
    assert [json.loads(run.read_bytes())["name"] for run in runs] == ["Nobody waits"] * 2
    assert len({run.read_bytes() for run in runs}) == 1
    again = pytester.runpytest_subprocess("--collect-only", "-q", "--lf")
    assert [line for line in again.outlines if "::" in line] == ["broken.scenario.yaml::broken"]


@pytest.mark.netns
def test_a_run_that_pytest_times_out_ends_in_order(pytester: pytest.Pytester) -> None:
    """Its logs are whole and judged, the failure names them without a traceback of ours, and the next scenario runs."""
    pytester.makefile(".scenario.yaml", endless=ENDLESS, good=GOOD)
    options = ("--timeout", "4", "--midsession-seed", "7", "-p", "no:cacheprovider", "-p", "no:rerunfailures")
    result = pytester.runpytest_subprocess(*NETNS, *options, timeout=120)
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert "One word (seed 7): Timeout (>4.0s) from pytest-timeout." in text
    assert "again: midsession run endless.scenario.yaml --testbed netns --seed 7" in text
    assert "Traceback" not in text
    infos = [json.loads(path.read_bytes()) for path in sorted((pytester.path / "runs").glob("*/run.json"))]
    assert sorted(info["why_ended"] for info in infos) == ["done", "interrupted"]
    assert [info["problems"] for info in infos] == [[], []]
    assert len(list((pytester.path / "runs").glob("*/verdict.json"))) == 2
