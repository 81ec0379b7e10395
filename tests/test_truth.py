"""Promises T3, T5, T6 and T8 on real processes: sham servers, faults that do nothing, fleets that die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from midsession.agent.protocol import Thaw
from midsession.core.faultless import has_faults, without_faults
from midsession.core.plan import Plan, ReferenceService
from midsession.core.record import Event, Record
from midsession.core.verdict import Status, Verdict
from midsession.door import Bench, Run
from midsession.faults import FAULTS
from midsession.faults.base import Fault, Move, Scene
from midsession.language import collect, plans
from midsession.rundir import audit_run, judge_run, mending, read_history
from midsession.runner import Listener, run_plan
from midsession.testbeds.netns import NetnsTestbed
from midsession.testbeds.registry import has_containers
from tests.local import LocalTestbed, free_port

ROOT = Path(__file__).parent.parent

# --- T6: sham servers ----------------------------------------------------------------------------------------------

SHAMS = ("nonsense", "silent")
SHAM_TIMEOUT_S = 12.0  # a sham hangs many a scenario, whose own patience is a minute
AT_ONCE = 8


def sham(plan: Plan, behaviour: str) -> Plan:
    """The plan with every reference server replaced by one that only pretends."""
    replaced = [
        msgspec.structs.replace(s, behaviour=behaviour, grace_s=0.2) if isinstance(s, ReferenceService) else s
        for s in plan.services
    ]
    return msgspec.structs.replace(plan, services=replaced, timeout_s=min(plan.timeout_s, SHAM_TIMEOUT_S))


def shipped() -> list[Plan]:
    """The plans of every scenario that comes with Midsession, but for those that need an image."""
    found = [plan for path in collect([ROOT / "scenarios"]) for plan in plans(path, 20260)]
    return [plan for plan in found if not has_containers(plan)]


async def run_all(shams: Sequence[Plan], runs: Path) -> list[Run]:
    """Run them side by side, each on a testbed of its own."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(plan: Plan) -> Run:
        async with room:
            bench = Bench(NetnsTestbed(), runs)
            try:
                return await bench.perform(plan)
            finally:
                await bench.shut()

    return list(await asyncio.gather(*map(one, shams)))


@pytest.mark.netns
@pytest.mark.parametrize("behaviour", SHAMS)
def test_no_shipped_scenario_is_content_with_a_sham_server(behaviour: str, tmp_path: Path) -> None:
    """T6: a server that talks nonsense, or never answers, is found out by one of the scenario's own checks."""
    shams = [plan for plan in shipped() if sham(plan, behaviour) != plan]
    runs = asyncio.run(run_all([sham(plan, behaviour) for plan in shams], tmp_path))
    assert len(runs) >= 12
    content = [run.plan.source for run in runs if run.verdict.status is Status.PASS or not own_doubts(run.verdict)]
    assert content == []
    assert sum(run.verdict.status is Status.FAIL for run in runs) >= len(runs) // 2


@pytest.mark.netns
def test_every_check_of_every_shipped_scenario_can_fail(tmp_path: Path) -> None:
    """T6: over their real runs, spoilt."""
    runs = asyncio.run(run_all(shipped(), tmp_path))
    audited = [(run.plan.source, one) for run in runs for one in audit_run(run.directory)]
    assert len(audited) >= 40
    assert [(source, one.promise) for source, one in audited if not one.can_fail] == []


@pytest.mark.netns
def test_every_shipped_scenario_that_breaks_something_needs_its_faults(tmp_path: Path) -> None:
    """T6: really run with nothing broken, one of its own checks at least does not pass."""
    broken = [plan for plan in shipped() if has_faults(plan, mending(plan))]
    runs = asyncio.run(run_all([without_faults(plan, mending(plan)) for plan in broken], tmp_path))
    assert len(runs) >= 12
    assert [run.verdict.status for run in runs if run.verdict.status is Status.ERROR] == []
    assert [r for run in runs for r in run.events("injected") if r.fields["verb"] not in mending(run.plan)] == []
    content = [run.plan.source for run in runs if all(f.status is Status.PASS for f in run.own_findings)]
    assert content == []


def own_doubts(verdict: Verdict) -> list[str]:
    """The scenario's own checks that did not pass."""
    return [f.promise for f in verdict.findings if f.place and f.check != "witness" and f.status is not Status.PASS]


# --- T5: faults that do nothing ------------------------------------------------------------------------------------

TALK = """\
name: Talk while something breaks
timeout: 3s
services: {server: {reference: reply, port: PORT, grace: 1s}}
clients:
  talkers:
    count: 12
    connect: server:PORT
    script:
      - repeat: {times: TIMES, script: [{send: {line: Hi}}, {expect: {line: "Got your message ✅"}}, {wait: 3ms..8ms}]}
      - end
timeline:
TIMELINE
checks:
  - count: {event: connected, of: talkers}
    at_least: 12
"""
BREAK = "  - {id: break, when: {event: replied, count: 30}, VERB: server}"


def talk(folder: Path, timeline: str = "  []", times: int = 40) -> Plan:
    """A dozen sessions of some 6 ms for each round, on a free port."""
    path = folder / "talk.scenario.yaml"
    text = TALK.replace("PORT", str(free_port())).replace("TIMELINE", timeline).replace("TIMES", str(times))
    path.write_text(text)
    (plan,) = plans(path, 7)
    return plan


def verdict_of(plan: Plan, folder: Path, listener: Listener | None = None, fleets: int = 1) -> tuple[Path, Verdict]:
    """Run a plan on plain processes, and judge it."""
    result = asyncio.run(run_plan(plan, LocalTestbed(fleets), folder / "runs", listener))
    return result.directory, judge_run(result.directory)


def breaking() -> list[str]:
    """The faults that break a service, and need to be told nothing but which."""
    bare = [verb for verb, fault in FAULTS.items() if fault.breaks and not _needs_more(fault)]
    return [verb for verb in bare if FAULTS[verb].family == "process"]


def _needs_more(fault: type[Fault]) -> bool:
    try:
        return msgspec.convert({"target": "server"}, fault) is None
    except (msgspec.ValidationError, ValueError):
        return True


def do_nothing(self: Fault, step: str, scene: Scene) -> Sequence[Move]:
    """SIGCONT to a program that runs: the agent's call returns, and nothing has happened."""
    return (Thaw(id=0, fault=step),)


def test_there_are_faults_to_break() -> None:
    """The suite below has something to run."""
    assert len(breaking()) >= 4


@pytest.mark.parametrize("verb", breaking())
def test_a_fault_that_does_nothing_never_passes(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: it was injected, the call returned, and there is no witness; the scenario's own check is content."""
    plan = talk(tmp_path, BREAK.replace("VERB", verb))
    monkeypatch.setattr(FAULTS[verb], "inject", do_nothing)
    directory, verdict = verdict_of(plan, tmp_path)
    assert read_history(directory).events("injected").where(fault="break").count >= 1
    assert verdict.findings[0].status is Status.PASS
    assert verdict.status is Status.INCONCLUSIVE
    assert any("no witness" in f.seen for f in verdict.findings if f.check == "witness")


# --- T3 and T8: fleets that die ------------------------------------------------------------------------------------


class Killer(Listener):
    """Sends a signal to the program of the first fleet after so many replies, from when all its clients are there."""

    wants = frozenset({Event.CONNECTED, Event.REPLIED, Event.STARTED})

    def __init__(self, number: signal.Signals, after: int) -> None:
        self._number, self._left, self._pid = number, after, 0
        self._connected = set[str | None]()

    def on_record(self, record: Record) -> None:
        if record.event == Event.STARTED and record.host == "client-1":
            self._pid = int(record.fields["pid"])
        if record.event == Event.CONNECTED and record.host == "client-1":
            self._connected.add(record.client)
        if record.event == Event.REPLIED and len(self._connected) == 4:
            self._left -= 1
            if self._left == 0:
                assert self._pid > 1, "a program is started before its clients are answered"
                os.kill(self._pid, self._number)


DEATHS = [(number, 1 + 17 * n) for n in range(5) for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)]
DEATHS += [(signal.SIGTERM, 1 + 17 * n) for n in range(5)]


@pytest.mark.parametrize(("number", "after"), DEATHS)
def test_a_fleet_that_dies_cannot_pass_and_each_client_has_its_outcome(
    number: signal.Signals, after: int, tmp_path: Path
) -> None:
    """T8 and T3: killed (as for memory), crashed, or politely ended with code 0: 20 of 20; N outcomes, none made up."""
    plan = talk(tmp_path, times=400)
    directory, verdict = verdict_of(plan, tmp_path, Killer(number, after), fleets=3)
    assert verdict.status is (Status.INCONCLUSIVE if number == signal.SIGTERM else Status.ERROR)
    outcomes = read_history(directory).outcomes
    assert list(outcomes) == plan.clients
    dead = {r.client for r in read_history(directory).events("connecting").on("client-1")}
    assert len(dead) == 4
    assert {outcomes[str(client)].word for client in dead} == {"info"}
    others = {outcome.reason for client, outcome in outcomes.items() if client not in dead}
    assert others <= {"ok", "stopped"}, "the run ends when a part of the harness has died"
