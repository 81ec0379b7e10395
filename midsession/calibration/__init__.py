"""Calibration: does a fault do what it says on this machine? Measured by a neutral probe, compared with what was asked.

Each case is a run like any other, on hosts of the testbed: the fault goes the whole way from the timeline to the
kernel, and two plain programs with plain sockets (`probe.py`) measure what it does to their packets.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from midsession.calibration.cases import CASES, Case, Measured, Promise
from midsession.core.plan import Plan
from midsession.core.record import Event
from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.errors import EnvironmentLacks
from midsession.interrupts import heard
from midsession.language import plans
from midsession.testbeds import Testbed

__all__ = ["CASES", "Case", "Outcome", "calibrate"]

PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
"""Its source goes into the command: a host has a Python on its PATH, but need not have our files, or not there."""
SEED = 1
"""Draws are the same each time: what changes from one calibration to the next is the machine."""

_SCENARIO = """
name: {name}
timeout: 30s
services:
  sink: {{command: {sink}, port: 4000, ready: {{line: listening}}}}
  source: {{command: {source}, port: 4001, autostart: false, ready: {{line: begun}}}}
clients:
  bystanders:
    count: 1
    connect: sink:4000
    script: [{{wait: {{signal: over}}}}, end]
timeline:
{timeline}
  - id: measured
    when: {{log: {{service: sink, contains: "measured "}}}}
    signal: over
checks:
  - count: {{event: line, of: sink}}
    at_least: 1
"""
_FAULT = """
  - id: fault
    when: {{every: bystanders, event: connected}}
    {verb}: {{target: sink, with: source, {fields}}}
  - when: {{event: injected, of: sink}}
    start: source
"""
_HEAL = """
  - when: {{after: fault, wait: {heal_after}}}
    heal: fault
"""
_NO_FAULT = """
  - when: {every: bystanders, event: connected}
    start: source
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case came to. `measured` is empty when the run gave nothing; `why` says so then.

    `lacking`: this machine cannot do it at all, so that there is nothing to measure.
    """

    case: Case
    measured: Measured
    mechanism: str
    why: str = ""
    lacking: bool = False

    @property
    def kept(self) -> bool:
        """All its promises."""
        return not self.broken

    @property
    def broken(self) -> list[Promise]:
        """The promises that what was measured does not keep."""
        return [promise for promise in self.case.promises if not promise.keeps(self.measured)]


def calibrate(testbed: Testbed, cases: Iterable[Case], told: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure each case, telling what came of it as it comes. Not for use inside a running event loop.

    Raises KeyboardInterrupt when a run was interrupted.
    """
    with heard():  # between two runs, an interrupt is kept for the next
        return asyncio.run(_calibrate(testbed, cases, told))


async def _calibrate(testbed: Testbed, cases: Iterable[Case], told: Callable[[Outcome], None]) -> list[Outcome]:
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="midsession-calibration-") as folder:
        bench = Bench(testbed, Path(folder))
        try:
            for case in cases:
                outcome = await _measure(bench, case, Path(folder))
                told(outcome)
                outcomes.append(outcome)
        finally:
            await bench.shut()
    return outcomes


async def _measure(bench: Bench, case: Case, folder: Path) -> Outcome:
    try:
        run = await bench.perform(_plan(case, folder))
    except EnvironmentLacks as lacks:
        return Outcome(case, {}, "-", str(lacks), lacking=True)
    if run.why_ended == "interrupted":
        raise KeyboardInterrupt
    return _outcome(case, run)


def _plan(case: Case, folder: Path) -> Plan:
    path = folder / "calibration.scenario.yaml"
    path.write_text(scenario(case), encoding="utf-8")
    (plan,) = plans(path, SEED)
    return plan


def scenario(case: Case) -> str:
    """The run of a case, as YAML."""
    mode, *rest = case.source
    count = rest[0] if mode == "source" else "0"
    timeline = _FAULT.format(verb=case.verb, fields=case.fields) if case.verb else _NO_FAULT
    timeline += _HEAL.format(heal_after=case.heal_after) if case.heal_after else ""
    return _SCENARIO.format(
        name=f"calibration of {case.name}",
        sink=_argv("sink", "4000", count),
        source=_argv(mode, "sink", "4000", *rest),
        timeline=timeline,
    )


def _argv(*arguments: str) -> str:
    return json.dumps(["python3", "-c", PROBE, *arguments])


def _outcome(case: Case, run: Run) -> Outcome:
    said = _said(run, "sink")
    mechanisms = [str(r.fields.get("mechanism", r.fields["verb"])) for r in run.events(Event.INJECTED).on("sink")]
    mechanism = mechanisms[0] if mechanisms else "-"
    if not said:
        return Outcome(case, {}, mechanism, _why(run))
    measured = said[0]
    for sent in (line["segments_sent"] for line in _said(run, "source")):
        measured["lost_segments"] = sent - measured["segments_came"]
        measured["lost_share"] = measured["lost_segments"] / sent
    healed = list(run.events(Event.HEALED))
    measured["overrun"] = sum(record.fields.get("overrun", 0) for record in healed)
    cures = [record for record in run.events(Event.TRIGGERED) if record.fields["verb"] == "heal"]
    if cures and "first_ns" in measured:
        measured["since_heal_ms"] = (measured["first_ns"] - cures[0].t_ns) / 1e6
    return Outcome(case, measured, mechanism)


def _said(run: Run, host: str) -> list[dict[str, float]]:
    lines = [str(record.fields["text"]) for record in run.events(Event.LINE).on(host)]
    return [json.loads(line.removeprefix("measured ")) for line in lines if line.startswith("measured ")]


def _why(run: Run) -> str:
    """Why there is nothing to compare."""
    problems = [f"{f.check}: {f.seen}" for f in run.verdict.findings if f.status is not Status.PASS]
    return "; ".join(problems) or "the probe measured nothing"
