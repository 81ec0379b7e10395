"""`python`: a promise of the user's own is judged like any other, and cannot pass by breaking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession import language
from midsession.checks import build
from midsession.core.history import History
from midsession.core.verdict import Finding, Status
from midsession.errors import ScenarioError
from midsession.rundir import judge_history
from tests.build import World

PROMISES = Path(__file__).parent / "promises"


def told(w: World, function: str, folder: Path = PROMISES) -> Finding:
    """The finding of `python: promises.py::function`, for a scenario in this folder."""
    w.check("python", python=f"promises.py::{function}")
    plan = msgspec.structs.replace(w.plan, source=str(folder / "x.scenario.yaml"))
    finding: Finding = judge_history(History.of(plan, w.files())).findings[len(w.checks) - 1]
    return finding


def talk() -> World:
    """Two talkers that are answered."""
    w = World(talkers=2).step("crash", at=1.0)
    for n in (1, 2):
        w.client(f"talkers-{n}").connects(0.1).talks(1.2).closes(1.3).ends(1.4)
    return w


def test_true_and_silence_are_kept_promises() -> None:
    """The promise is the first line of the function's docstring."""
    finding = told(talk(), "everybody_was_answered")
    assert (finding.status, finding.support) == (Status.PASS, 2)
    assert finding.promise == "Each talker got an answer."
    assert told(talk(), "nobody_was_lost").status is Status.PASS


def test_false_and_a_failed_assert_are_broken_ones() -> None:
    """The assert's text is what was seen."""
    w = World(talkers=2)
    w.client("talkers-1").connects(0.1).loses(0.2).ends(0.3, "lost")
    assert told(w, "everybody_was_answered").status is Status.FAIL
    finding = told(w, "nobody_was_lost")
    assert finding.status is Status.FAIL
    assert finding.seen.startswith("1 connections were lost")


ASKS = """
from tests.build import World
from tests.checks.test_python import told

w = World(talkers=2)
w.client("talkers-1").connects(0.1).loses(0.2).ends(0.3, "lost")
print(told(w, "nobody_was_lost").status)
"""


def test_asserts_count_where_python_is_told_to_leave_them_out() -> None:
    """`python -O`, PYTHONOPTIMIZE: a check whose asserts were left out could not fail."""
    asked = [sys.executable, "-O", "-B", "-c", ASKS]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True, timeout=60)
    assert done.stdout == "fail\n"


def test_a_finding_of_its_own_is_taken_as_it_is() -> None:
    """With its own support: without any it is no pass."""
    assert told(talk(), "talkers_after_the_crash").support == 2
    early = World(talkers=1).step("crash", at=1.0)
    early.client("talkers-1").connects(0.1).talks(0.2).closes(0.3).ends(0.4)
    assert told(early, "talkers_after_the_crash").status is Status.INCONCLUSIVE


def test_a_question_without_an_answer_is_inconclusive() -> None:
    """`since` a step that never fired."""
    w = World(talkers=1).step("crash", at=None)
    w.client("talkers-1").connects(0.1).talks(0.2).closes(0.3).ends(0.4)
    assert told(w, "talkers_after_the_crash").status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    "function",
    [
        *("crashes", "exits", "says_a_number", "crashes_with_half_a_character"),
        *("finds_a_status_that_is_none", "finds_support_in_words", "finds_witnesses_that_are_none"),
    ],
)
def test_a_function_that_breaks_is_an_error(function: str) -> None:
    """T7: never a pass, also not by exiting with 0."""
    assert told(talk(), function).status is Status.ERROR


def test_without_any_client_nothing_is_kept() -> None:
    """T4: silence over an empty history, whatever the function would say of it."""
    assert told(World(talkers=2), "nobody_was_lost").status is Status.INCONCLUSIVE
    assert told(World(talkers=2), "passes_as_a_word").status is Status.INCONCLUSIVE


def test_a_finding_means_what_it_says_in_words_too() -> None:
    """A status as a plain string is that status, and a pass without support is none."""
    assert told(talk(), "passes_as_a_word").status is Status.INCONCLUSIVE


def test_a_failed_assert_may_say_anything() -> None:
    """Also what no file could hold."""
    finding = told(talk(), "asserts_half_a_character")
    assert (finding.status, "\\ud800" in finding.seen) == (Status.FAIL, True)


def test_without_the_file_nobody_can_tell(tmp_path: Path) -> None:
    """A run that is judged elsewhere."""
    finding = told(talk(), "nobody_was_lost", folder=tmp_path)
    assert finding.status is Status.INCONCLUSIVE
    assert "judge the run where its scenario is" in finding.seen


def test_no_bytecode_is_left_of_the_file_or_of_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Python was told about it before, which holds again afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "beside_a_check.py").write_text("YES = True\n")
    (tmp_path / "promises.py").write_text("import beside_a_check\n\ndef holds(history): return beside_a_check.YES\n")
    assert told(talk(), "holds", tmp_path).status is Status.PASS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside_a_check.py", "promises.py"]
    assert sys.dont_write_bytecode is False


def test_a_link_out_of_the_folder_is_followed_by_no_judge(tmp_path: Path) -> None:
    """I4, also for plans that no loader has seen."""
    (tmp_path / "promises.py").symlink_to(PROMISES / "promises.py")
    finding = told(talk(), "nobody_was_lost", folder=tmp_path)
    assert finding.status is Status.ERROR
    assert "out of the scenario's folder" in finding.seen


@pytest.mark.parametrize("text", ["promises.py", "promises.py::", "a.txt::f", "../p.py::f", "/p.py::f", "p.py::f()"])
def test_what_names_no_function_in_the_folder_is_refused(text: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValueError, match=r"names no function|leaves"):
        build("python", {"python": text})


SCENARIO = """\
name: x
services: {server: {reference: reply, port: 4000}}
clients: {talkers: {connect: server:4000, script: [end]}}
checks:
  - python: PROMISE
"""


@pytest.mark.parametrize(
    ("promise", "slug"),
    [
        ("promises.py::nobody_was_lots", "unknown-function"),
        ("elsewhere.py::f", "unreadable"),
        ("broken.py::f", "unreadable"),
        ("link.py::nobody_was_lost", "outside"),
        ("../promises.py::nobody_was_lost", "outside"),
    ],
)
def test_a_scenario_with_such_a_check_is_refused_at_its_place(tmp_path: Path, promise: str, slug: str) -> None:
    """Before any run; the file is read, never executed."""
    (tmp_path / "promises.py").write_text((PROMISES / "promises.py").read_text() + "raise RuntimeError\n")
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "link.py").symlink_to(PROMISES / "promises.py")
    path = tmp_path / "x.scenario.yaml"
    path.write_text(SCENARIO.replace("PROMISE", promise))
    with pytest.raises(ScenarioError) as caught:
        language.load(path)
    problems: list[Any] = caught.value.problems
    assert [(p.slug, p.place.line) for p in problems] == [(slug, 5)]


def test_a_scenario_with_a_right_one_is_read(tmp_path: Path) -> None:
    """And carries its name into the plan."""
    (tmp_path / "promises.py").write_text((PROMISES / "promises.py").read_text())
    path = tmp_path / "x.scenario.yaml"
    path.write_text(SCENARIO.replace("PROMISE", "promises.py::nobody_was_lost"))
    assert language.plans(path, 1)[0].checks[0].args == {"python": "promises.py::nobody_was_lost"}
