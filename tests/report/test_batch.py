"""Several runs in one picture: rates with their interval, and the first repetition to look at."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from midsession.report import terminal
from midsession.report.batch import BatchView, junit, markdown, repetition_line, tell_batch, to_json
from tests.report.batches import batch
from tests.report.test_html import HOSTILE

MIXED = batch([("pass fail pass pass inconclusive", "a.yaml"), ("pass pass", "b.yaml"), ("", "c.yaml")], repeats=True)
RATE = "3 of 4 passed, 75 % (95 % interval 30.1 % to 95.4 %); 1 inconclusive"


def told(view: BatchView) -> list[str]:
    file = io.StringIO()
    tell_batch(terminal.console(file), view, "runs/batch")
    return file.getvalue().splitlines()


def test_a_flaky_plan_shows_its_rate_and_its_first_failure() -> None:
    """In lines: the word, the rate, its interval, what was not counted, seed and command; then the sums."""
    lines = told(MIXED)
    assert lines[1] == f"✗ flaky        a.yaml  {RATE}"
    assert lines[2:5] == [
        "    first  #2, seed 102: a promise: a.yaml",
        "    run    runs/2",
        "    again  midsession run a.yaml --seed 102",
    ]
    assert lines[5].startswith("✓ pass         b.yaml  2 of 2 passed, 100 % (95 % interval 34.2 % to 100 %)")
    assert lines[-1] == "8 runs: 5 pass, 1 inconclusive, 1 fail, 1 not run · 1 flaky plan · seed 7"


def test_an_interrupted_batch_says_so_beside_what_it_has() -> None:
    """The rate is that of the runs that were made; the one that was cut off counts for nothing."""
    lines = told(batch([("pass pass fail interrupted", "a.yaml")], repeats=True, interrupted=True))
    assert "2 of 3 passed, 66.7 %" in lines[1]
    assert lines[1].endswith("; 1 interrupted")
    assert lines[-1] == "4 runs: 2 pass, 1 fail, 1 interrupted · 1 flaky plan · seed 7 · interrupted"


def test_runs_that_decide_nothing_have_no_rate() -> None:
    """None of none would look like a number."""
    lines = told(batch([("inconclusive inconclusive", "a.yaml")], repeats=True))
    assert lines[1] == "? inconclusive a.yaml  no run was decided; 2 inconclusive"


def test_clients_that_did_not_end_well_are_told_of_a_run_that_passed() -> None:
    """Its promises may need nobody."""
    one = batch([("pass", "a.yaml")])
    [run] = one.series[0].repetitions
    bad = replace(run, told=replace(run.told, ends="clients: 0 ok, 3 failed"))
    view = replace(one, series=[replace(one.series[0], repetitions=[bad])])
    assert told(view)[1] == "✓ pass         a.yaml  runs/1 · clients: 0 ok, 3 failed"
    file = io.StringIO()
    terminal.console(file).print(repetition_line(bad, 8))
    assert file.getvalue().rstrip().endswith("1.00 s  clients: 0 ok, 3 failed")


def test_runs_that_were_not_repeated_have_no_rate() -> None:
    """One of one is no statistics."""
    once = batch([("pass", "a.yaml"), ("fail", "b.yaml")])
    for text in ("\n".join(told(once)), markdown(once), junit(once)):
        assert "interval" not in text
    assert told(once)[1:3] == ["✓ pass         a.yaml  runs/1", "✗ fail         b.yaml  runs/1"]


def test_a_step_summary_carries_rate_and_command() -> None:
    """As a table, and a block to copy from."""
    text = markdown(MIXED)
    assert text.startswith("## 3 plans: 1 pass, 1 flaky, 1 not run\n")
    assert f"| ❌ flaky | a.yaml | {RATE} | &#35;2, seed 102&#58;" in text
    assert "```console\nmidsession run a.yaml --seed 102\n```" in text


def test_junit_has_a_case_for_each_plan_that_was_run() -> None:
    """Flaky is a failure, lacking and inconclusive are errors; rate and command are in the text."""
    root = ElementTree.fromstring(junit(batch([("pass fail", "a"), ("lacks", "b"), ("inconclusive", "c")], True)))
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "2",
    }
    flaky = root.find(".//failure")
    assert flaky is not None
    assert flaky.get("type") == "flaky"
    assert "1 of 2 passed, 50 %" in flaky.get("message", "")
    assert "again: midsession run a --seed 102" in (flaky.text or "")


def test_programs_read_every_seed() -> None:
    """The JSON has each plan's word, rate and interval, and each repetition."""
    first = json.loads(to_json(MIXED))["plans"][0]
    assert (first["word"], first["passed"], first["trials"], first["pass_rate"]) == ("flaky", 3, 4, 0.75)
    assert first["interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    assert [run["seed"] for run in first["runs"]] == [101, 102, 103, 104, 105]


@pytest.mark.parametrize("said", HOSTILE)
def test_hostile_text_stays_text(said: str) -> None:
    """In the terminal, in Markdown and in XML."""
    view = batch([("fail", said)], repeats=True)
    assert "\x1b" not in "".join(told(view))
    assert "<script" not in markdown(view).partition("```")[0]
    assert ElementTree.fromstring(junit(view)) is not None
