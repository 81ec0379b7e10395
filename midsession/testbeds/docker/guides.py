"""A host comes to another address, and whoever looks its name up is told: the agents answer for the engine's resolver.

That resolver answers within each network namespace, and goes on with the addresses that the engine gave. So the agent
of every host of the run is told where the names of the host lead now, over its own stream, which no fault can cut. The
host itself is told last: its witness says that everybody finds it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from midsession.agent.protocol import Hello, Lead, Prepare, Renumber, Reply, Request, Unlead, Unrenumber
from midsession.errors import HarnessError
from midsession.testbeds import Inbox
from midsession.testbeds.docker.engine import all_of
from midsession.testbeds.docker.model import DATA, HostOrder, Project
from midsession.testbeds.link import AgentLink


class Guides:
    """The agents of a project, and by which names each of their hosts knows those that can move."""

    def __init__(self) -> None:
        self._links: dict[str, AgentLink] = {}
        self._names: dict[str, dict[str, list[str]]] = {}

    def meet(
        self, host: HostOrder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, inbox: Inbox
    ) -> AgentLink:
        """The link to a host's agent."""
        moving = None if host.spare is None else self
        link = self._links[host.name] = _Link(reader, writer, hello, inbox, host.name, moving)
        return link

    def learn(self, order: Project, seen: Mapping[str, Mapping[str, Any]]) -> None:
        """By which names they are known. `seen`: the agents' containers as the engine tells of them, by host."""
        for host in order.hosts:
            if host.spare is not None:
                given = [host.agent, *order.model["services"][host.agent]["networks"][DATA]["aliases"]]
                self._names[host.name] = {
                    asker: known_as(seen[host.name], one, f"{order.name}_{DATA}", given) for asker, one in seen.items()
                }

    async def prepare(self) -> None:
        """Have ready what the agents will need for it. Raises HarnessError."""
        if self._names:
            await asyncio.gather(*(link.ask(Prepare(id=0, abilities=["names"])) for link in self._links.values()))

    async def lead(self, moving: str, ask: Renumber) -> None:
        """Everybody is told where a host is now; itself when all others have heard. Raises HarnessError."""
        leads = {
            asker: Lead(id=0, fault=ask.fault, names=names, own=ask.own, address=ask.address)
            for asker, names in self._names[moving].items()
        }
        own = leads.pop(moving)
        await all_of([self._links[asker].ask(lead) for asker, lead in leads.items()])
        await self._links[moving].ask(own)

    async def unlead(self, moving: str, fault: str) -> None:
        """All others are told no more; its own agent ends that with the rest. Raises HarnessError."""
        asked = [link.ask(Unlead(id=0, fault=fault)) for name, link in self._links.items() if name != moving]
        await all_of(asked)


class _Link(AgentLink):
    """The link to an agent. Where its host can move, `guides` are told of it, one move after the other."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hello: Hello,
        inbox: Inbox,
        name: str,
        guides: Guides | None,
    ) -> None:
        super().__init__(reader, writer, hello, inbox, name)
        self._guides = guides
        self._moves: set[asyncio.Task[Reply]] = set()

    def ask(self, request: Request) -> Awaitable[Reply]:
        """As any link; with what the others must be told."""
        match request:
            case Renumber() if self._guides is not None:
                ask = msgspec.structs.replace(request, update=False)
                before = tuple(self._moves)
                moving = None if before else super().ask(ask)
                return self._spawn(self._move(self._guides, ask, before, moving))
            case Unrenumber() if self._guides is not None:
                return self._spawn(self._return(self._guides, request, tuple(self._moves)))
            case _:
                return super().ask(request)

    async def _move(
        self, guides: Guides, ask: Renumber, before: Sequence[asyncio.Task[Reply]], moving: Awaitable[Reply] | None
    ) -> Reply:
        await _over(before)
        reply = await (moving or super().ask(ask))
        try:
            await guides.lead(self.name, ask)
        except HarnessError:
            with suppress(HarnessError):  # the first one is told; what is left makes its host one that is thrown away
                await self._undo(guides, Unrenumber(id=0, fault=ask.fault))
            raise
        return reply

    async def _return(self, guides: Guides, ask: Unrenumber, before: Sequence[asyncio.Task[Reply]]) -> Reply:
        await _over(before)
        return await self._undo(guides, ask)

    async def _undo(self, guides: Guides, ask: Unrenumber) -> Reply:
        """Its own `healed` comes last, whatever becomes of the others'."""
        try:
            await guides.unlead(self.name, ask.fault)
        finally:
            reply = await super().ask(ask)
        return reply

    def _spawn(self, move: Coroutine[Any, Any, Reply]) -> asyncio.Task[Reply]:
        task = asyncio.get_running_loop().create_task(move)
        self._moves.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Reply]) -> None:
        """Nobody need await it: an error that nobody asks for must not be complained about."""
        self._moves.discard(task)
        if not task.cancelled():
            task.exception()


async def _over(moves: Sequence[asyncio.Task[Reply]]) -> None:
    if moves:
        await asyncio.wait(moves)


def known_as(
    container: Mapping[str, Any], asker: Mapping[str, Any], network: str, given: Sequence[str] = ()
) -> list[str]:
    """By which names the engine's resolver knows a container on a network, where that other container asks.

    Both as `docker inspect` has them. Besides the names that it was given there are its own, its short ID, and the
    `links` of the one who asks; and each of them with the network's name behind a dot (moby's `Sandbox.ResolveName`).
    In lower case, each once.
    """
    own = container["Name"].lstrip("/")
    here, there = (one["NetworkSettings"]["Networks"][network] for one in (container, asker))
    linked = [alias for whom, _, alias in (link.partition(":") for link in there.get("Links") or ()) if whom == own]
    names = [*given, own, *(here.get("Aliases") or ()), *(here.get("DNSNames") or ()), *linked]
    plain = sorted({name.lower() for name in names})
    return [*plain, *(f"{name}.{network.lower()}" for name in plain)]
