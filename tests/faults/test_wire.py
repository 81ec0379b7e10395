"""Every fault that speaks on the wire, or falls silent there, by an independent capture (`capture.py`) at a peer.

The peer is the neutral client of `probe.py`, on a host of its own. What is judged is the time between the agent's call
and the cure, but for the first instant of it: what had left the server before the call may still arrive.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.language import plans
from midsession.rundir import read_history
from midsession.runner import Listener, run_plan
from midsession.testbeds.netns.testbed import NetnsTestbed
from tests.faults.test_contract import ALL_WELL, BACK, HEAL, START, scenario

pytestmark = pytest.mark.netns

CAPTURE = Path(__file__).with_name("capture.py")
SETTLED_NS = 10_000_000
"""Data that was on its way when the call returned has arrived by then."""
Segment = dict[str, Any]


class Wire(Listener):
    """Captures at one host of a netns testbed from before its programs' first fault to the end."""

    def __init__(self, testbed: NetnsTestbed, host: str, folder: Path) -> None:
        self._testbed, self._host, self._file = testbed, host, folder / "wire.jsonl"
        self._capture: subprocess.Popen[str] | None = None

    def on_phase(self, phase: str) -> None:
        if phase == "programs":
            pid = process_at(self._testbed.services[self._host].address)
            enter = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--net"]
            with self._file.open("w") as file:  # a pipe that nobody reads during the run would be full soon
                command = [*enter, sys.executable, str(CAPTURE)]
                self._capture = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
            assert self._capture.stderr is not None
            assert self._capture.stderr.readline() == "ready\n"

    def segments(self) -> list[Segment]:
        """All that was captured; ends the capture."""
        assert self._capture is not None
        self._capture.terminate()
        self._capture.communicate(timeout=10)
        return [json.loads(line) for line in self._file.read_text().split("\n") if line.endswith("}")]


def process_at(address: str) -> int:
    """A process of ours in the network namespace that has this address: its agent."""
    for pid in sorted(family()):
        try:
            if f"|-- {address}\n" in Path(f"/proc/{pid}/net/fib_trie").read_text():
                return pid
        except OSError:
            continue
    raise AssertionError(f"nobody of ours is at {address}")


def family() -> set[int]:
    """Every process that descends from this one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, new = set[int](), {os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new}
        found |= new
    return found


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, NetnsTestbed]]:
    """One warm testbed for all."""
    with asyncio.Runner() as runner:
        testbed = NetnsTestbed()
        yield runner, testbed
        runner.run(testbed.shut())


def captured(loop: tuple[asyncio.Runner, NetnsTestbed], folder: Path, text: str) -> tuple[list[Segment], list[Segment]]:
    """The segments at the probe before the fault, and while it was in force."""
    path = folder / "wire.scenario.yaml"
    path.write_text(text)
    (plan,) = plans(path, 1)
    runner, testbed = loop
    wire = Wire(testbed, "probe", folder)
    history = read_history(runner.run(run_plan(plan, testbed, folder / "runs", wire)).directory)
    segments = wire.segments()
    story, cure = history.steps["fault"], history.steps["cure"]
    assert story.injected is not None
    assert cure.instant_ns is not None, "the probe sees the fault, and it is healed"
    began_ns = story.injected.fields["began_ns"]
    # A signal may have had its effect before the call that sends it has returned; a rule is there when it has.
    in_force_ns = began_ns if story.injected.fields["verb"] in ("kill", "stop") else story.injected.t_ns
    before = [s for s in segments if s["t_ns"] < began_ns]
    during = [s for s in segments if in_force_ns < s["t_ns"] < cure.instant_ns]
    assert len(before) >= 10, "the probe talks before anything breaks"
    return before, during


# --- what the wire shows -------------------------------------------------------------------------------------------


def arriving(segments: list[Segment]) -> list[Segment]:
    return [s for s in segments if not s["out"] and s["from"][1] == 4000]


def leaving(segments: list[Segment]) -> list[Segment]:
    return [s for s in segments if s["out"] and s["to"][1] == 4000]


def settled(segments: list[Segment]) -> list[Segment]:
    """Without the first instant."""
    return [s for s in segments if s["t_ns"] > segments[0]["t_ns"] + SETTLED_NS] if segments else []


def syns(segments: list[Segment]) -> list[Segment]:
    return [s for s in leaving(segments) if s["flags"] == ["SYN"]]


def sent_again(segments: list[Segment]) -> int:
    """How many data segments left more than once."""
    copies = Counter((s["from"][1], s["seq"]) for s in leaving(segments) if s["payload"])
    return sum(count > 1 for count in copies.values())


def silence(_before: list[Segment], during: list[Segment]) -> None:
    """Nothing arrives; SYN and data leave, and data is sent again."""
    assert arriving(settled(during)) == []
    assert syns(during)
    assert sent_again(during)


def deafness(_before: list[Segment], during: list[Segment]) -> None:
    """Nothing that is sent is acknowledged, a SYN no more than data, though the other end may still speak."""
    ends = {(s["from"][1], s["seq"] + s["payload"] & 0xFFFFFFFF) for s in leaving(settled(during)) if s["payload"]}
    ends |= {(s["from"][1], s["seq"] + 1 & 0xFFFFFFFF) for s in syns(settled(during))}
    assert syns(settled(during))
    assert sent_again(during)
    assert not [s for s in arriving(during) if (s["to"][1], s["ack"]) in ends]


def refused(_before: list[Segment], during: list[Segment]) -> None:
    """Each SYN is answered by RST with the right number; data still arrives on what was open."""
    resets = {(s["to"][1], s["ack"]) for s in arriving(during) if "RST" in s["flags"]}
    asked = {(s["from"][1], s["seq"] + 1 & 0xFFFFFFFF) for s in syns(settled(during))[:-1]}
    assert asked
    assert asked <= resets
    assert any(s["payload"] for s in arriving(during))
    assert not [s for s in arriving(settled(during)) if {"SYN", "ACK"} <= {*s["flags"]}]


def ignored(_before: list[Segment], during: list[Segment]) -> None:
    """No SYN is answered in any way; data still arrives on what was open."""
    ports = {s["from"][1] for s in syns(settled(during))}
    assert ports
    assert [s for s in arriving(during) if s["to"][1] in ports] == []
    assert any(s["payload"] for s in arriving(settled(during)))


def goodbye(before: list[Segment], during: list[Segment]) -> None:
    """The open connections hear FIN or RST, and a SYN hears RST."""
    long_lived = {s["to"][1] for s in arriving(before) if s["payload"]}
    told = {s["to"][1] for s in arriving(during) if {"FIN", "RST"} & {*s["flags"]}}
    assert long_lived & told
    assert {s["from"][1] for s in syns(during)[:-1]} & told


def then_void(before: list[Segment], during: list[Segment]) -> None:
    """The open connections hear FIN or RST, then nothing answers a SYN."""
    told = {s["to"][1] for s in arriving(during) if {"FIN", "RST"} & {*s["flags"]}}
    assert {s["to"][1] for s in arriving(before) if s["payload"]} & told
    last = max(s["t_ns"] for s in arriving(during))
    assert [s for s in syns(during) if s["t_ns"] > last]


def frozen(_before: list[Segment], during: list[Segment]) -> None:
    """The kernel lives on: SYN and data are acknowledged, but no byte of the program's arrives."""
    assert [s for s in arriving(settled(during)) if s["flags"] == ["SYN", "ACK"]]
    assert [s for s in arriving(settled(during)) if s["payload"]] == []
    assert not [s for s in arriving(settled(during)) if {"FIN", "RST"} & {*s["flags"]}]


def moved(before: list[Segment], during: list[Segment]) -> None:
    """The old address says no more, whatever is sent to it again; a SYN to the new one is answered from there."""
    (old,) = {s["from"][0] for s in arriving(before)}
    (new,) = {s["from"][0] for s in arriving(settled(during))}
    assert old != new
    assert sent_again([s for s in during if s["to"][0] == old])
    assert syns(settled(during))[-1]["to"][0] == new
    assert [s for s in arriving(settled(during)) if s["flags"] == ["SYN", "ACK"]]


def only_small(_before: list[Segment], during: list[Segment]) -> None:
    """Long segments leave and are never acknowledged; short ones are answered."""
    long = [s for s in leaving(settled(during)) if s["size"] > 600]
    ends = {(s["from"][1], s["seq"] + s["payload"] & 0xFFFFFFFF) for s in long}
    assert long
    assert not [s for s in arriving(during) if (s["to"][1], s["ack"]) in ends]
    assert any(s["payload"] for s in arriving(settled(during)))


SHOWN: list[tuple[str, str, str, Callable[[list[Segment], list[Segment]], None]]] = [
    ("partition: server", "live=silence long=silence new=timeout", HEAL, silence),
    ("partition: {target: server, port: 4000, protocol: tcp}", "live=silence long=silence new=timeout", HEAL, silence),
    ("partition: {between: [server, probe], direction: to}", "live=silence long=silence new=timeout", HEAL, deafness),
    ("loss: {target: server, rate: 100%}", "live=silence long=silence new=timeout", HEAL, deafness),
    ("power_off: server", "live=silence long=silence new=timeout", "note: it is gone", silence),
    ("refuse: server", "live=answered long=answered new=refused", HEAL, refused),
    ("ignore: server", "live=answered long=answered new=timeout", HEAL, ignored),
    ("kill: server", "new=refused", START, goodbye),
    ("stop: server", "new=refused", START, goodbye),
    ("vanish: server", "new=timeout", "note: it is gone", then_void),
    ("pause: server", "live=silence long=silence new=connected", HEAL, frozen),
    ("readdress: server", "live=silence long=silence new=connected", HEAL, moved),
    ("mtu: {target: server, size: 600B}", "live=answered long=silence new=connected", HEAL, only_small),
]


LATER = """note: the probe has seen it
  - id: cure
    when: {{after: seen, wait: 400ms}}
    {cure}"""
"""What makes all well again, some while after it was seen: TCP sends again after 200 ms at first."""


@pytest.mark.parametrize(("fault", "seen", "cure", "shows"), SHOWN)
def test_a_capture_at_the_peer_shows_the_fault(
    loop: tuple[asyncio.Runner, NetnsTestbed],
    tmp_path: Path,
    fault: str,
    seen: str,
    cure: str,
    shows: Callable[[list[Segment], list[Segment]], None],
) -> None:
    """Segment by segment, while it is in force."""
    gone = cure.startswith("note")
    text = scenario(fault, seen, LATER.format(cure=cure), back=seen if gone else BACK)
    if gone:
        text = "\n".join(line for line in text.splitlines() if "on_loss" not in line)
    shows(*captured(loop, tmp_path, text))


def test_without_a_fault_the_wire_shows_none(loop: tuple[asyncio.Runner, NetnsTestbed], tmp_path: Path) -> None:
    """Each of these tests can fail: on a run whose fault meets nobody, none of them is content."""
    cure = LATER.format(cure="note: it met nobody")
    text = scenario("partition: {target: server, with: idlers, port: 9}\n    for: 500ms", ALL_WELL, cure, ALL_WELL)
    text = text.replace("{after: fault}", "{at: 900ms}")
    before, during = captured(loop, tmp_path, text)
    content = [shows.__name__ for *_, shows in SHOWN if _holds(shows, before, during)]
    assert len(during) > 20
    assert content == []


def _holds(shows: Callable[[list[Segment], list[Segment]], None], before: list[Segment], during: list[Segment]) -> bool:
    try:
        shows(before, during)
    except (AssertionError, ValueError):
        return False
    return True
