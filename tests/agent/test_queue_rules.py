"""Which tool sends packets to the queue, and that its rules are there while they are wanted, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midsession.agent.network import iptables
from midsession.agent.protocol import Finish, Mend, Prepare
from midsession.testbeds.netns.abilities import queued_by
from tests.agent.conductor import Agent, Refusal, TestConductor
from tests.agent.test_cures import DELAY, QUEUE_RULES_STAY, SERVE
from tests.agent.test_filter import NAMESPACE, inside
from tests.agent.test_tool import NO_QUEUE_IN_NFT, WELL, Put, put

__all__ = ["put"]

pytestmark = pytest.mark.netns

BY_IPTABLES = f"from midsession.agent.network import queue_rules\n{NO_QUEUE_IN_NFT}\n"
REFUSES_ALL = "echo 'Operation not supported' >&2; exit 4"
REFUSES_QUEUES = "if grep -q NFQUEUE; then echo 'Extension NFQUEUE is not supported' >&2; exit 4; fi"
LEGACY = iptables.ALL[-1]


needs_older_tables = pytest.mark.skipif(
    not queued_by(LEGACY), reason="no older tables (ip_tables) here; tests/test_netem.py has a kernel with them"
)

Begin = Callable[[str], tuple[Agent, TestConductor]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin a run on an agent without `queue` in nftables, that is sabotaged by some more code."""
    agents = []

    def begun(more: str) -> tuple[Agent, TestConductor]:
        agent = Agent(code=BY_IPTABLES + more + SERVE, prefix=NAMESPACE)
        agents.append(agent)
        conductor = agent.conductor(tmp_path)
        conductor.begin("injected", "healed")
        return agent, conductor

    yield begun
    for agent in agents:
        agent.end()


def rules_of(conductor: TestConductor) -> list[str]:
    """What has sent packets to the queue, as the records say it."""
    return [record.fields["rules"] for record in conductor.book() if record.event == "injected"]


@pytest.mark.parametrize("refuses", [REFUSES_ALL, REFUSES_QUEUES])
def test_rules_that_one_table_refuses_are_written_to_the_other(put: Put, begin: Begin, refuses: str) -> None:
    """Also by a kernel that takes the chains and would refuse the rule, in the middle of the run; the record tells."""
    put("iptables-restore", refuses)
    put("iptables-legacy-restore", WELL)
    put("iptables-legacy-save", "exit 0")
    _, conductor = begin("")
    assert conductor.ask(DELAY) == {"mechanism": "queue"}
    assert rules_of(conductor) == ["iptables-legacy"]


def test_what_every_tool_says_is_told_where_all_refuse(put: Put, begin: Begin) -> None:
    """Each in its own words."""
    put("iptables-restore", REFUSES_QUEUES)
    put("iptables-legacy-restore", "echo 'cannot initialize' >&2; exit 3")
    put("tc", "exit 1")
    _, conductor = begin("")
    with pytest.raises(Refusal, match=r"iptables-restore: Extension NFQUEUE .*; iptables-legacy-restore: cannot init"):
        conductor.ask(DELAY)


@needs_older_tables
def test_the_older_tables_hold_rules_for_as_long_as_they_are_wanted(put: Put, begin: Begin) -> None:
    """None before the fault, two with it, none after its cure; nothing of ours when the run ends, and all that was of
    others."""
    put("iptables-restore", REFUSES_ALL)
    agent, conductor = begin("")
    inside(agent, LEGACY.name, "-t", "raw", "-A", "OUTPUT", "-s", "192.0.2.9", "-j", "DROP")
    before = written(agent)
    assert len(before) == 3

    conductor.ask(Prepare(id=0, abilities=["queue"]))
    assert led(agent) == 0
    conductor.ask(DELAY)
    assert (led(agent), rules_of(conductor)) == (2, ["iptables-legacy"])
    conductor.ask(Mend(id=0, fault=DELAY.fault))
    assert led(agent) == 0
    conductor.ask(Finish(id=0))
    assert written(agent) == before


@needs_older_tables
def test_a_cure_that_leaves_rules_in_the_older_tables_is_an_error(put: Put, begin: Begin) -> None:
    """They are listed by the tools that have written them (T9)."""
    put("iptables-restore", REFUSES_ALL)
    _, conductor = begin(QUEUE_RULES_STAY)
    conductor.ask(DELAY)
    with pytest.raises(Refusal, match="2 rules send packets to the queue, where 0 should"):
        conductor.ask(Mend(id=0, fault=DELAY.fault))


def written(agent: Agent) -> list[str]:
    """The chains and rules of the older table, without its counters and its times of day."""
    lines = inside(agent, LEGACY.save, "-t", "raw").splitlines()
    return [line.partition(" [")[0] for line in lines if line.startswith((":", "-"))]


def led(agent: Agent) -> int:
    """How many rules of it lead packets to a queue."""
    return sum("NFQUEUE" in line for line in written(agent))
