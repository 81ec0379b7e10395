"""Every cure is looked after (T9): one that does not do its work is an error, never a `healed`.

Each is sabotaged in turn in an agent of the test's own, which is otherwise the real one, in a network namespace. What
netem does is healed on a kernel that has it, see `shaping.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from midsession.agent.network.impairment import Delay, Hold
from midsession.agent.protocol import (
    Configure,
    Filter,
    Freeze,
    Impair,
    Link,
    Mend,
    Mislead,
    Prepare,
    Relink,
    Renumber,
    Request,
    Reset,
    Thaw,
    Unfilter,
    Unmislead,
    Unrenumber,
)
from midsession.faults import FAULTS
from tests.agent.conductor import WAIT, Agent, Refusal, TestConductor
from tests.agent.test_filter import NAMESPACE, inside
from tests.faults.test_faults import Stage, example

pytestmark = pytest.mark.netns

OWN, PEER = "10.9.0.1", "10.9.0.2"
SERVE = "\nfrom midsession.agent.serve import serve_stdio\nraise SystemExit(serve_stdio())"

RULES_STAY = "from midsession.agent.network.ruleset import Ruleset\nRuleset.take = lambda self, rules: None"
STAGE_STAYS = """
from midsession.agent.network.line import Line
Line.remove = lambda self, name, now: self.stages[name].counts"""
PACKETS_STAY = """
from midsession.agent.network.stages import HoldStage
HoldStage.flush = lambda self, now: None"""
QUEUE_RULES_STAY = """
from midsession.agent.network.queue_rules import QueueRules
QueueRules.take = lambda self, fault: None"""
TABLE_STAYS = """
from midsession.agent.network.nft import Nft
run = Nft.run
Nft.run = lambda self, commands: run(self, commands) if "delete table ip midsession_lie" not in commands else None"""
STAYS_DOWN = """
from midsession.agent.network import link
switch = link._set
link._set = lambda interface, up: up or switch(interface, up)"""
ADDRESS_STAYS = """
from midsession.agent.network import renumber
renumber._is_known_at = lambda address: True
renumber._Move.cure = lambda self: {}"""
STAYS_FROZEN = """
import os, signal
from midsession.agent import process
process._PROOF_WITHIN_S = 0.2
kill, killpg = os.kill, os.killpg
os.kill = lambda pid, number: number == signal.SIGCONT or kill(pid, number)
os.killpg = lambda pid, number: number == signal.SIGCONT or killpg(pid, number)"""

DELAY = Impair(id=0, fault="slow", own=OWN, how=Delay(latency_s=0.05), peers=[PEER])
SABOTAGES: list[tuple[str, Request, Request, str]] = [
    (RULES_STAY, Filter(id=0, fault="cut", own=OWN, which="live"), Unfilter(id=0, fault="cut"), "chain input_cut"),
    (STAGE_STAYS, DELAY, Mend(id=0, fault="slow"), "packets still go through it"),
    (QUEUE_RULES_STAY, DELAY, Mend(id=0, fault="slow"), "2 rules send packets to the queue, where 0 should"),
    (
        QUEUE_RULES_STAY,
        Filter(id=0, fault="tenth", own=OWN, every=10, direction="to"),
        Unfilter(id=0, fault="tenth"),
        "1 rules send packets to the queue, where 0 should",
    ),
    (PACKETS_STAY, Impair(id=0, fault="held", own=OWN, how=Hold()), Mend(id=0, fault="held"), "1 packets are still"),
    (TABLE_STAYS, Mislead(id=0, fault="lie", name="server"), Unmislead(id=0, fault="lie"), "ip midsession_lie leads"),
    (
        STAYS_DOWN,
        Link(id=0, fault="down", own=OWN, up=False),
        Relink(id=0, fault="down"),
        "e0 is down",
    ),
    (
        ADDRESS_STAYS,
        Renumber(id=0, fault="move", own=OWN, address="10.9.0.9"),
        Unrenumber(id=0, fault="move"),
        "e0 has the address 10.9.0.9",
    ),
    (STAYS_FROZEN, Freeze(id=0, fault="stop"), Thaw(id=0, fault="stop"), "not running again"),
]
"""What makes a cure do nothing, what it should have cured, the cure, and what is said of it."""


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """A sabotaged agent that is root of a network namespace of its own, with an interface."""
    agent = Agent(code=request.param + SERVE, prefix=NAMESPACE)
    yield agent
    agent.end()


def begun(agent: Agent, folder: Path, abilities: Sequence[str] = ("filter", "packets")) -> TestConductor:
    """A run of the agent's that has begun, with a program, an address, and all prepared that takes these abilities."""
    conductor = agent.conductor(folder)
    conductor.begin("injected", "healed")
    inside(agent, "ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1")
    inside(agent, "ip", "address", "add", f"{OWN}/24", "dev", "e0")
    for end in ("lo", "e0", "e1"):
        inside(agent, "ip", "link", "set", end, "up")
    conductor.start(WAIT)
    conductor.ask(Prepare(id=0, abilities=list(abilities)))
    return conductor


@pytest.mark.parametrize(("namespace", "fault", "cure", "says"), SABOTAGES, indirect=["namespace"])
def test_a_cure_that_does_nothing_is_an_error(
    namespace: Agent, tmp_path: Path, fault: Request, cure: Request, says: str
) -> None:
    """It is told what is left, nothing is `healed`, and the host serves no further run."""
    conductor = begun(namespace, tmp_path)
    conductor.ask(fault)
    send = f"import socket; s = socket.socket(2, 2); s.bind(('{OWN}', 0)); s.sendto(b'x', ('{PEER}', 7))"
    if isinstance(fault, Impair):
        inside(namespace, "python3", "-c", send)  # there is something to hold
    with pytest.raises(Refusal, match=says):
        conductor.ask(cure)
    assert [record.event for record in conductor.book() if record.event in ("injected", "healed")] == ["injected"]
    if not isinstance(cure, Thaw):  # its program is killed by the end of the run
        with pytest.raises(Refusal, match="could not be healed here"):
            conductor.ask(Reset(id=0))


@pytest.mark.parametrize("namespace", [""], indirect=True)
def test_cures_that_are_left_alone_leave_nothing(namespace: Agent, tmp_path: Path) -> None:
    """The same faults and cures, and no error: it was the sabotage that was seen. (Nobody is told of the move.)"""
    conductor = begun(namespace, tmp_path)
    pairs = [(fault, cure) for _, fault, cure, _ in SABOTAGES if not isinstance(fault, Renumber)]
    for fault, cure in pairs:
        conductor.ask(fault)
        conductor.ask(cure)
    assert len([record for record in conductor.book() if record.event == "healed"]) == len(pairs) == 8
    conductor.ask(Configure(id=0, run="again", host="server", seed=1, plan="p"))


def test_every_cure_is_sabotaged_here() -> None:
    """Each kind of request that a fault is healed by."""
    cures = {type(request) for verb in FAULTS for request in example(verb).heal("crash", Stage())}
    assert len(cures) >= 6
    assert cures == {type(cure) for _, _, cure, _ in SABOTAGES}
