"""Where a host's resolver says that another one is: with a name service of the test's own that knows of no move."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.agent.protocol import Lead, Mislead, Renumber, Unlead, Unmislead, Unrenumber
from tests.agent.conductor import ROOT, Agent, Refusal, TestConductor
from tests.agent.test_filter import NAMESPACE, inside, ruleset
from tests.agent.test_names import query
from tests.waiting import eventually

pytestmark = pytest.mark.netns

SERVICE, OLD, NEW = "10.9.0.1", "10.9.0.2", "10.9.0.9"
SERVE = "\nfrom midsession.agent.serve import serve_stdio\nraise SystemExit(serve_stdio())"
TRUTH = f"""
import socket
from midsession.agent.network.names import answer
over_tcp = socket.create_server(("{SERVICE}", 53))
service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
service.bind(("{SERVICE}", 53))
print("up", flush=True)
while True:
    asked, asker = service.recvfrom(512)
    if response := answer(asked, {{"server": "{OLD}", "db.agent": "{OLD}", "spare": "10.9.0.3"}}):
        service.sendto(response, asker)
"""
ASK = f"""
import json, socket, sys
seen = []
for query in map(bytes.fromhex, sys.argv[1:]):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5)
        asker.connect(("{SERVICE}", 53))
        asker.send(query)
        seen.append(socket.inet_ntoa(asker.recv(512)[-4:]))
try:
    socket.create_connection(("{SERVICE}", 53), timeout=5).close()
    seen.append("tcp")
except OSError as error:
    seen.append(type(error).__name__)
print(json.dumps(seen))
"""
"""The last four bytes of each answer, which must come from the address that was asked; then a connection."""
TABLE_STAYS = """
from midsession.agent.network.nft import Nft
run = Nft.run
Nft.run = lambda self, commands: run(self, commands) if "delete table" not in commands else None"""
NOBODY_IS_LED = """
from midsession.agent.network import standin
standin.redirection = lambda table, *_: "table " + table + " {\\nchain queries {}\\n}" """


def asked(agent: Agent, *queries: bytes) -> list[str]:
    seen: list[str] = json.loads(inside(agent, sys.executable, "-c", ASK, *(q.hex() for q in queries)))
    return seen


def leading(**more: str) -> Lead:
    return Lead(id=0, **{"fault": "move", "names": ["server", "db.agent"], "own": OLD, "address": NEW, **more})


@pytest.fixture
def sabotage(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", ""))


@pytest.fixture
def host(tmp_path: Path, sabotage: str) -> Iterator[tuple[Agent, TestConductor]]:
    """An agent whose host's resolver is the name service above, beside which it has an address of its own."""
    (tmp_path / "resolv.conf").write_text(f"search x\nnameserver {SERVICE}\n")
    resolver = f"from midsession.agent.network import resolver\nresolver.RESOLVER = {str(tmp_path / 'resolv.conf')!r}\n"
    agent = Agent(code=resolver + sabotage + SERVE, prefix=NAMESPACE)
    conductor = agent.conductor(tmp_path / "run")
    conductor.begin("injected", "witnessed", "healed")
    inside(agent, "ip", "link", "set", "lo", "up")
    inside(agent, "ip", "address", "add", f"{SERVICE}/32", "dev", "lo")
    inside(agent, "ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1")
    inside(agent, "ip", "address", "add", f"{OLD}/24", "dev", "e0")
    inside(agent, "ip", "link", "set", "e0", "up")
    enter = ["nsenter", "--user", "--preserve-credentials", "--net", "--target", str(agent.process.pid)]
    truth = subprocess.Popen([*enter, sys.executable, "-c", TRUTH], stdout=subprocess.PIPE, cwd=ROOT)
    assert truth.stdout is not None
    assert truth.stdout.readline() == b"up\n"
    yield agent, conductor
    agent.end()
    truth.kill()
    truth.wait()
    truth.stdout.close()


def test_its_names_lead_to_where_the_host_is_until_it_is_back(host: tuple[Agent, TestConductor]) -> None:
    """All of its names, in any case of letters; other names are where they were; nobody is answered over TCP."""
    agent, conductor = host
    assert conductor.ask(leading()) == {}
    names = [query("server"), query("sErVeR"), query("db.agent"), query("spare")]
    assert asked(agent, *names) == [NEW, NEW, NEW, "10.9.0.3", "ConnectionRefusedError"]
    assert conductor.wait_record("injected").fields["verb"] == "lead"
    assert conductor.ask(Unlead(id=0, fault="move")) == {}
    assert asked(agent, *names) == [OLD, OLD, OLD, "10.9.0.3", "tcp"]
    assert ruleset(agent)[1:] == []
    assert conductor.ask(Unlead(id=0, fault="move")) == {}
    assert [r.event for r in conductor.book() if r.event in ("injected", "witnessed", "healed")] == [
        "injected",
        "healed",
    ]


ONE_SOCKET = f"""
import socket, sys
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.connect(("{SERVICE}", 53))
asker.settimeout(5)
for line in sys.stdin:
    asker.send(bytes.fromhex(line))
    print(socket.inet_ntoa(asker.recv(512)[-4:]), flush=True)
"""


def test_a_socket_that_is_used_again_hears_what_is_so_by_then(host: tuple[Agent, TestConductor]) -> None:
    """Of each name by itself, and also after the cure: no query goes where an earlier one from its port went."""
    agent, conductor = host
    enter = ["nsenter", "--user", "--preserve-credentials", "--net", "--target", str(agent.process.pid)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*enter, sys.executable, "-c", ONE_SOCKET], text=True, **pipes) as asker:  # type: ignore[call-overload]

        def hears(name: str) -> str:
            asker.stdin.write(query(name).hex() + "\n")
            asker.stdin.flush()
            return str(asker.stdout.readline().strip())

        assert (hears("server"), hears("spare")) == (OLD, "10.9.0.3")
        conductor.ask(leading())
        assert (hears("server"), hears("spare"), hears("server")) == (NEW, "10.9.0.3", NEW)
        conductor.ask(Unlead(id=0, fault="move"))
        assert (hears("server"), hears("spare")) == (OLD, "10.9.0.3")


def test_who_has_asked_before_the_cure_is_answered(host: tuple[Agent, TestConductor]) -> None:
    """Else it would wait for its resolver to give up: the query was led away, and nobody else has it."""
    agent, conductor = host
    conductor.ask(leading())
    enter = ["nsenter", "--user", "--preserve-credentials", "--net", "--target", str(agent.process.pid)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*enter, sys.executable, "-c", ONE_SOCKET], text=True, **pipes) as asker:  # type: ignore[call-overload]
        agent.process.send_signal(signal.SIGSTOP)
        cure = conductor.send(Unlead(id=0, fault="move"))
        asker.stdin.write(query("server").hex() + "\n")
        asker.stdin.flush()
        eventually(lambda: is_waiting(agent), 20, "the query waits for the agent")
        agent.process.send_signal(signal.SIGCONT)
        assert conductor.reply(cure) == {}
        assert asker.stdout.readline().strip() == NEW
        asker.stdin.close()


def is_waiting(agent: Agent) -> bool:
    """Whether a datagram waits in a socket of 127.0.0.1, see proc_net_udp in the kernel's documentation."""
    sockets = [line.split() for line in inside(agent, "cat", "/proc/net/udp").splitlines()[1:]]
    return any(row[1].startswith("0100007F:") and not row[4].endswith(":00000000") for row in sockets)


def test_the_host_that_has_moved_says_so_last(host: tuple[Agent, TestConductor]) -> None:
    """It alone gives the witness, and not by having the address; it has one cure for both."""
    agent, conductor = host
    conductor.ask(Renumber(id=0, fault="move", own=OLD, address=NEW, update=False))
    assert [r.event for r in conductor.book() if r.event == "witnessed"] == []
    conductor.ask(leading())
    assert conductor.wait_record("witnessed").fields == {"fault": "move", "by": "address", "address": NEW}
    assert f"{NEW}/24" in inside(agent, "ip", "address", "show", "e0")
    assert conductor.ask(Unrenumber(id=0, fault="move")) == {"interface": "e0", "address": OLD}
    assert asked(agent, query("server")) == [OLD, "tcp"]
    assert f"{OLD}/24" in inside(agent, "ip", "address", "show", "e0")
    assert ruleset(agent)[1:] == []


def test_a_move_that_no_name_service_has_heard_of_has_no_witness(host: tuple[Agent, TestConductor]) -> None:
    """One that is told must acknowledge it, there and back: until it does, the host is where names lead."""
    agent, conductor = host
    conductor.ask(Renumber(id=0, fault="move", own=OLD, address=NEW))
    with pytest.raises(Refusal, match=f"has not heard that the host is at {OLD} again"):
        conductor.ask(Unrenumber(id=0, fault="move"))
    assert f"{NEW}/24" in inside(agent, "ip", "address", "show", "e0")
    assert [r.event for r in conductor.book() if r.event in ("injected", "witnessed", "healed")] == ["injected"]


def test_who_is_lied_to_is_lied_to_wherever_the_host_is(host: tuple[Agent, TestConductor]) -> None:
    """Whichever comes first; and what the agent looks up for itself is not led astray by the lie."""
    agent, conductor = host
    conductor.ask(Mislead(id=0, fault="before", name="server", address="10.9.0.7"))
    conductor.ask(leading())
    conductor.ask(Mislead(id=0, fault="after", name="db.agent", address="10.9.0.7"))
    assert asked(agent, query("server"), query("db.agent"))[:2] == ["10.9.0.7", "10.9.0.7"]
    conductor.ask(Unlead(id=0, fault="move"))
    assert asked(agent, query("server"), query("db.agent"))[:2] == ["10.9.0.7", "10.9.0.7"]
    conductor.ask(Unmislead(id=0, fault="before"))
    conductor.ask(Unmislead(id=0, fault="after"))
    assert asked(agent, query("server"), query("db.agent")) == [OLD, OLD, "tcp"]


def test_it_is_said_once_and_of_names(host: tuple[Agent, TestConductor]) -> None:
    """A second time is refused, and so is what no host can be called."""
    _, conductor = host
    conductor.ask(leading())
    with pytest.raises(Refusal, match="in force already"):
        conductor.ask(leading())
    with pytest.raises(Refusal, match="no names"):
        conductor.ask(leading(fault="other", names=["server; drop"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("sabotage", [NOBODY_IS_LED], indirect=True)
def test_what_nobody_finds_there_is_no_success(host: tuple[Agent, TestConductor]) -> None:
    """The agent looks the names up itself: rules without effect are not taken for one."""
    _, conductor = host
    conductor.ask(Renumber(id=0, fault="move", own=OLD, address=NEW, update=False))
    with pytest.raises(Refusal, match=f"does not say that server is at {NEW}"):
        conductor.ask(leading())
    assert [r.event for r in conductor.book() if r.event == "witnessed"] == []


@pytest.mark.parametrize("sabotage", [NOBODY_IS_LED], indirect=True)
def test_a_look_up_that_nobody_answers_comes_to_an_end(host: tuple[Agent, TestConductor]) -> None:
    """It is refused as if something else had been said."""
    agent, conductor = host
    inside(agent, "nft", "add table ip mute; add chain ip mute out { type filter hook output priority 0; }")
    inside(agent, "nft", "add rule ip mute out udp sport 53 drop")
    with pytest.raises(Refusal, match=f"does not say that server is at {NEW}"):
        conductor.ask(leading())


@pytest.mark.parametrize("sabotage", [TABLE_STAYS], indirect=True)
def test_a_cure_that_leaves_its_rules_is_an_error(host: tuple[Agent, TestConductor]) -> None:
    """T9: nothing is `healed`."""
    _, conductor = host
    conductor.ask(leading())
    with pytest.raises(Refusal, match="ip midsession_move leads queries astray"):
        conductor.ask(Unlead(id=0, fault="move"))
    assert [r.event for r in conductor.book() if r.event == "healed"] == []


def test_a_resolver_that_does_not_come_to_its_senses_is_an_error(host: tuple[Agent, TestConductor]) -> None:
    """T9: after the cure the name is looked up once more."""
    _, conductor = host
    conductor.ask(leading(own="10.9.0.8"))
    with pytest.raises(Refusal, match=r"does not say that server is at 10\.9\.0\.8"):
        conductor.ask(Unlead(id=0, fault="move"))


def test_a_way_out_survives_the_move_and_the_return(host: tuple[Agent, TestConductor]) -> None:
    """The kernel takes routes through a gateway away with the address; they are put back, there and back again."""
    agent, conductor = host
    inside(agent, "ip", "link", "set", "e0", "up")
    inside(agent, "ip", "route", "add", "default", "via", "10.9.0.254", "dev", "e0")
    inside(agent, "ip", "route", "add", "10.8.0.0/16", "via", "10.9.0.253", "dev", "e0", "metric", "7")
    before = routes(agent)
    assert len(before) == 2
    conductor.ask(Renumber(id=0, fault="move", own=OLD, address=NEW, update=False))
    assert routes(agent) == before
    conductor.ask(Unrenumber(id=0, fault="move"))
    assert routes(agent) == before


@pytest.mark.parametrize(
    "sabotage",
    ["from midsession.agent.network import routes\nroutes.put_back = lambda *_: None\n"],
    indirect=True,
)
def test_a_way_out_that_is_lost_is_an_error(host: tuple[Agent, TestConductor]) -> None:
    """T9: the host would be another one than before."""
    agent, conductor = host
    inside(agent, "ip", "link", "set", "e0", "up")
    inside(agent, "ip", "route", "add", "default", "via", "10.9.0.254", "dev", "e0")
    conductor.ask(Renumber(id=0, fault="move", own=OLD, address=NEW, update=False))
    with pytest.raises(Refusal, match="e0 has lost a route"):
        conductor.ask(Unrenumber(id=0, fault="move"))


def routes(agent: Agent) -> list[str]:
    """Those through a gateway."""
    return sorted(line for line in inside(agent, "ip", "route").splitlines() if "via" in line)
