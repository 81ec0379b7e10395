"""A project that is up: its agents are met once, and then serve one run after the other.

Between two runs every host is reset, and must then be as it was before its first run, see `midsession.agent.census`. A
project of which one host is not is no more of use. The containers of programs by image are made anew for each run, see
`programs`. What the services of a Compose file have written stays where it is, so their project serves one run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from midsession.agent.protocol import Configure, Reset
from midsession.core.plan import CommandService, Connect, ImageService, Instruction, Plan, Program, Repeat, Service
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds import Inbox, RunInbox
from midsession.testbeds.docker import derived, model, published
from midsession.testbeds.docker.attached import attach_socket, open_agent
from midsession.testbeds.docker.container import ContainerHost
from midsession.testbeds.docker.engine import all_of
from midsession.testbeds.docker.guides import Guides
from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.neighbours import Neighbours, containers
from midsession.testbeds.docker.programs import Programs
from midsession.testbeds.docker.workshop import Workshop, no_image
from midsession.testbeds.hosts import AgentHost
from midsession.testbeds.link import AgentLink, receive_hello

AnyHost = AgentHost | ContainerHost

_HELLO_S = 30.0
_RESET_S = 5.0
_GIVEN_OUT = range(32768, 61000)
"""The ports that a kernel gives to who asks for none (ip-sysctl, ip_local_port_range): whoever is denied one takes
another."""


class LiveProject:
    """One project of `workshop`, made as `order` says. `images` are the IDs of the images in it, by their names."""

    def __init__(self, workshop: Workshop, order: model.Project, images: Mapping[str, str]) -> None:
        self.order = order
        self.hosts: list[AnyHost] = []
        self.doing = ""
        self._workshop, self._images = workshop, images
        self._programs = Programs(workshop)
        self._containers: dict[str, str] = {}
        """Those that last, by their Compose service."""
        self._of_programs: dict[str, str] = {}
        """Those of the programs of this run, by the host."""
        self._links: dict[str, AgentLink] = {}
        self._neighbours: Neighbours | None = None
        self._accounts = {host.name: _Account() for host in order.hosts}
        self._fresh: dict[str, Any] = {}
        self._count: dict[str, Any] = {}
        self._lingering: dict[str, Lingering] = {}
        self._guides = Guides()
        self._ran: Mapping[str, Any] = {}
        """The programs of the last run, by the host."""
        self._by_steps: Collection[str] = ()
        """The services of this run that a step starts."""
        self._has_begun = False
        """A run has, to the end of its beginning."""

    # --- its life --------------------------------------------------------------------------------------------------

    async def make(self, directory: Path) -> None:
        """Make its containers, but for those of programs by image; they do not run yet. Raises HarnessError, and
        EnvironmentLacks for an image that cannot be had."""
        file = self._write_model(directory)
        if builds := derived.has_builds(self.order):
            self._does(f"building {', '.join(builds)} (docker compose build)")
            await self._workshop.call_compose(self.order.name, file, "build", *builds, variables=self.order.variables)
        self._does("making its containers (docker compose create)")
        lasting = self.order.lasting["services"]
        create = ("create", "--no-build", *lasting)
        try:
            await self._workshop.call_compose(self.order.name, file, *create, variables=self.order.variables)
        except HarnessError as error:
            raise await self._no_image(error) or error from None

    async def _no_image(self, error: HarnessError) -> EnvironmentLacks | None:
        """What Compose's refusal means when a service of the user's file is of an image that is not there."""
        with suppress(HarnessError):  # then the refusal itself is told
            for name, service in self.order.lasting["services"].items():
                image = service.get("image")
                if image and "build" not in service and await self._workshop.lacks(image):
                    return no_image(image, error, f" for the service {name!r} of the Compose file")
        return None

    async def start(self, directory: Path, inbox: RunInbox) -> None:
        """Start the agents, and meet them; meanwhile make what joins them. What is published of hosts is noted."""
        engine = self._workshop.engine
        self._does("meeting its agents")
        found = await engine.call(containers, engine.api, self.order.name)
        self._containers = {service: ids[0] for service, ids in found.items()}
        await all_of([*(self._meet(host, inbox, directory) for host in self.order.hosts), self._make_programs()])
        await self._tell_ports(inbox)
        if any(host.spare for host in self.order.hosts):
            agents = {h.name: self._containers[h.agent] for h in self.order.hosts}
            seen = {name: await engine.call(engine.api.inspect_container, agent) for name, agent in agents.items()}
            self._guides.learn(self.order, seen)
        if self.order.may_last:
            await self._recount()
            self._fresh = self._count

    async def begin(self, plan: Plan, run: str, directory: Path, inbox: RunInbox) -> None:
        """Have the agents begin a run, and bring up the neighbours of its hosts."""
        file = self._write_model(directory)
        self.hosts = [self._host(order, inbox) for order in self.order.hosts]
        self._ran = programs_of(plan, self._images)
        self._by_steps = {service.name for service in plan.services if not service.autostart}
        await all_of([self._configure(host, plan, run, directory, inbox) for host in self.hosts])
        await self._guides.prepare()
        self._has_begun = True
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
            order = next(order for order in self.order.hosts if order.name == host)
            await self._neighbours.after_start(order, by_step=host in self._by_steps)

    async def collect(self, directory: Path) -> None:
        """Bring what the neighbours have said into the run directory. Raises OSError."""
        if self._neighbours is not None:
            await self._neighbours.save_logs(directory)

    async def remove(self) -> None:
        """Take it away. Raises HarnessError, naming what could not be removed."""
        if self._neighbours is not None:
            self._neighbours.close()
        self._let_go_of_run()
        for link in self._links.values():
            await link.close()
        for account in self._accounts.values():
            account.close()
        await self._programs.wait_until_made()
        with suppress(HarnessError):  # what is left is looked for once more
            await self._programs.wait_until_gone()
        await self._workshop.remove(self.order.name)

    def _let_go_of_run(self) -> None:
        for host in self.hosts:
            if isinstance(host, ContainerHost):
                host.close()
        self.hosts = []

    # --- a further run ---------------------------------------------------------------------------------------------

    @property
    def is_reusable(self) -> bool:
        """Whether it may serve a further run: not when the last one has not begun, or has left a program running."""
        in_order = self._has_begun and all(h.is_finished for h in self.hosts if isinstance(h, ContainerHost))
        return in_order and self.order.may_last

    def rest(self) -> None:
        """The run is over, and another may come. What was made for this one alone begins to go."""
        self._let_go_of_run()
        self._programs.retire()

    def fits(self, order: model.Project, images: Mapping[str, str]) -> bool:
        """Whether a project made as `order` says would be the same, but for the programs by image."""
        same = all(self._images.get(ours) == images.get(ours) for ours in (SERVER_IMAGE, CLIENT_IMAGE))
        return same and order.may_last and self.order.lasting == order.lasting

    async def renew(self, plan: Plan, order: model.Project, images: Mapping[str, str]) -> bool:
        """Forget the last run, and make what `order` has for this one alone.

        Returns whether that has left a project as good as new for `plan`; else it is to be removed.
        """
        self.order, self._images, self._has_begun = order, images, False
        programs = programs_of(plan, images)
        again = {host for host in programs if programs[host] == self._ran.get(host)}
        self._does("resetting a project that was kept")
        try:
            await all_of([self._make_programs(), self._recount()])
        except HarnessError:
            return False
        return self._count == self._fresh and not is_denied(plan, self._lingering, again)

    async def _recount(self) -> None:
        """Reset every host, and ask what there is on it, and which ports a program might be denied.

        Not before the last run's programs are gone: what is counted is what they have left. Raises HarnessError.
        """
        await self._programs.wait_until_gone()
        asked = [link.ask(Reset(id=0, scratch=model.WRITABLE)) for link in self._links.values()]
        try:
            async with asyncio.timeout(_RESET_S):
                replies = dict(zip(self._links, await asyncio.gather(*asked), strict=True))
        except TimeoutError:
            raise HarnessError(f"every host reset: not within {_RESET_S:g} s", "agent-silent") from None
        values = {name: reply.value for name, reply in replies.items()}
        self._lingering = {name: Lingering(v["lingering"], v["shared"]) for name, v in values.items()}
        self._count = {name: value["census"] for name, value in values.items()}

    # --- its hosts -------------------------------------------------------------------------------------------------

    def _does(self, what: str) -> None:
        self.doing = what

    async def _make_programs(self) -> None:
        self._of_programs = await self._programs.make(self.order, self._containers)

    async def _meet(self, host: model.HostOrder, inbox: Inbox, directory: Path) -> None:
        """Attach first, then start: nothing that the agent says is missed."""
        engine, agent = self._workshop.engine, self._containers[host.agent]
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
        self._links[host.name] = self._guides.meet(host, reader, writer, hello, inbox)
        if host.program is not None and host.name in self.order.put_in:
            program = self._containers[host.program]
            await engine.call(engine.api.put_archive, program, "/", self.order.put_in[host.name])

    async def _start_agent(self, host: model.HostOrder, container: str) -> None:
        try:
            await self._workshop.engine.call(self._workshop.engine.api.start, container)
        except HarnessError as error:
            raise published.taken(str(host.program), self.order.model["services"][host.agent], error) or error from None

    async def _tell_ports(self, inbox: RunInbox) -> None:
        for host in self.order.hosts:
            service = self.order.model["services"][host.agent]
            for text in await self._workshop.ports(host.name, service, self._containers[host.agent]):
                inbox.note(text)

    def _host(self, order: model.HostOrder, inbox: Inbox) -> AnyHost:
        name, link = order.name, self._links[order.name]
        if order.program is None:
            return AgentHost(name, order.address, ["python"], None, link, order.spare)
        container = self._of_programs.get(name) or self._containers[order.program]
        api, keeps_logs = self._workshop.engine.api, name in self._of_programs
        return ContainerHost(name, order.address, api, container, link, inbox, keeps_logs, order.spare)

    async def _configure(self, host: AnyHost, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        client = host.name if host.name in plan.foreign_clients else None
        self._accounts[host.name].go_to(_account_file(directory, host.name))
        if isinstance(host, ContainerHost):
            await host.configure(run, plan.seed, plan.hash, directory, client)
            return
        host.link.inbox = inbox
        await host.ask(Configure(id=0, run=run, host=host.name, seed=plan.seed, plan=plan.hash, client=client))

    def _write_model(self, directory: Path) -> Path:
        file = directory / "compose.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self.order.model), indent=2))
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


def _account_file(directory: Path, host: str) -> Path:
    return directory / "logs" / f"{host}.agent.stderr.log"


@dataclass(frozen=True, slots=True)
class Lingering:
    """The ports of a host that are in TIME_WAIT; `shared` are those of them that were asked for with SO_REUSEADDR."""

    ports: Collection[int] = ()
    shared: Collection[int] = ()


def programs_of(plan: Plan, images: Mapping[str, str]) -> dict[str, tuple[Service | Program | None, str | None]]:
    """What the program of the user's is, by its host: all that the plan says of it, and the ID of its image."""
    found: dict[str, Service | Program | None] = {
        service.name: service for service in plan.services if isinstance(service, CommandService | ImageService)
    }
    found |= {name: group.program for group in plan.foreign for name in group.names}
    return {host: (program, images.get(getattr(program, "image", None) or "")) for host, program in found.items()}


def is_denied(plan: Plan, lingering: Mapping[str, Lingering], again: Collection[str] = ()) -> bool:
    """Whether a program of the plan may be denied a port, since it is in TIME_WAIT. `lingering`: those, by host.

    Our own server is sure to get its port. Which ports a program of the user's asks for is not known but for the
    service's: all that nobody gets who asks for none, then, since the last program must have asked for them, too. It is
    sure to get what the last one asked for with SO_REUSEADDR when it is the same one `again`, on these hosts.
    """
    listened = {s.name: {s.port} for s in plan.services if isinstance(s, CommandService | ImageService)}
    sources = {port for group in plan.groups for port in _source_ports(group.script)}
    theirs = {*listened, *plan.foreign_clients}
    return any(
        port in listened.get(host, sources) or (host in theirs and port not in _GIVEN_OUT)
        for host, left in lingering.items()
        for port in left.ports
        if not (host in again and port in left.shared)
    )


def _source_ports(script: Sequence[Instruction]) -> Iterator[int]:
    for step in script:
        if isinstance(step, Connect) and step.source_port is not None:
            yield step.source_port
        elif isinstance(step, Repeat):
            yield from _source_ports(step.script)


__all__ = ["AnyHost", "Lingering", "LiveProject", "is_denied", "programs_of"]
