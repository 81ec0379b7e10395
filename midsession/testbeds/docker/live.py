"""A project that is up: its agents are met once, and then serve one run after the other.

Between two runs every host is reset, and must then be as it was before its first run, see `midsession.agent.census`. A
project of which one host is not is no more of use. Neither is one with a program in a container of its own, since what
that has written stays in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from midsession.agent.protocol import Configure, Reset
from midsession.core.plan import CommandService, Connect, Instruction, Plan, Repeat
from midsession.errors import HarnessError
from midsession.testbeds import Inbox, RunInbox
from midsession.testbeds.docker import derived, model, published
from midsession.testbeds.docker.archive import packed
from midsession.testbeds.docker.attached import attach_socket, open_agent
from midsession.testbeds.docker.container import ContainerHost
from midsession.testbeds.docker.guides import Guides
from midsession.testbeds.docker.neighbours import Neighbours, containers
from midsession.testbeds.docker.workshop import Workshop
from midsession.testbeds.hosts import AgentHost
from midsession.testbeds.link import receive_hello

AnyHost = AgentHost | ContainerHost

_HELLO_S = 30.0
_RESET_S = 5.0


class LiveProject:
    """One project of `workshop`, made as `order` says. `images` are the IDs of the images of our own in it."""

    def __init__(self, workshop: Workshop, order: model.Project, images: Mapping[str, str]) -> None:
        self.order = order
        self.hosts: list[AnyHost] = []
        self.doing = ""
        self._workshop, self._images = workshop, images
        self._model = msgspec.json.format(msgspec.json.encode(order.model), indent=2)
        self._neighbours: Neighbours | None = None
        self._accounts = {host.name: _Account() for host in order.hosts}
        self._fresh: dict[str, Any] = {}
        self._lingering: dict[str, set[int]] = {}
        self._guides = Guides()

    # --- its life --------------------------------------------------------------------------------------------------

    async def make(self, directory: Path) -> None:
        """Make its containers, which do not run yet. Raises HarnessError."""
        file = self._write_model(directory)
        if builds := derived.has_builds(self.order):
            self._does(f"building {', '.join(builds)} (docker compose build)")
            await self._workshop.call_compose(self.order.name, file, "build", *builds, variables=self.order.variables)
        self._does("making its containers (docker compose create)")
        await self._workshop.call_compose(self.order.name, file, "create", "--no-build", variables=self.order.variables)

    async def start(self, directory: Path, inbox: RunInbox) -> None:
        """Start the agents, and meet them; what is published of their hosts is noted."""
        engine = self._workshop.engine
        self._does("meeting its agents")
        found = await engine.call(containers, engine.api, self.order.name)
        made = {service: ids[0] for service, ids in found.items()}
        await all_of([self._meet(host, made, inbox, directory) for host in self.order.hosts])
        names = [host.name for host in self.order.hosts]
        self.hosts.sort(key=lambda host: names.index(host.name))
        await self._tell_ports(made, inbox)
        if any(host.spare for host in self.order.hosts):
            seen = {h.name: await engine.call(engine.api.inspect_container, made[h.agent]) for h in self.order.hosts}
            self._guides.learn(self.order, seen)
        if self.is_reusable:
            self._fresh = await self._census()

    async def begin(self, plan: Plan, run: str, directory: Path, inbox: RunInbox) -> None:
        """Have the agents begin a run, and bring up the neighbours of its hosts."""
        file = self._write_model(directory)
        await all_of([self._configure(host, plan, run, directory, inbox) for host in self.hosts])
        await self._guides.prepare()
        if not self.order.beside:
            return
        self._neighbours = Neighbours(self._workshop, self.order, file, inbox, self._does)
        try:
            await self._neighbours.begin()
        except BaseException:
            with suppress(HarnessError, OSError):  # what went wrong is told; this may tell why
                await self._neighbours.save_logs(directory)
            raise

    async def after_start(self, host: str) -> None:
        """The program of a host is up for the first time: bring up what has waited for it."""
        if self._neighbours is not None:
            await self._neighbours.after_start(next(order for order in self.order.hosts if order.name == host))

    async def collect(self, directory: Path) -> None:
        """Bring what the neighbours have said into the run directory. Raises OSError."""
        if self._neighbours is not None:
            await self._neighbours.save_logs(directory)

    async def remove(self) -> None:
        """Take it away. Raises HarnessError, naming what could not be removed."""
        if self._neighbours is not None:
            self._neighbours.close()
        for host in self.hosts:
            await (host.link if isinstance(host, AgentHost) else host).close()
        for account in self._accounts.values():
            account.close()
        self.hosts = []
        await self._workshop.remove(self.order.name)

    # --- a further run ---------------------------------------------------------------------------------------------

    def fits(self, plan: Plan, fleets: int, images: Mapping[str, str]) -> bool:
        """Whether a project for that plan would be the same: hosts of that name and power, of the same images."""
        return (
            self.is_reusable
            and self._images == images
            and self.order.hosts == model.hosts_of(plan, self.order.subnet, fleets)
        )

    async def renew(self, plan: Plan) -> bool:
        """Forget the last run. Whether that has left a project as good as new for `plan`; else it is to be removed."""
        try:
            async with asyncio.timeout(_RESET_S):
                return await self._census() == self._fresh and not self._is_denied(plan)
        except (HarnessError, TimeoutError):
            return False

    @property
    def is_reusable(self) -> bool:
        """Whether it can serve a further run at all."""
        return not self.order.beside and all(host.program is None for host in self.order.hosts)

    async def _census(self) -> dict[str, Any]:
        """Reset every host, and ask what there is on it. Notes the ports that a program might be denied."""
        replies = await asyncio.gather(*(host.link.ask(Reset(id=0, scratch=model.WRITABLE)) for host in self.hosts))
        self._lingering = {h.name: set(r.value["lingering"]) for h, r in zip(self.hosts, replies, strict=True)}
        return {host.name: reply.value["census"] for host, reply in zip(self.hosts, replies, strict=True)}

    def _is_denied(self, plan: Plan) -> bool:
        """A port that the plan asks for may still be in TIME_WAIT; only our own server is sure to get it."""
        listened = {s.name: {s.port} for s in plan.services if isinstance(s, CommandService)}
        sources = {port for group in plan.groups for port in _source_ports(group.script)}
        return any(ports & listened.get(host, sources) for host, ports in self._lingering.items())

    # --- its hosts -------------------------------------------------------------------------------------------------

    def _does(self, what: str) -> None:
        self.doing = what

    async def _meet(self, host: model.HostOrder, made: Mapping[str, str], inbox: Inbox, directory: Path) -> None:
        """Attach first, then start: nothing that the agent says is missed."""
        engine, agent = self._workshop.engine, made[host.agent]
        account = self._accounts[host.name]
        account.go_to(_account_file(directory, host.name))
        attached = await engine.call(attach_socket, engine.api, agent, stdin=True)
        reader, writer = await open_agent(attached, account.note)
        try:
            await self._start_agent(host, agent)
            hello = await receive_hello(reader, _HELLO_S)
        except BaseException:
            writer.close()
            raise
        link = self._guides.meet(host, reader, writer, hello, inbox)
        if host.program is None:
            self.hosts.append(AgentHost(host.name, host.address, ["python"], None, link, host.spare))
        else:
            program = made[host.program]
            if host.files is not None:
                await engine.call(engine.api.put_archive, program, "/", packed(host.files))
            if host.name in self.order.put_in:
                await engine.call(engine.api.put_archive, program, "/", self.order.put_in[host.name])
            keeps_logs = host.files is not None
            made_of = (engine.api, program, link, inbox, keeps_logs, host.spare)
            self.hosts.append(ContainerHost(host.name, host.address, *made_of))

    async def _start_agent(self, host: model.HostOrder, container: str) -> None:
        try:
            await self._workshop.engine.call(self._workshop.engine.api.start, container)
        except HarnessError as error:
            raise published.taken(str(host.program), self.order.model["services"][host.agent], error) or error from None

    async def _tell_ports(self, made: Mapping[str, str], inbox: RunInbox) -> None:
        engine = self._workshop.engine
        for host in self.order.hosts:
            service = self.order.model["services"][host.agent]
            if "ports" in service:
                found = await engine.call(engine.api.inspect_container, made[host.agent])
                for text in published.told(host.name, service, found):
                    inbox.note(text)

    async def _configure(self, host: AnyHost, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        client = host.name if host.name in plan.foreign_clients else None
        if isinstance(host, ContainerHost):
            await host.configure(run, plan.seed, plan.hash, directory, client)
            return
        host.link.inbox = inbox
        self._accounts[host.name].go_to(_account_file(directory, host.name))
        await host.ask(Configure(id=0, run=run, host=host.name, seed=plan.seed, plan=plan.hash, client=client))

    def _write_model(self, directory: Path) -> Path:
        file = directory / "compose.json"
        file.write_bytes(self._model)
        return file


class _Account:
    """An agent's account of itself, its standard error: into a file of the run under way."""

    def __init__(self) -> None:
        self._fd: int | None = None

    def go_to(self, path: Path) -> None:
        self.close()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def note(self, data: bytes) -> None:
        if self._fd is not None:
            os.write(self._fd, data)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


async def all_of(doing: Sequence[Awaitable[None]]) -> None:
    """All at once; the first error is raised when all are over."""
    for outcome in await asyncio.gather(*doing, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _account_file(directory: Path, host: str) -> Path:
    return directory / "logs" / f"{host}.agent.stderr.log"


def _source_ports(script: Sequence[Instruction]) -> Iterator[int]:
    for step in script:
        if isinstance(step, Connect) and step.source_port is not None:
            yield step.source_port
        elif isinstance(step, Repeat):
            yield from _source_ports(step.script)


__all__ = ["AnyHost", "LiveProject", "all_of"]
