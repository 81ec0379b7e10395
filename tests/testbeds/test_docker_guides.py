"""Who is told that a host has moved, in which order, and what becomes of it when somebody cannot be told."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from midsession.agent.protocol import (
    Hello,
    Lead,
    Prepare,
    Renumber,
    Reply,
    Request,
    Unlead,
    Unrenumber,
    decode_request,
    encode,
)
from midsession.errors import HarnessError
from midsession.testbeds.docker.guides import Guides, known_as
from midsession.testbeds.docker.model import DATA, HostOrder, Project
from midsession.testbeds.link import AgentLink
from tests.testbeds.test_link import HELLO, Box

HOSTS = [
    HostOrder("server", "server", "10.213.0.2", "server", spare="10.213.0.4", led=True),
    HostOrder("client-1", "client", "10.213.0.3", "client-1", led=True),
]
MOVE = Renumber(id=0, fault="move", own="10.213.0.2", address="10.213.0.4")
BACK = Unrenumber(id=0, fault="move")


def container(name: str, aliases: Sequence[str] = (), links: Sequence[str] | None = None) -> dict[str, Any]:
    """As `docker inspect` tells of one."""
    return {
        "Name": f"/{name}",
        "NetworkSettings": {"Networks": {"p_under-test": {"Aliases": [*aliases], "Links": links}}},
    }


def order(hosts: list[HostOrder]) -> Project:
    """A project of these hosts, each with its name for an alias."""
    services = {host.agent: {"networks": {DATA: {"aliases": [host.name]}}} for host in hosts}
    return Project("p", ipaddress.IPv4Network("10.213.0.0/27"), hosts, {"services": services})


SEEN = {"server": container("p-server-1", ["server"]), "client-1": container("p-client-1-1", ["client-1"])}
NAMES = ["p-server-1", "server", "p-server-1.p_under-test", "server.p_under-test"]


class FakeAgents:
    """Agents that answer at once, but for requests of a kind that is refused; tells what each was asked, in order."""

    def __init__(self, refused: Callable[[str, Request], bool] = lambda _who, _ask: False) -> None:
        self.asked: list[tuple[str, str]] = []
        self.requests: list[Request] = []
        self._refused = refused

    def answers(self, who: str, data: bytes, reader: asyncio.StreamReader) -> None:
        for line in data.splitlines():
            request = decode_request(line)
            self.asked.append((who, type(request).__name__))
            self.requests.append(request)
            error = "no" if self._refused(who, request) else None
            reader.feed_data(encode(Reply(id=request.id, t_ns=1, error=error)) + b"\n")


class Writer:
    """The writing end of a stream that leads to one of them."""

    def __init__(self, agents: FakeAgents, who: str, reader: asyncio.StreamReader) -> None:
        self._to = agents, who, reader

    def write(self, data: bytes) -> None:
        agents, who, reader = self._to
        agents.answers(who, data, reader)

    def close(self) -> None:
        self._to[2].feed_eof()


def met(guides: Guides, agents: FakeAgents, host: HostOrder) -> AgentLink:
    reader = asyncio.StreamReader()
    hello: Hello = HELLO
    return guides.meet(host, reader, Writer(agents, host.name, reader), hello, Box())  # type: ignore[arg-type]


def play(agents: FakeAgents, part: Callable[[AgentLink], Awaitable[None]]) -> None:
    """A part with the server's link, in a project of two hosts."""

    async def main() -> None:
        guides = Guides()
        links = [met(guides, agents, host) for host in HOSTS]
        guides.learn(order(HOSTS), SEEN)
        await part(links[0])
        for link in links:
            await link.close()

    asyncio.run(main())


def test_the_host_is_told_last_and_is_back_last() -> None:
    """So its witness says that everybody finds it, and its cure that nobody looks for it elsewhere."""
    agents = FakeAgents()

    async def part(server: AgentLink) -> None:
        for request in (MOVE, BACK):
            reply = await server.ask(request)
            assert reply.t_ns == 1, "what its agent has answered"

    play(agents, part)
    there = [("server", "Renumber"), ("client-1", "Lead"), ("server", "Lead")]
    assert agents.asked == [*there, ("client-1", "Unlead"), ("server", "Unrenumber")]
    renumber, lead, *_ = agents.requests
    assert isinstance(renumber, Renumber)
    assert not renumber.update
    assert isinstance(lead, Lead)
    assert (lead.fault, lead.names, lead.own, lead.address) == ("move", NAMES, MOVE.own, MOVE.address)


def test_the_names_that_a_host_was_given_lead_to_it_whatever_the_engine_says() -> None:
    """Its service's in Compose and its aliases: not every engine tells of them."""
    agents = FakeAgents()
    host = HostOrder("db", "db", "10.213.0.2", "db.agent", spare="10.213.0.4", led=True)

    async def main() -> None:
        guides = Guides()
        link = met(guides, agents, host)
        guides.learn(order([host]), {"db": container("p-db.agent-1")})
        await link.ask(MOVE)
        await link.close()

    asyncio.run(main())
    (names,) = [request.names for request in agents.requests if isinstance(request, Lead)]
    assert [name for name in names if not name.endswith(".p_under-test")] == ["db", "db.agent", "p-db.agent-1"]


def test_a_move_is_on_its_way_when_it_has_been_asked_for() -> None:
    """A fault does not wait for the event loop's next round."""
    agents = FakeAgents()

    async def part(server: AgentLink) -> None:
        moving = server.ask(MOVE)
        assert agents.asked == [("server", "Renumber")]
        await moving

    play(agents, part)
    assert len(agents.asked) == 3


@pytest.mark.parametrize("who", ["server", "client-1"])
def test_a_move_that_somebody_cannot_be_told_of_is_undone(who: str) -> None:
    """The step fails, and the host is where it was: half an effect is none."""
    agents = FakeAgents(lambda asked, request: asked == who and isinstance(request, Lead))

    async def part(server: AgentLink) -> None:
        with pytest.raises(HarnessError, match=f"the agent on {who} refused: no"):
            await server.ask(MOVE)

    play(agents, part)
    assert agents.asked[-2:] == [("client-1", "Unlead"), ("server", "Unrenumber")]


def test_what_went_wrong_first_is_told_though_the_host_stays_where_it_is() -> None:
    """Not what has gone wrong when it was to be undone."""
    agents = FakeAgents(lambda _who, request: isinstance(request, Lead | Unrenumber))

    async def part(server: AgentLink) -> None:
        with pytest.raises(HarnessError, match="the agent on client-1 refused"):
            await server.ask(MOVE)

    play(agents, part)
    assert agents.asked[-1] == ("server", "Unrenumber")


def test_a_move_whose_end_nobody_waits_for_is_not_complained_about() -> None:
    """A run that ends meanwhile, or a cure that waits for it in its place: the event loop must say nothing on it."""
    agents = FakeAgents(lambda _who, request: isinstance(request, Lead))
    complaints: list[dict[str, Any]] = []

    async def part(server: AgentLink) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        server.ask(MOVE)
        await server.ask(BACK)
        abandoned = asyncio.ensure_future(server.ask(MOVE))
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        del abandoned
        gc.collect()

    play(agents, part)
    assert agents.asked.count(("client-1", "Lead")) == 1
    assert complaints == []


def test_a_move_that_the_host_refuses_is_told_to_nobody() -> None:
    """It is where it was."""
    agents = FakeAgents(lambda _who, request: isinstance(request, Renumber))

    async def part(server: AgentLink) -> None:
        with pytest.raises(HarnessError, match="the agent on server refused"):
            await server.ask(MOVE)

    play(agents, part)
    assert agents.asked == [("server", "Renumber")]


def test_a_host_goes_back_though_somebody_goes_on_being_told_otherwise() -> None:
    """The cure fails, for all to see, when it has done what it can."""
    agents = FakeAgents(lambda _who, request: isinstance(request, Unlead))

    async def part(server: AgentLink) -> None:
        await server.ask(MOVE)
        with pytest.raises(HarnessError, match="the agent on client-1 refused"):
            await server.ask(BACK)

    play(agents, part)
    assert agents.asked[-1] == ("server", "Unrenumber")


def test_moves_of_one_host_are_one_after_the_other() -> None:
    """A cure that comes while others are still being told of the move does not come before that."""
    agents = FakeAgents()

    async def part(server: AgentLink) -> None:
        await asyncio.gather(server.ask(MOVE), server.ask(BACK), server.ask(MOVE), server.ask(BACK))

    play(agents, part)
    once = [
        ("server", "Renumber"),
        ("client-1", "Lead"),
        ("server", "Lead"),
        ("client-1", "Unlead"),
        ("server", "Unrenumber"),
    ]
    assert agents.asked == once * 2


def test_agents_are_prepared_where_a_host_can_move() -> None:
    """All of them, for each may have to tell of it; none elsewhere."""
    agents = FakeAgents()

    async def main() -> None:
        for hosts in ([HOSTS[1]], HOSTS):
            guides = Guides()
            links = [met(guides, agents, host) for host in hosts]
            guides.learn(order(hosts), SEEN)
            await guides.prepare()
            for link in links:
                await link.close()

    asyncio.run(main())
    assert sorted(agents.asked) == [("client-1", "Prepare"), ("server", "Prepare")]
    assert {request.abilities[0] for request in agents.requests if isinstance(request, Prepare)} == {"names"}


def test_a_host_is_known_by_all_names_that_the_engine_answers_for() -> None:
    """Its container's, its aliases (with the short ID), what the one who asks calls it by `links`, and each of them
    with the network's name behind."""
    moved = container("p-db.agent-1", ["DB", "db.agent", "0123456789ab"])
    asker = container("p-app-1", ["app"], ["p-db.agent-1:database", "p-other-1:cache"])
    plain = ["0123456789ab", "database", "db", "db.agent", "p-db.agent-1"]
    assert known_as(moved, asker, "p_under-test") == [*plain, *(f"{name}.p_under-test" for name in plain)]
    assert "database" not in known_as(moved, moved, "p_under-test")
