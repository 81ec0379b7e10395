"""What the faults of a link do to the packets of a neutral probe is what they say."""

from __future__ import annotations

import dataclasses
import re

import pytest
from typer.testing import CliRunner

from midsession import calibration
from midsession.calibration import CASES, Outcome, calibrate
from midsession.calibration.cases import Case, Promise
from midsession.cli import app
from midsession.faults import FAULTS
from midsession.testbeds.netns.testbed import NetnsTestbed

NAMES = ("each tenth lost", "two lost", "each tenth lost of a stream", "two lost of a stream", "mtu")
EXACT = [case for case in CASES if case.name in (*NAMES, "duplicate", "reorder", "corrupt")]
DELAY = next(case for case in CASES if case.name == "delay")


def outcomes(*cases: Case) -> list[Outcome]:
    told: list[Outcome] = []
    found = calibrate(NetnsTestbed(), cases, told.append)
    assert found == told
    assert [outcome.case for outcome in found] == list(cases)
    return found


def test_every_fault_of_a_link_with_a_number_is_measured() -> None:
    """Those that only cut have nothing to measure; the first case is the probe itself."""
    cuts = {"partition", "flap"}
    links = {verb for verb, fault in FAULTS.items() if fault.family == "link"} - cuts
    assert {case.verb for case in CASES[1:]} == links
    assert CASES[0].verb == ""


@pytest.mark.netns
def test_chosen_packets_are_the_ones_that_are_hit() -> None:
    """Exactly where it is exact, and in the share that was asked for where it is drawn; in their time or later."""
    for outcome in outcomes(*EXACT):
        broken = [promise for promise in outcome.broken if promise.unit != "ms"]
        assert (broken, outcome.why) == ([], ""), (outcome.case.name, outcome.measured)


@pytest.mark.netns
def test_a_delay_is_the_one_that_was_asked_for() -> None:
    """Never shorter, and (in the median, on a machine that is doing something else) not much longer; in order."""
    short = dataclasses.replace(DELAY, source=("source", "200", "0.002"))
    (outcome,) = outcomes(short)
    assert 49.9 < outcome.measured["p50_ms"] < 75
    assert outcome.measured["lost_share"] == outcome.measured["late_share"] == 0
    assert outcome.mechanism == "queue"


@pytest.mark.netns
def test_what_is_off_is_told_and_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that did twice as much as it should cannot pass."""
    lying = dataclasses.replace(EXACT[0], promises=(Promise("lost_share", 0.2, 0.01, "%"),))
    monkeypatch.setattr(calibration, "CASES", (lying,))
    done = CliRunner().invoke(app, ["doctor", "--calibrate", "--for", "netns"])
    assert done.exit_code == 1 or getattr(done.exception, "code", None) == 1
    assert re.search(r"✗ lost +10\.00 %, asked 20\.00 ± 1\.00 %", done.output)


def test_what_was_not_measured_keeps_no_promise() -> None:
    """A run that came to nothing is never in tolerance."""
    assert not Outcome(DELAY, {}, "-", "it broke").kept
    assert Outcome(DELAY, {"p50_ms": 50, "p90_ms": 51, "lost_share": 0, "twice_share": 0, "late_share": 0}, "").kept


def test_every_promise_is_told_in_words() -> None:
    """What is measured, what was asked, and that an exact promise has no tolerance."""
    promises = [promise for case in CASES for promise in case.promises]
    assert all(" ± " in p.said() or p.said().startswith("exactly ") for p in promises)
    assert {p.about for p in promises} >= {"median delay", "lost", "throughput"}
    assert Promise("lost_share", 0.1, 0.035, "%").said() == "10.00 ± 3.50 %"
    assert Promise("lost_segments", 2, 0, "").said() == "exactly 2.00"
