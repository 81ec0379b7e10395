"""The agent's packet rules on the kernel, in a network namespace of the test's own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.agent.protocol import Configure, Destroy, Filter, Finish, Prepare, Request, Subscribe, Tell, Unfilter
from tests.agent.conductor import Agent, Refusal, TestConductor

pytestmark = pytest.mark.netns

OWN, PEER = "10.9.0.1", "10.9.0.2"
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
FOREIGN = "table ip of_another {\nchain input { type filter hook input priority 5; policy accept; }\n}"


BY_COMMAND = """
import sys
from midsession.agent.network import nft
nft._library = lambda: None
from midsession.agent.serve import serve_stdio
sys.exit(serve_stdio())
"""
"""An agent on a host that has the command `nft`, and not its library."""


@pytest.fixture(params=[None, BY_COMMAND], ids=["library", "command"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """An agent that is root of a network namespace of its own."""
    process = Agent(*([] if request.param else ["--stdio"]), code=request.param, prefix=NAMESPACE)
    yield process
    process.end()


@pytest.fixture
def conductor(agent: Agent, tmp_path: Path) -> TestConductor:
    """Its conductor, in a run that has begun."""
    conductor = agent.conductor(tmp_path)
    conductor.begin("injected", "healed")
    return conductor


def inside(agent: Agent, *command: str) -> str:
    """What a command says in the agent's namespace: not by way of the agent."""
    enter = ["nsenter", "--user", "--preserve-credentials", "--net", "--target", str(agent.process.pid)]
    return subprocess.run([*enter, *command], capture_output=True, text=True, check=True, timeout=10).stdout


def ruleset(agent: Agent) -> list[dict[str, Any]]:
    """The whole ruleset of the agent's namespace, as nft's objects."""
    listed: list[dict[str, Any]] = json.loads(inside(agent, "nft", "-j", "list", "ruleset"))["nftables"]
    return listed


def names(agent: Agent, kind: str) -> list[str]:
    """The names of its tables, chains, sets or counters."""
    return sorted(item[kind]["name"] for item in ruleset(agent) if kind in item)


def cut(fault: str, **more: Any) -> Filter:
    return Filter(id=0, fault=fault, own=OWN, **more)


def test_what_is_prepared_is_empty(agent: Agent, conductor: TestConductor) -> None:
    """Two hooks, and not one rule: no packet's fate is changed by what waits for a fault."""
    conductor.ask(Prepare(id=0, abilities=["filter", "links"]))
    assert (names(agent, "table"), names(agent, "chain")) == (["midsession"], ["input", "output"])
    assert [item for item in ruleset(agent) if "rule" in item or "counter" in item or "set" in item] == []


def test_where_packets_are_counted_they_are_cut_before(agent: Agent, conductor: TestConductor) -> None:
    """A host whose testbed has not seen to it leads them through its queue, which cuts them, and then to the rules."""
    conductor.ask(Prepare(id=0, abilities=["filter", "packets"]))
    assert {"input", "output", "prerouting", "pieces"} <= set(names(agent, "chain"))
    assert not led(agent)
    conductor.ask(cut("tenth", direction="to", every=10))
    one = led(agent)
    conductor.ask(cut("gone", direction="to"))
    assert one == led(agent) > 0
    assert {r.fields["fault"]: r.fields.get("cut") for r in conductor.book() if r.event == "injected"} == {
        "tenth": "queue",
        "gone": None,
    }
    assert conductor.ask(Unfilter(id=0, fault="tenth")) == {"packets": 0, "bytes": 0, "seen": 0}
    assert not led(agent)


def led(agent: Agent) -> int:
    """How many rules lead packets to a queue, as nft and iptables see them."""
    by_nft = re.findall(r"\bqueue (?:num|flags|to)\b", inside(agent, "nft", "list", "ruleset"))
    return len(by_nft) + inside(agent, "iptables-save").count("NFQUEUE")


def test_faults_stack_and_heal_one_by_one(agent: Agent, conductor: TestConductor) -> None:
    """Each takes its own rules, sets and counters away, in any order, and leaves the others' in force."""
    faults = [cut("a"), cut("b-2", which="live"), cut("c", direction="to"), cut("d", idle_s=1.0, direction="from")]
    for fault in faults:
        conductor.ask(fault)
    assert names(agent, "counter") == sorted(f"{kind}_{f.fault}" for f in faults for kind in ("hit", "seen"))
    left = {"a", "b-2", "c", "d"}
    for fault in ("b-2", "a", "d", "c"):
        conductor.ask(Unfilter(id=0, fault=fault))
        left.discard(fault)
        assert {name.partition("_")[2] for name in names(agent, "counter")} == left
        jumps = [item["rule"]["expr"][0]["jump"]["target"] for item in ruleset(agent) if _jumps(item)]
        assert {jump.partition("_")[2] for jump in jumps} == left
        assert len(jumps) == len(names(agent, "chain")) - 2
    assert names(agent, "set") == []
    conductor.wait_record("healed", lambda record: record.fields["fault"] == "c")
    assert [record.fields["fault"] for record in conductor.of("healed")] == ["b-2", "a", "d", "c"]


def _jumps(item: dict[str, Any]) -> bool:
    return "rule" in item and item["rule"]["chain"] in ("input", "output")


def give_address(agent: Agent) -> None:
    """An interface with the host's address, on a network where nobody else is."""
    inside(agent, "ip", "link", "add", "net0", "type", "veth", "peer", "name", "far0")
    inside(agent, "ip", "address", "add", f"{OWN}/24", "dev", "net0")
    for name in ("lo", "net0", "far0"):
        inside(agent, "ip", "link", "set", name, "up")


def send(agent: Agent, address: str) -> None:
    """A datagram from the host's address."""
    code = f"import socket; s = socket.socket(2, 2); s.bind(('{OWN}', 0)); s.sendto(b'x' * 72, ('{address}', 7))"
    inside(agent, "python3", "-c", code)


def test_what_a_fault_dropped_is_told_by_its_cure(agent: Agent, conductor: TestConductor) -> None:
    """Packets and bytes that were hit; a fault beside it counts for itself."""
    give_address(agent)
    conductor.ask(cut("out", direction="from", protocol="udp", peer_port=7))
    conductor.ask(cut("tcp", direction="from", protocol="tcp"))
    with pytest.raises(subprocess.CalledProcessError):
        send(agent, PEER)  # sendto says EPERM: dropped where it leaves
    assert conductor.ask(Unfilter(id=0, fault="out")) == {"packets": 1, "bytes": 100, "seen": 1}
    assert conductor.ask(Unfilter(id=0, fault="tcp")) == {"packets": 0, "bytes": 0, "seen": 0}


def test_what_a_host_sends_to_itself_is_not_counted(agent: Agent, conductor: TestConductor) -> None:
    """It comes through, though it bears the address, and no path to anybody lies in between."""
    give_address(agent)
    conductor.ask(cut("all"))
    send(agent, OWN)
    assert conductor.ask(Unfilter(id=0, fault="all")) == {"packets": 0, "bytes": 0, "seen": 0}


TO_ITSELF = f"""
import socket
listening = socket.create_server(("{OWN}", 0))
calling = socket.create_connection(listening.getsockname())
called, _ = listening.accept()
print("connected", flush=True)
input()
calling.sendall(b"x")
print("heard", called.recv(1), flush=True)
"""


def test_a_connection_to_itself_is_none_that_a_reset_meets(agent: Agent, conductor: TestConductor) -> None:
    """Of all connections of the host: those with others."""
    give_address(agent)
    conductor.ask(Subscribe(id=0, events=["line"]))
    conductor.start(TO_ITSELF)
    conductor.wait_line("connected")
    with pytest.raises(Refusal, match="no such connection is open"):
        conductor.ask(Destroy(id=0, own=OWN, fault="reset"))
    conductor.ask(Tell(id=0, line="go on"))
    conductor.wait_line("heard b'x'")


def test_a_rule_that_the_kernel_refuses_leaves_nothing(agent: Agent, conductor: TestConductor) -> None:
    """One transaction: a set that cannot be made takes the chains and counters with it; the next fault works."""
    conductor.ask(Prepare(id=0, abilities=["filter"]))
    before = ruleset(agent)
    with pytest.raises(Refusal, match=r"^nft"):
        conductor.ask(cut("vast", idle_s=1e15))
    assert ruleset(agent) == before
    assert conductor.ask(cut("vast")) == {}


ABOUT: list[dict[str, Any]] = [
    {},
    {"which": "live"},
    {"which": "opening"},
    {"which": "request", "act": "reset", "direction": "to"},
    {"connections": [("10.9.0.2", 4000, 40000)]},
    {"idle_s": 1.0, "act": "reset"},
    {"over_bytes": 600, "every": 3, "direction": "to"},
]


@pytest.mark.parametrize("narrowed", [{"own_port": 4000}, {"peer_port": 4000}, {"own_port": 4000, "protocol": "tcp"}])
def test_the_kernel_takes_every_rule_with_a_port(conductor: TestConductor, narrowed: dict[str, Any]) -> None:
    """Whatever it is about, and whether or not the protocol is said: that of a connection is TCP."""
    for number, asked in enumerate(ABOUT):
        assert conductor.ask(cut(f"cut-{number}", **asked, **narrowed)) == {}


def test_a_step_is_injected_once_and_healed_twice(agent: Agent, conductor: TestConductor) -> None:
    """The second injection is refused and changes nothing; the second cure finds nothing to do."""
    conductor.ask(cut("a"))
    before = ruleset(agent)
    with pytest.raises(Refusal, match="a is in force already"):
        conductor.ask(cut("a", direction="to"))
    assert ruleset(agent) == before
    assert conductor.ask(Unfilter(id=0, fault="a"))["packets"] == 0
    assert conductor.ask(Unfilter(id=0, fault="a")) == {}


HANDSHAKE = f"""
import socket
listener = socket.create_server(("{OWN}", 4000))
asker = socket.socket()
asker.bind(("{OWN}", 40000))
asker.setblocking(False)
asker.connect_ex(("{OWN}", 4000))
print("under way", flush=True)
input()
"""
SYN_ACK_IS_LOST = """table ip late {
chain output { type filter hook output priority -1; policy accept; tcp flags & (syn | ack) == (syn | ack) drop; }
}"""


@pytest.mark.parametrize(("asked", "kept"), [({"idle_s": 30.0}, 2), ({"which": "live"}, 0)])
def test_a_handshake_under_way_is_known_though_not_open(
    agent: Agent, conductor: TestConductor, asked: dict[str, Any], kept: int
) -> None:
    """A NAT has seen its SYN: both ends, the one that asks and the one that was asked, are idle from then on."""
    conductor.ask(Subscribe(id=0, events=["line"]))
    inside(agent, "ip", "address", "add", f"{OWN}/24", "dev", "lo")
    inside(agent, "ip", "link", "set", "lo", "up")
    inside(agent, "nft", SYN_ACK_IS_LOST)
    conductor.start(HANDSHAKE)
    conductor.wait_line("under way")
    conductor.ask(cut("nat", **asked))
    (known,) = [item["set"] for item in ruleset(agent) if "set" in item]
    assert len(known.get("elem", ())) == kept


AGAIN = Configure(id=0, run="again", host="server", seed=1, plan="p")


@pytest.mark.parametrize("end", [Finish(id=0), AGAIN])
def test_the_end_of_a_run_leaves_the_ruleset_as_it_was(agent: Agent, conductor: TestConductor, end: Request) -> None:
    """Healed or not, nothing of ours stays; another's table is neither touched nor listed as ours."""
    inside(agent, "nft", FOREIGN)
    before = ruleset(agent)
    conductor.ask(Prepare(id=0, abilities=["filter"]))
    conductor.ask(cut("a"))
    conductor.ask(cut("b", which="live"))
    assert len(ruleset(agent)) > len(before)
    conductor.ask(end)
    assert [_plain(item) for item in ruleset(agent)] == [_plain(item) for item in before]


def _plain(item: dict[str, Any]) -> Any:
    """Without handles, which the kernel counts up."""
    return {kind: {k: v for k, v in body.items() if k != "handle"} for kind, body in item.items()}
