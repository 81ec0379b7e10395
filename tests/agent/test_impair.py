"""Impairments on the kernel, in a network namespace of the test's own: put in, taken out, and nothing left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.agent.answer import Refused
from midsession.agent.network import shape
from midsession.agent.network.impairment import Bursts, Corrupt, Cut, Delay, Duplicate, Hold, Impairment, Rate, Reorder
from midsession.agent.protocol import Finish, Freeze, Impair, Mend, Prepare
from tests.agent.conductor import WAIT, Agent, Refusal, TestConductor

OWN = "10.9.0.1"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that is root of a network namespace of its own."""
    process = Agent("--stdio", prefix=NAMESPACE)
    yield process
    process.end()


@pytest.fixture
def conductor(agent: Agent, tmp_path: Path) -> TestConductor:
    """Its conductor, in a run that has begun."""
    conductor = agent.conductor(tmp_path)
    conductor.begin("injected", "healed")
    return conductor


def rules(agent: Agent) -> list[str]:
    """The rules that send packets to a queue, and what leads there."""
    enter = ["nsenter", "--user", "--preserve-credentials", "--net", "--target", str(agent.process.pid)]
    argv = [*enter, "nft", "list", "ruleset"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout
    return [line.strip() for line in listed.splitlines() if "queue" in line or "jump" in line]


def delay(fault: str, **more: object) -> Impair:
    return Impair(id=0, fault=fault, own=OWN, how=Delay(latency_s=0.05), **more)  # type: ignore[arg-type]


@pytest.mark.netns
def test_impairments_come_and_go_each_by_itself(agent: Agent, conductor: TestConductor) -> None:
    """Twice the same is refused, healed twice is healed once, and in the end no rule is left."""
    conductor.ask(Prepare(id=0, abilities=["queue"]))
    assert not [line for line in rules(agent) if "queue num" in line]
    assert conductor.ask(delay("slow", direction="to")) == {"mechanism": "queue"}
    conductor.ask(delay("slower", peers=["10.9.0.2", "10.9.0.3"]))
    with pytest.raises(Refusal, match="slow is in force already"):
        conductor.ask(delay("slow"))
    assert len([line for line in rules(agent) if "queue num" in line]) == 1 + 4
    assert conductor.ask(Mend(id=0, fault="slow")) == {"packets": 0, "seen": 0}
    assert conductor.ask(Mend(id=0, fault="slow")) == {}
    assert len([line for line in rules(agent) if "queue num" in line]) == 4
    conductor.ask(delay("late", direction="from"))
    assert len([line for line in rules(agent) if "queue num" in line]) == 4 + 1, "what was healed does not come back"
    conductor.ask(Finish(id=0))
    assert rules(agent) == []
    assert [r.fields["fault"] for r in conductor.book() if r.event == "healed"] == ["slow", "slower", "late"]


MISTAKEN = """
import sys
from midsession.agent.network import queue
queue.stage_of = lambda ask, key: {}['no such key']
from midsession.agent.serve import serve_stdio
sys.exit(serve_stdio())
"""


@pytest.mark.netns
def test_a_mistake_in_the_process_that_holds_packets_is_told(tmp_path: Path) -> None:
    """Why it is gone stands in the refusal; the agent lives on."""
    agent = Agent(code=MISTAKEN, prefix=NAMESPACE)
    try:
        conductor = agent.conductor(tmp_path)
        conductor.begin()
        with pytest.raises(Refusal, match="a mistake of ours: KeyError: 'no such key'"):
            conductor.ask(delay("slow"))
        conductor.ask(Finish(id=0))
    finally:
        agent.end()


@pytest.mark.netns
def test_the_process_that_holds_packets_is_no_part_of_the_program(conductor: TestConductor) -> None:
    """It is neither frozen with it nor killed with it."""
    conductor.start(WAIT)
    conductor.ask(Prepare(id=0, abilities=["queue"]))
    assert conductor.ask(Freeze(id=0, fault="pause"))["pids"] == 1
    assert conductor.ask(delay("slow")) == {"mechanism": "queue"}
    conductor.ask(Finish(id=0))
    healed = [r.fields["fault"] for r in conductor.book() if r.event == "healed"]
    assert sorted(healed) == ["pause", "slow"]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Delay(latency_s=0.05), "netem limit 1000000 delay 50000us"),
        (Bursts(share=0.2, length=4), "netem limit 1000000 loss gemodel 6.250000% 25.000000%"),
        (Rate(bytes_per_s=1_000_000, queue_s=0.1), "tbf rate 1000000bps burst 10000 latency 100000us"),
        (Rate(bytes_per_s=1_000, queue_s=0.1), "tbf rate 1000bps burst 3028 latency 100000us"),
    ],
)
def test_what_netem_is_told(ask: Impairment, words: str) -> None:
    """In tc's own words. (That they are true is measured on a kernel that has netem, see tools/uml.)"""
    assert shape.qdisc(ask)[0] == words


@pytest.mark.parametrize(
    "ask",
    [
        Hold(),
        Duplicate(every=2),
        Corrupt(every=2),
        Reorder(every=2, late_s=0.01),
        Delay(latency_s=0.05, jitter_s=0.01),
        Cut(),
    ],
)
def test_what_netem_cannot_do_or_prove_is_refused(ask: Impairment) -> None:
    """With the reason."""
    with pytest.raises(Refused, match="needs a queue"):
        shape.qdisc(ask)
