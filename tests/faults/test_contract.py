"""The contract of every fault, on real hosts: what a neutral client sees is what the docstring says, and it heals.

The client (`probe.py`) is a plain program with plain sockets on a host of its own; its account is what the judgement
rests on, not our fleet's. A fault that hits nothing is never a pass.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from typing import get_args

import pytest

from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.errors import EnvironmentLacks
from midsession.faults import FAULTS
from midsession.faults.base import Ability
from midsession.language import plans
from midsession.runner import run_plan
from tests.fakes import FakeClock, FakeTestbed, run_on

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios" / "faults"
PROBE = Path(__file__).with_name("probe.py")

ALL_WELL = "live=answered long=answered new=connected"
BACK = f"again {ALL_WELL}"

TEMPLATE = """
name: What a neutral client sees
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000, grace: 1s}}
  probe:
    command: [{python}, {probe}, server, "4000"]
    port: 4001
    ready: {{line: "live="}}
clients:
  idlers:
    count: 1
    connect: server:4000
    arrive: {{at: 0s}}
    on_loss: {{reconnect: {{first: 50ms, max: 50ms, attempts: 1000}}}}
    script:
      - wait: {{signal: goodbye}}
      - abort
timeline:
  - id: fault
    when: {{all: [{{every: idlers, event: connected}}, {{log: {{service: probe, contains: "{well}"}}}}]}}
    {fault}
  - id: seen
    when: {{all: [{{after: fault}}, {{log: {{service: probe, contains: "{seen}"}}}}]}}
    {cure}
  - when: {{all: [{{after: seen}}, {{log: {{service: probe, contains: "{back}"}}}}]}}
    signal: goodbye
checks:
  - count: {{event: injected}}
    at_least: 1
"""

HEAL = "heal: fault"
START = "start: server"
NOTHING = "note: it comes back by itself"

SEEN = [
    ("kill: server", "new=refused", START),
    ("stop: server", "live=FIN long=FIN new=refused", START),
    ("restart: {target: server, after: 300ms}", "live=FIN long=FIN new=refused", NOTHING),
    ("pause: server", "live=silence long=silence new=connected", "resume: server"),
    ("pause: server", "live=silence long=silence new=connected", HEAL),
    ("partition: server", "live=silence long=silence new=timeout", HEAL),
    ("partition: {target: server, with: probe}", "live=silence long=silence new=timeout", HEAL),
    ("partition: {target: probe, direction: from}", "live=silence long=silence new=timeout", HEAL),
    ("partition: {target: server, direction: to}", "live=silence long=silence new=timeout", HEAL),
    ("partition: {target: server, state: new}", "live=answered long=answered new=timeout", HEAL),
    ("partition: {target: server, state: established}", "live=silence long=silence new=connected", HEAL),
    ("loss: {target: server, rate: 100%}", "live=silence long=silence new=timeout", HEAL),
    ("loss: {target: server, rate: 90%, burst: 1000}", "live=silence long=silence new=timeout", HEAL),
    ("hold: server", "live=silence long=silence new=timeout", HEAL),
    ("hold: {target: probe, with: server, direction: from}", "live=silence long=silence new=timeout", HEAL),
    ("delay: {target: server, latency: 5s}", "live=silence long=silence new=timeout", HEAL),
    ("rate: {target: server, bandwidth: 100B/s, queue: 10s}", "live=silence long=silence new=timeout", HEAL),
    ("corrupt: {target: server, every: 1}", "live=silence long=silence new=timeout", HEAL),
    ("mtu: {target: server, size: 600B}", "live=answered long=silence new=connected", HEAL),
    ("flap: {target: server, down: 1s, up: 100ms}", "live=silence long=silence new=timeout", NOTHING),
    ("readdress: server", "live=silence long=silence new=connected", HEAL),
    ("refuse: server", "live=answered long=answered new=refused", HEAL),
    ("ignore: {target: server, with: probe}", "live=answered long=answered new=timeout", HEAL),
]
"""A fault, what the neutral client then sees, and what makes all well again."""

FOR_GOOD = [
    ("power_off: server", "live=silence long=silence new=timeout"),
    ("vanish: server", "new=timeout"),
]
"""Those after whose cure the server must be started: what is seen is enough."""

NO_OPS = [
    "partition: {target: server, with: idlers}",
    "partition: {target: server, with: idlers, state: new}",
    "loss: {target: server, every: 100000}",
    "hold: {target: server, with: idlers}",
    "delay: {target: server, with: idlers, latency: 50ms}",
    "reorder: {target: server, every: 100000}",
    "mtu: {target: server, size: 9000B}",
    "refuse: {target: server, with: idlers}",
    "ignore: {target: server, with: idlers}",
]
"""Faults that nothing meets: the wrong peer, or nothing large enough."""


def perform(netns: tuple[asyncio.Runner, Bench], folder: Path, text: str) -> Run:
    path = folder / "probe.scenario.yaml"
    path.write_text(text)
    (plan,) = plans(path, 1)
    runner, bench = netns
    return runner.run(bench.perform(plan))


def scenario(fault: str, seen: str, cure: str, back: str = BACK) -> str:
    return TEMPLATE.format(
        python=sys.executable, probe=PROBE, fault=fault, seen=seen, cure=cure, back=back, well=ALL_WELL
    )


def told(run: Run) -> str:
    """Why it is no pass, and what the probe saw."""
    seen = [r.fields["text"] for r in run.events("line").on("probe")]
    return "\n".join([f"{f.check}: {f.seen}" for f in run.verdict.findings if f.status is not Status.PASS] + seen)


@pytest.mark.netns
@pytest.mark.parametrize(("fault", "seen", "cure"), SEEN)
def test_a_neutral_client_sees_what_the_fault_says_and_its_end(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, seen: str, cure: str
) -> None:
    """By socket errors and silence alone; then all is well again."""
    run = perform(netns, tmp_path, scenario(fault, seen, cure))
    assert run.verdict.status is Status.PASS, told(run)


@pytest.mark.netns
def test_nobody_is_at_the_old_address(netns: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """Who connects to the address, not to the name, finds nobody, until the host is back."""
    text = scenario("readdress: server", "live=silence long=silence new=timeout", HEAL)
    (by_name,) = [line for line in text.splitlines() if "command:" in line]
    run = perform(netns, tmp_path, text.replace(by_name, by_name.replace("server", "10.77.0.2")))
    assert run.verdict.status is Status.PASS, told(run)


@pytest.mark.netns
def test_a_move_that_no_name_could_follow_is_inconclusive(netns: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """The link is down when the host is to move, so that the name service could hear nothing; it comes up all the same,
    also when the move was to end before that."""
    text = scenario("flap: {target: server, down: 800ms, up: 50ms}", "live=silence long=silence new=timeout", NOTHING)
    move = "  - id: move\n    when: {after: fault, wait: 50ms}\n    readdress: server\n    for: 200ms\nchecks:"
    run = perform(netns, tmp_path, text.replace("checks:", move))
    assert run.verdict.status is Status.INCONCLUSIVE, told(run)
    assert run.history.steps["fault"].effective is not None
    assert run.history.steps["fault"].healed is not None
    assert run.history.steps["move"].injected is None
    assert run.history.steps["move"].effective is None


BACK_IN_TROUBLE = """
name: A move that ends while its host's link is broken
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: 2
    connect: server:4000
    on_loss: {{reconnect: {{first: 20ms, max: 50ms, attempts: 500}}}}
    script:
      - repeat: {{until: goodbye, script: [send: {{line: hello}}, expect: {{contains: message, within: 5s}}]}}
      - abort
timeline:
  - {{id: move, when: {{every: talkers, event: replied}}, readdress: server{until}}}
  - {{id: other, when: {{after: move, wait: 50ms}}, {fault}}}
  - {{when: {goodbye}, signal: goodbye}}
checks:
  - {{every: talkers, meets: replied}}
"""


@pytest.mark.netns
@pytest.mark.parametrize(
    "fault",
    [
        "partition: server",
        "hold: server",
        "delay: {target: server, latency: 300ms}",
        "loss: {target: server, rate: 95%}",
    ],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_a_move_ends_whatever_else_its_host_s_link_suffers(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, is_last: bool
) -> None:
    """What is done to packets of its own address keeps no name from leading there again, nor a run from ending."""
    waits = {"until": ", for: 200ms", "goodbye": "{after: other, wait: 900ms}"}
    if is_last:  # both are there until the run's end
        waits = {"until": "", "goodbye": "{after: other, wait: 50ms}"}
    run = perform(netns, tmp_path, BACK_IN_TROUBLE.format(fault=f"{fault}{'' if is_last else ', for: 800ms'}", **waits))
    assert run.verdict.status is not Status.ERROR, told(run)
    assert is_last or run.verdict.status is Status.PASS, told(run)
    healed = [run.history.steps[step].healed for step in ("move", "other")]
    move, other = (r.t_ns for r in healed if r is not None)
    assert move < other


@pytest.mark.netns
@pytest.mark.parametrize(("fault", "seen"), FOR_GOOD)
def test_a_neutral_client_sees_a_host_go(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, seen: str
) -> None:
    """Silence from the first moment, or a goodbye and then a void."""
    text = scenario(fault, seen, "note: it is gone", back=seen)
    stays_away = "\n".join(line for line in text.splitlines() if "on_loss" not in line)
    run = perform(netns, tmp_path, stays_away)
    assert run.verdict.status is Status.PASS, told(run)
    lines = [str(r.fields["text"]) for r in run.events("line").on("probe")]
    said_goodbye = [line for line in lines if "=FIN" in line or "=RST" in line or "refused" in line]
    assert bool(said_goodbye) == fault.startswith("vanish")


@pytest.mark.netns
@pytest.mark.parametrize("fault", NO_OPS)
def test_a_fault_that_nothing_meets_is_inconclusive(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str
) -> None:
    """Rules without a packet prove nothing, though they were put in and taken out (T5)."""
    text = scenario(fault + "\n    for: 300ms", ALL_WELL, "note: nothing has happened", back=ALL_WELL)
    text = text.replace("{after: fault}", "{at: 600ms}")
    run = perform(netns, tmp_path, text)
    assert run.verdict.status is Status.INCONCLUSIVE, told(run)
    assert run.history.steps["fault"].injected is not None
    assert run.history.steps["fault"].healed is not None
    assert [f.status for f in run.verdict.findings if f.check == "witness"] == [Status.INCONCLUSIVE]


INTROVERT = """
name: A server that speaks with itself alone
timeout: 20s
services:
  server:
    command: [{python}, {program}, 10.77.0.2, "4000"]
    port: 4000
    ready: {{line: "round 1"}}
    grace: 0s
clients:
  idlers:
    count: 2
    connect: server:4000
    script: [wait: {{signal: goodbye}}, abort]
timeline:
  - id: fault
    when: {{all: [{{every: idlers, event: connected}}, {{log: {{service: server, contains: "round 3"}}}}]}}
    {fault}
  - when: {{log: {{service: server, contains: "round 13"}}}}
    heal: fault
  - when: {{log: {{service: server, contains: "round 20"}}}}
    signal: goodbye
checks:
  - count: {{event: connected, of: idlers}}
    equals: 2
"""

UNMET = [
    "partition: server",
    "partition: {target: server, state: established}",
    "partition: {target: server, state: new, direction: to}",
    "loss: {target: server, rate: 100%}",
    "loss: {target: server, rate: 50%, burst: 4}",
    "mtu: {target: server, size: 68B}",
    "hold: server",
    "rate: {target: server, bandwidth: 100B/s}",
    "refuse: server",
    "ignore: server",
    "idle_expiry: {target: server, after: 10ms}",
    "idle_expiry: {target: server, after: 10ms, how: reset}",
]
"""Faults that would break what the server says to itself, and prove themselves by it."""


@pytest.mark.netns
@pytest.mark.parametrize("fault", UNMET)
def test_what_a_host_says_to_itself_is_unharmed_and_proves_nothing(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str
) -> None:
    """T5: while its clients are idle, its own connections and health checks are no witness, and go on."""
    program = PROBE.with_name("introvert.py")
    run = perform(netns, tmp_path, INTROVERT.format(python=sys.executable, program=program, fault=fault))
    assert run.verdict.status is Status.INCONCLUSIVE, told(run)
    story = run.history.steps["fault"]
    assert story.injected is not None
    assert story.effective is None
    assert story.healed is not None
    during = [r for r in run.events("line").on("server") if story.injected.t_ns < r.t_ns < story.healed.t_ns]
    assert len(during) >= 5
    assert [f.status for f in run.verdict.findings if f.check == "witness"] == [Status.INCONCLUSIVE]
    assert [f.status for f in run.own_findings] == [Status.PASS]


@pytest.mark.netns
def test_exactly_each_nth_packet_is_lost(netns: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """The counters of the healed rule: lost = seen // n, over some hundred packets."""
    (plan,) = plans(SCENARIOS / "loss.scenario.yaml", 1)
    runner, bench = netns
    run = runner.run(bench.perform(plan))
    (healed,) = run.events("healed")
    assert healed.fields["seen"] > 60
    assert healed.fields["packets"] == healed.fields["seen"] // 10


@pytest.mark.parametrize("verb", FAULTS)
def test_every_fault_has_a_scenario_and_a_place_in_the_docs(verb: str) -> None:
    """Both bear its name."""
    (plan,) = plans(SCENARIOS / f"{verb}.scenario.yaml", 1)
    assert verb in [s.verb for s in plan.timeline]
    assert f"### {verb}\n" in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_the_page_of_faults_is_made_from_them() -> None:
    """`python tools/faults_page.py` has been run since a fault was changed."""
    tool = runpy.run_path(str(ROOT / "tools" / "faults_page.py"))
    assert tool["page"]() == (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_fault_is_proven_here() -> None:
    """By the neutral client; `start`, `resume` are cures there, three need clients of ours, and what TCP hides from
    programs is measured in `tests/test_calibration.py`."""
    text = " ".join([*(f"{fault} {cure}" for fault, _, cure in SEEN), *(fault for fault, _ in FOR_GOOD)])
    proven = {word.rstrip(":") for word in text.split() if word.endswith(":")}
    assert set(FAULTS) - proven == {"reset", "idle_expiry", "dns", "reorder", "duplicate"}


@pytest.mark.parametrize("verb", [verb for verb, fault in FAULTS.items() if fault.needs])
def test_a_testbed_that_cannot_do_it_says_so_before_it_begins(verb: str, tmp_path: Path) -> None:
    """Exit 10, with the remedy; no host was made (M1)."""
    (plan,) = plans(SCENARIOS / f"{verb}.scenario.yaml", 1)
    clock = FakeClock()
    testbed = FakeTestbed(clock)
    testbed.unable = dict.fromkeys(get_args(Ability), "run it with `--testbed netns`")
    with pytest.raises(EnvironmentLacks, match="--testbed netns") as lacks:
        run_on(clock, run_plan(plan, testbed, tmp_path, clock=clock))
    assert (lacks.value.slug, lacks.value.exit_code) == ("no-ability", 10)
    assert "open" not in testbed.calls


ONE_OF_FIVE = """
name: One client of five is hit
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: 5
    connect: server:4000
    script:
      - repeat:
          until: goodbye
          script:
            - send: {{line: "Message {{n}}"}}
            - expect: {{line: "Got your message ✅", within: 8s}}
            - wait: 5ms
      - end
timeline:
  - id: cut
    when: {{every: talkers, event: replied}}
    {fault}
  - id: cured
    when: {{after: cut, wait: 400ms}}
    heal: cut
  - when: {{every: talkers, event: replied, since: cured}}
    signal: goodbye
checks:
  - never: {{event: lost}}
"""


@pytest.mark.netns
@pytest.mark.parametrize(
    "fault",
    [
        "partition: {target: talkers-3, state: established}",
        "partition: {target: talkers-3, direction: to}",
        "loss: {target: {one: talkers}, rate: 100%, port: 4000, protocol: tcp}",
    ],
)
def test_a_fault_on_one_client_hits_its_connection_and_no_other_of_its_host(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str
) -> None:
    """Nothing is answered to it while the fault is in force; its neighbours talk on; then its answer comes."""
    run = perform(netns, tmp_path, ONE_OF_FIVE.format(fault=fault))
    assert run.verdict.status is Status.PASS, told(run)
    (victim,) = run.history.plan.timeline[0].targets
    story = run.history.steps["cut"]
    assert story.injected is not None
    assert story.healed is not None
    heard = {f"talkers-{n}": 0 for n in range(1, 6)}
    for record in run.events("replied"):
        asked_ns = record.t_ns - record.fields["rtt_ns"]  # an earlier one's answer was in the kernel already
        heard[str(record.client)] += story.injected.t_ns < asked_ns and record.t_ns < story.healed.t_ns
    assert heard.pop(victim) == 0
    assert min(heard.values()) >= 10
    assert story.healed.fields["packets"] > 0


LOOKED_UP = """
name: Who comes late has to look the name up
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
  spare: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: 2
    connect: server:4000
    connect_timeout: 5s
    arrive: {{every: 800ms}}
    script: [wait: {{signal: goodbye}}, end]
timeline:
  - id: lie
    when: {{event: connected, of: talkers}}
    {fault}
  - when: {{any: [{{event: lost, of: talkers}}, {{event: accepted, of: spare}}]}}
    signal: goodbye
checks:
  - count: {{event: lost, of: talkers{how}}}
    equals: {lost}
  - count: {{event: accepted, of: server}}
    equals: 1
"""


LIES = [
    ("dns: {target: server, says: nxdomain}", ", as: name", 1),
    ("dns: {target: server, says: timeout}", ", as: name", 1),
    ("dns: {target: server, says: wrong}", ", as: refused", 1),
    ("dns: {target: server, says: wrong, to: spare}", "", 0),
]
"""A fault, and how often and how the one who comes late is lost by it."""


@pytest.mark.netns
@pytest.mark.parametrize(("fault", "how", "lost"), LIES)
def test_who_connects_hears_what_the_resolver_says(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, how: str, lost: int
) -> None:
    """The one who is connected already needs no name."""
    run = perform(netns, tmp_path, LOOKED_UP.format(fault=fault, how=how, lost=lost))
    assert run.verdict.status is Status.PASS, told(run)
    (healed,) = run.events("healed")
    assert healed.fields["queries"] >= 1
    assert [str(r.client) for r in run.events("lost")] == ["talkers-2"] * lost


ELSEWHERE = """
name: Connected elsewhere
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
  other: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: 3
    connect: server:4000
    on_loss: {{reconnect: {{first: 10ms, max: 50ms, attempts: 50}}}}
    script:
      - connect: other:4000
      - repeat:
          until: goodbye
          script:
            - send: {{line: "Message {{n}}"}}
            - expect: {{line: "Got your message ✅", within: 8s}}
            - wait: 5ms
      - end
timeline:
  - id: hit
    when: {{every: talkers, event: replied}}
    {fault}
  - when: {{event: lost, of: talkers, count: {lost}, since: hit}}
    signal: goodbye
checks:
  - count: {{event: lost, of: talkers, as: {how}, since: hit}}
    at_least: {lost}
"""
"""Clients whose script takes them to another service than their group's."""


@pytest.mark.netns
@pytest.mark.parametrize(
    ("fault", "how", "lost"),
    [
        ("reset: {target: talkers, end: server}", "reset", 3),
        ("reset: {target: talkers-2, end: server}", "reset", 1),
    ],
)
def test_a_connection_is_reset_at_the_service_to_which_it_goes(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, how: str, lost: int
) -> None:
    """The group's own service has nothing to destroy, and is left out."""
    run = perform(netns, tmp_path, ELSEWHERE.format(fault=fault, how=how, lost=lost))
    assert run.verdict.status is Status.PASS, told(run)
    assert {r.host for r in run.events("witnessed")} == {"other"}
    assert run.events("witnessed").first is not None


@pytest.mark.netns
def test_a_name_is_lied_about_where_only_the_script_says_it(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path
) -> None:
    """Who comes back to it finds no such name."""
    snap = "  - {when: {every: talkers, event: replied, since: hit}, reset: talkers}\nchecks:"
    text = ELSEWHERE.format(fault="dns: {target: other, says: nxdomain}", how="name", lost=1).replace("checks:", snap)
    text = text.replace("{event: lost, of: talkers, count: 1, since: hit}", "{after: hit}")
    run = perform(netns, tmp_path, text)
    assert run.verdict.status is Status.PASS, told(run)


MOVED = """
name: Reset after a move
timeout: 10s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: 2
    connect: server:4000
    arrive: {{every: 500ms}}
    script: [wait: {{signal: goodbye}}, abort]
timeline:
  - {{id: move, when: {{event: connected, of: talkers}}, readdress: server}}
  - {{id: snap, when: {{event: connected, of: talkers, count: 2}}, reset: {{target: {target}, end: server}}}}
  - {{when: {{event: lost, of: talkers, since: snap}}, signal: goodbye}}
checks:
  - count: {{event: lost, of: talkers, as: reset, since: snap}}
    equals: 1
"""


@pytest.mark.netns
@pytest.mark.parametrize("target", ["talkers", "talkers-2"])
def test_a_connection_is_reset_at_the_address_to_which_its_service_has_moved(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, target: str
) -> None:
    """The one that came after the move hears the reset; the one from before hears nothing from the old address."""
    run = perform(netns, tmp_path, MOVED.format(target=target))
    assert run.verdict.status is Status.PASS, told(run)
    assert [str(r.client) for r in run.events("lost").where(how="reset")] == ["talkers-2"]
