"""What a host's resolver is told about one name: by a plain socket in the namespace of the agent's own."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from midsession.agent.network.redirection import redirection
from midsession.agent.protocol import Mislead, Unmislead
from tests.agent.conductor import Agent, Refusal, TestConductor
from tests.agent.test_filter import NAMESPACE, inside, ruleset
from tests.agent.test_names import query

pytestmark = pytest.mark.netns

RESOLVER = "10.9.0.1"
ASK = f"""
import json, socket, sys
truth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
truth.bind(("{RESOLVER}", 53))
seen = []
for query in map(bytes.fromhex, sys.argv[1:]):
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.settimeout(0.3)
    asker.connect(("{RESOLVER}", 53))
    asker.send(query)
    try:
        seen.append(asker.recv(512).hex())
    except TimeoutError:
        truth.settimeout(0.05)
        try:
            seen.append("asked the resolver" if truth.recv(512) == query else "?")
        except TimeoutError:
            seen.append("nothing")
print(json.dumps(seen))
"""
"""A resolver that never answers, and who asks it. An answer must come from the address that was asked (connect)."""

RESOLVED = """
from midsession.agent.network import resolver
from midsession.agent.serve import serve_stdio
resolver.RESOLVER = {file!r}
raise SystemExit(serve_stdio())
"""
"""An agent whose host asks that resolver."""
LONG = "a-name-of-some-length.in-a-domain.example"


def asked(agent: Agent, *queries: bytes) -> list[str]:
    seen: list[str] = json.loads(inside(agent, "python3", "-c", ASK, *(q.hex() for q in queries)))
    return seen


@pytest.fixture
def agent_and_conductor(tmp_path: Path) -> tuple[Agent, TestConductor]:
    (tmp_path / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    process = Agent(code=RESOLVED.format(file=str(tmp_path / "resolv.conf")), prefix=NAMESPACE)
    conductor = process.conductor(tmp_path)
    conductor.begin("witnessed", "healed")
    inside(process, "ip", "link", "set", "lo", "up")
    inside(process, "ip", "address", "add", f"{RESOLVER}/24", "dev", "lo")
    return process, conductor


@pytest.mark.parametrize("name", ["server", LONG])
def test_one_name_has_another_address(agent_and_conductor: tuple[Agent, TestConductor], name: str) -> None:
    """From the resolver's own address, as it seems; whatever the case of its letters; other names, longer or
    shorter ones too, reach the resolver."""
    agent, conductor = agent_and_conductor
    conductor.ask(Mislead(id=0, fault="lie", name=name, address="10.9.0.7"))
    lied, too, *others = asked(
        agent, query(name), query(name.title()), query(name + "x"), query("x." + name), query(name[1:])
    )
    assert lied.endswith(socket.inet_aton("10.9.0.7").hex())
    assert too.endswith(socket.inet_aton("10.9.0.7").hex())
    assert others == ["asked the resolver"] * 3
    assert conductor.wait_record("witnessed").fields["name"] == name
    assert conductor.ask(Unmislead(id=0, fault="lie")) == {"queries": 2}
    assert [record.event for record in conductor.book() if record.event == "witnessed"] == ["witnessed"]
    assert asked(agent, query(name)) == ["asked the resolver"]
    assert ruleset(agent)[1:] == []
    agent.end()


def test_there_is_no_such_name_or_no_answer(agent_and_conductor: tuple[Agent, TestConductor]) -> None:
    """NXDOMAIN at once, or silence, for two names at a time; each lie ends by itself."""
    agent, conductor = agent_and_conductor
    conductor.ask(Mislead(id=0, fault="gone", name="server"))
    conductor.ask(Mislead(id=0, fault="mute", name="spare", silent=True))
    gone, mute = asked(agent, query("server"), query("spare"))
    assert int(gone[4:8], 16) & 15 == 3
    assert mute == "nothing"
    conductor.ask(Unmislead(id=0, fault="gone"))
    assert asked(agent, query("server"), query("spare")) == ["asked the resolver", "nothing"]
    agent.end()


def test_a_lie_is_told_once_and_ended_twice(agent_and_conductor: tuple[Agent, TestConductor]) -> None:
    """The second is refused, the second cure has nothing to do; what is no name is refused too."""
    agent, conductor = agent_and_conductor
    conductor.ask(Mislead(id=0, fault="lie", name="server"))
    with pytest.raises(Refusal, match="in force already"):
        conductor.ask(Mislead(id=0, fault="lie", name="server"))
    assert conductor.ask(Unmislead(id=0, fault="lie")) == {"queries": 0}
    assert conductor.ask(Unmislead(id=0, fault="lie")) == {}
    with pytest.raises(Refusal, match="no name"):
        conductor.ask(Mislead(id=0, fault="lie", name="server; drop"))
    agent.end()


def test_the_rule_compares_the_question() -> None:
    """Sixteen bytes at a time, behind the headers, with the closing zero: a longer name is another one. Letters are
    compared without the bit that makes their case, other signs as they are."""
    text = redirection("ip t", ["server"], RESOLVER, 5300, -1)
    assert f"ip daddr {RESOLVER} udp dport 53 @th,160,64 & 0xffdfdfdfdfdfdfff == 0x0653455256455200 " in text
    assert "& 0xffdfffdfffff == 0x04412d425f00 " in redirection("ip t", ["a-b_"], RESOLVER, 1, -1)
    assert "@th,160,128 & 0x" in redirection("ip t", [LONG], RESOLVER, 1, -1)
    assert "@th,288,128 & 0x" in redirection("ip t", [LONG], RESOLVER, 1, -1)
