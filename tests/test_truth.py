"""Promises T3, T5, T6 and T8 on real processes: sham servers, faults that do nothing, fleets that die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from midsession.agent.protocol import Filter, Impair, Kill, Mislead, Thaw
from midsession.core.faultless import has_faults, without_faults
from midsession.core.plan import Plan, ReferenceService
from midsession.core.record import Event, Record
from midsession.core.verdict import Status, Verdict
from midsession.door import Bench, Run
from midsession.faults import FAULTS
from midsession.faults.base import Fault, Move, Rest, Scene
from midsession.language import collect, plans
from midsession.rundir import audit_run, judge_run, mending, read_history
from midsession.runner import Listener, run_plan
from midsession.testbeds.netns.testbed import NetnsTestbed
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


def run_all(shams: Sequence[Plan], runs: Path) -> list[Run]:
    """Run them side by side, each on a testbed and in a thread of its own: one thread hears of one run's interrupts."""

    async def perform(plan: Plan) -> Run:
        bench = Bench(NetnsTestbed(), runs)
        try:
            return await bench.perform(plan)
        finally:
            await bench.shut()

    with ThreadPoolExecutor(AT_ONCE) as room:
        return list(room.map(lambda plan: asyncio.run(perform(plan)), shams))


@pytest.mark.netns
@pytest.mark.parametrize("behaviour", SHAMS)
def test_no_shipped_scenario_is_content_with_a_sham_server(behaviour: str, tmp_path: Path) -> None:
    """T6: a server that talks nonsense, or never answers, is found out by one of the scenario's own checks."""
    shams = [plan for plan in shipped() if sham(plan, behaviour) != plan]
    runs = run_all([sham(plan, behaviour) for plan in shams], tmp_path)
    assert len(runs) >= 12
    content = [run.plan.source for run in runs if run.verdict.status is Status.PASS or not own_doubts(run.verdict)]
    assert content == []
    assert sum(run.verdict.status is Status.FAIL for run in runs) >= len(runs) // 2


@pytest.mark.netns
def test_every_check_of_every_shipped_scenario_can_fail(tmp_path: Path) -> None:
    """T6: over their real runs, spoilt."""
    runs = run_all(shipped(), tmp_path)
    audited = [(run.plan.source, one) for run in runs for one in audit_run(run.directory)]
    assert len(audited) >= 40
    assert [(source, one.promise) for source, one in audited if not one.can_fail] == []


@pytest.mark.netns
def test_every_shipped_scenario_that_breaks_something_needs_its_faults(tmp_path: Path) -> None:
    """T6: really run with nothing broken, one of its own checks at least does not pass."""
    broken = [plan for plan in shipped() if has_faults(plan, mending(plan))]
    runs = run_all([without_faults(plan, mending(plan)) for plan in broken], tmp_path)
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


TALK_ON_HOSTS = """\
name: Talk while the network breaks
timeout: 3s
services: {server: {reference: reply, port: 4000, grace: 1s}}
clients:
  talkers:
    count: 8
    connect: server:4000
    arrive: {every: 100ms}
    script:
      - repeat: {times: 20, script: [{send: {line: Hi}}, {expect: {line: "Got your message ✅"}}, {wait: 3ms..8ms}]}
      - wait: 60ms
      - send: {line: "Are you still there?"}
      - expect: {line: "Got your message ✅"}
      - end
timeline:
  - {id: break, when: {event: replied, count: 10}, FAULT}
checks:
  - count: {event: connected, of: talkers}
    at_least: 8
"""
"""Clients come one by one, so that some look the name up after the fault; each is idle for a while before it ends."""

ON_HOSTS = [
    "power_off: server",
    "vanish: server",
    "readdress: server",
    "partition: server",
    "loss: {target: server, rate: 100%}",
    "loss: {target: server, rate: 50%, burst: 4}",
    "hold: server",
    "delay: {target: server, latency: 5ms}",
    "rate: {target: server, bandwidth: 1KiB/s}",
    "reorder: {target: server, every: 2}",
    "duplicate: {target: server, every: 2}",
    "corrupt: {target: server, every: 2}",
    "mtu: {target: server, size: 68B}",
    "flap: {target: server, down: 50ms, up: 50ms}",
    "refuse: server",
    "ignore: server",
    "idle_expiry: {target: server, after: 30ms}",
    "reset: talkers",
    "dns: {target: server, says: nxdomain}",
]
"""The faults of hosts, links, connections and names, so that the talk above meets them."""

NOBODY = "10.77.255.254"


def talks_on_hosts(folder: Path) -> list[Plan]:
    """The talk with each of them."""
    return talks(folder, ON_HOSTS, TALK_ON_HOSTS)


def talks(folder: Path, faults: Sequence[str], text: str) -> list[Plan]:
    """A talk with each of the faults; what heals does so after a while, and waits for its witness no longer."""
    found = []
    for number, fault in enumerate(faults):
        path = folder / f"{number}.scenario.yaml"
        heals = FAULTS[verb_of(fault)].healable
        path.write_text(text.replace("FAULT", fault + ", for: 700ms" * heals))
        found += plans(path, 7)
    return found


def verb_of(fault: str) -> str:
    """Of a line of the list above."""
    return fault.partition(":")[0]


def missed(move: Move, step: str) -> Move:
    """The same for an address or a name that nobody has; what cannot be aimed amiss becomes a call without effect."""
    match move:
        case Filter() | Impair():
            return msgspec.structs.replace(move, peers=[NOBODY])
        case Mislead():
            return msgspec.structs.replace(move, name="nobody")
        case Rest():
            return move
    return Thaw(id=0, fault=step)


def aimed_amiss(fault: type[Fault]) -> Callable[[Fault, str, Scene], Sequence[Move]]:
    """An `inject` that goes through all the motions, and hits nothing."""
    inject = fault.inject
    return lambda self, step, scene: [missed(move, step) for move in inject(self, step, scene)]


def test_every_fault_is_broken_on_purpose() -> None:
    """Here or above, but for those that only bring a program back."""
    assert {verb_of(fault) for fault in ON_HOSTS} | set(breaking()) == {
        verb for verb, fault in FAULTS.items() if fault.breaks
    }


@pytest.mark.netns
def test_unharmed_each_of_them_meets_the_talk(tmp_path: Path) -> None:
    """So that it is for want of effect that the runs below are inconclusive."""
    runs = run_all(talks_on_hosts(tmp_path), tmp_path)
    proven = [fault for fault, run in zip(ON_HOSTS, runs, strict=True) if run.events("effective").count == 1]
    assert proven == ON_HOSTS


@pytest.mark.netns
def test_a_fault_that_is_aimed_amiss_never_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: every call returned, the rules were there and met nobody; the scenario's own check is content."""
    for verb in {verb_of(fault) for fault in ON_HOSTS}:
        monkeypatch.setattr(FAULTS[verb], "inject", aimed_amiss(FAULTS[verb]))
    runs = run_all(talks_on_hosts(tmp_path), tmp_path)
    assert [run.events("injected").where(fault="break").count >= 1 for run in runs] == [True] * len(ON_HOSTS)
    assert [[f.status for f in run.own_findings] for run in runs] == [[Status.PASS]] * len(ON_HOSTS)
    assert [run.verdict.status for run in runs] == [Status.INCONCLUSIVE] * len(ON_HOSTS)
    assert [unproven(run) for run in runs] == [True] * len(ON_HOSTS)


@pytest.mark.netns
def test_a_shipped_scenario_whose_fault_does_nothing_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T5: neither that its promises are kept, nor that they are broken: what counts from the fault has no say."""
    breaking = [plan for plan in shipped() if has_faults(plan, mending(plan))]
    for fault in FAULTS.values():
        if fault.breaks:
            monkeypatch.setattr(fault, "inject", do_nothing)
    runs = run_all([msgspec.structs.replace(plan, timeout_s=4.0) for plan in breaking], tmp_path)
    assert len(runs) >= 25
    assert [run.plan.source for run in runs if not run.events("injected").count] == []
    assert [run.plan.source for run in runs if run.verdict.status is not Status.INCONCLUSIVE] == []


ANOTHER = "  other: {reference: reply, port: 4000, grace: 1s}\n"
"""A service that nobody talks to."""
OF_PROGRAMS = ["kill: server", "stop: server", "pause: server", "restart: server"]


@pytest.mark.netns
def test_a_fault_on_the_wrong_service_never_passes(tmp_path: Path) -> None:
    """T5: nothing is taken away from it but its target; some are witnessed all the same, and had no say."""
    faults = [fault for fault in [*ON_HOSTS, *OF_PROGRAMS] if "server" in fault]
    amiss = [fault.replace("server", "other") for fault in faults]
    services = TALK_ON_HOSTS.replace(
        "services: {server: {reference: reply, port: 4000, grace: 1s}}\n",
        "services:\n  server: {reference: reply, port: 4000, grace: 1s}\n" + ANOTHER,
    )
    runs = run_all(talks(tmp_path, amiss, services), tmp_path)
    assert len(runs) >= 20
    assert [run.plan.timeline[0].targets for run in runs] == [["other"]] * len(runs)
    assert [[f.status for f in run.own_findings] for run in runs] == [[Status.PASS]] * len(runs)
    assert [
        fault for fault, run in zip(amiss, runs, strict=True) if run.verdict.status is not Status.INCONCLUSIVE
    ] == []
    witnessed = {verb_of(fault) for fault, run in zip(amiss, runs, strict=True) if run.events("effective").count}
    assert witnessed == {"kill", "stop", "pause", "restart", "vanish", "readdress", "flap"}


@pytest.mark.netns
def test_a_fault_that_comes_when_everybody_has_left_never_passes(tmp_path: Path) -> None:
    """T5: the check is content with what came before."""
    late = TALK_ON_HOSTS.replace("{event: replied, count: 10}", "{every: talkers, event: done}")
    runs = run_all(talks(tmp_path, [*ON_HOSTS, *OF_PROGRAMS], late), tmp_path)
    assert [[f.status for f in run.own_findings] for run in runs] == [[Status.PASS]] * len(runs)
    assert [run.verdict.status for run in runs] == [Status.INCONCLUSIVE] * len(runs)
    assert sum(run.events("effective").count for run in runs) >= 7


@pytest.mark.netns
@pytest.mark.parametrize("amiss", [Filter, Kill])
def test_half_a_power_off_never_passes(amiss: type[Move], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program killed on an open network says goodbye, and one behind a closed network lives on."""
    inject = FAULTS["power_off"].inject

    def half(self: Fault, step: str, scene: Scene) -> Sequence[Move]:
        return [missed(move, step) if isinstance(move, amiss) else move for move in inject(self, step, scene)]

    monkeypatch.setattr(FAULTS["power_off"], "inject", half)
    (run,) = run_all(talks_on_hosts(tmp_path)[:1], tmp_path)
    assert run.plan.timeline[0].verb == "power_off"
    assert bool(run.events("exited").where(signal="KILL").count) == (amiss is Filter)
    assert bool(run.events("witnessed").count) == (amiss is Kill)
    assert unproven(run)
    assert run.verdict.status is not Status.PASS


def unproven(run: Run) -> bool:
    """Whether its fault is said to have no witness."""
    return any("no witness" in f.seen for f in run.verdict.findings if f.check == "witness")


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
