"""The compose testbed: attach to the agents of the Compose project that this process is a service of.

`docker compose up` makes the containers; this testbed only conducts them. The agents dial in over the control network
and prove with the run's token that they belong to it: a fresh random one that this process writes into a small volume
that the agents can read. No Docker socket is needed, and no agent listens anywhere.

How many agents to wait for is asked of the project's own name service: Compose starts this container after those of the
services it depends on, so their names resolve to all their replicas from the first moment.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from midsession.agent.protocol import Configure, Hello, Records, Shutdown
from midsession.core.plan import CommandService, ComposeService, ImageService, Plan, ReferenceService, Service
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds import Inbox
from midsession.testbeds.hosts import AgentHost
from midsession.testbeds.link import AgentLink, fetch_files, receive_hello
from midsession.testbeds.registry import HOSTS, elsewhere

if TYPE_CHECKING:
    from midsession.testbeds.probe import Probe

CLIENT_SERVICE = "client"
PORT = 4100
TOKEN_FILE = Path("/control/token")
_HELLO_S = 5.0
_AGENTS_S = 30.0


class ComposeTestbed:
    """A `Testbed` (see `midsession.testbeds`) on the containers of our own Compose project."""

    name = "compose"
    doing = ""

    def __init__(self, port: int = PORT, token_file: Path = TOKEN_FILE) -> None:
        self.services: Mapping[str, AgentHost] = {}
        self.fleets: Sequence[AgentHost] = ()
        self.foreign: Mapping[str, AgentHost] = {}
        self.port, self._token_file = port, token_file
        self._token = secrets.token_hex(32)
        self._agents: dict[str, list[_Agent]] = defaultdict(list)
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Event()

    def remedy_for(self, ability: str) -> str | None:
        """Its containers have no NET_ADMIN, on purpose: none of these abilities."""
        return f"outside of this project, {elsewhere(ability)}"

    async def open(self, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        """Wait for the project's agents (once), and configure those of the plan for this run."""
        for service in plan.services:
            _refuse_foreign(service)
        for group in plan.foreign:
            raise EnvironmentLacks(
                f"the clients {group.name!r} need hosts of their own, and the compose testbed only attaches to what is "
                "there", elsewhere(HOSTS), slug="client-kind",
            )  # fmt: skip
        if self._server is None:
            await self._listen()
        await self._wait_for_agents([s.name for s in plan.services], bool(plan.groups))
        self.services = {s.name: self._agents[s.name][0].host(s.name) for s in plan.services}
        clients = sorted(self._agents[CLIENT_SERVICE], key=lambda agent: agent.order) if plan.groups else []
        self.fleets = [agent.host(f"{CLIENT_SERVICE}-{n}") for n, agent in enumerate(clients, 1)]
        for host in self._hosts:
            host.link.name, host.link.inbox = host.name, inbox
            await host.ask(Configure(id=0, run=run, host=host.name, seed=plan.seed, plan=plan.hash))

    async def after_start(self, service: str) -> None:
        """Nothing waits for a service but its clients."""

    async def collect(self, directory: Path) -> None:
        """Fetch every host's files over its agent's link."""
        for host in self._hosts:
            await fetch_files(host.link, directory)

    async def close(self) -> None:
        """Free the agents for the next run. (`Configure` clears what this run left on them.)"""
        for host in self._hosts:
            host.link.inbox = _Nobody()
        self.services, self.fleets = {}, ()

    async def shut(self) -> None:
        """Send every agent home: its container ends."""
        for agent in [agent for agents in self._agents.values() for agent in agents]:
            with suppress(HarnessError):  # an agent that is already gone needs no dismissal
                await agent.link.ask(Shutdown(id=0))
            await agent.link.close()
        if self._server is not None:
            self._server.close()
            self._token_file.unlink(missing_ok=True)

    @property
    def _hosts(self) -> list[AgentHost]:
        return [*self.services.values(), *self.fleets]

    # --- how the agents come in ----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if not self._token_file.parent.is_dir():
            raise EnvironmentLacks(
                f"the compose testbed runs inside its own project, and {self._token_file.parent} is not there",
                "run it with `make up` or `docker compose up`",
                slug="not-in-compose",
            )
        self._server = await asyncio.start_server(self._greet, "0.0.0.0", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        fresh = self._token_file.with_suffix(".new")
        fresh.write_text(self._token)
        fresh.chmod(0o644)  # the agents read it as another user
        os.replace(fresh, self._token_file)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await receive_hello(reader, _HELLO_S)
        except HarnessError:
            writer.close()
            return
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            writer.close()
            return
        control = ipaddress.ip_address(writer.get_extra_info("peername")[0])
        link = AgentLink(reader, writer, hello, _Nobody())
        self._agents[hello.service].append(_Agent(link, _address_under_test(hello, control)))
        self._arrived.set()

    async def _wait_for_agents(self, services: Sequence[str], clients: bool) -> None:
        wanted = {name: _replicas(name) for name in [*services, *([CLIENT_SERVICE] if clients else [])]}
        for name, count in wanted.items():
            if not count:
                raise EnvironmentLacks(
                    f"this Compose project has no running service {name!r}",
                    f"give it one container or more (CLIENTS=1, --scale {name}=1)"
                    if name == CLIENT_SERVICE
                    else f"add a service {name!r} whose entry point is the agent, or call the scenario's 'server'",
                    slug="no-such-compose-service",
                )
        try:
            async with asyncio.timeout(_AGENTS_S):
                while missing := [n for n, count in wanted.items() if len(self._agents[n]) < count]:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seen = ", ".join(f"{len(self._agents[n])} of {wanted[n]} agents of {n}" for n in missing)
            raise HarnessError(f"agents answering: not within {_AGENTS_S:g} s; last seen {seen}", "no-agents") from None


@dataclass(frozen=True, slots=True)
class _Agent:
    """An agent that has come in, and its address on the network under test."""

    link: AgentLink
    address: str | None

    @property
    def order(self) -> int:
        """By address, so that a project's containers are numbered alike in each of its runs."""
        return int(ipaddress.IPv4Address(self.address or 0))

    def host(self, name: str) -> AgentHost:
        if self.address is None:
            raise HarnessError(
                f"{self.link.hello.hostname} must be on exactly one network besides the control network",
                "no-data-network",
            )
        return AgentHost(name=name, address=self.address, python=["python"], programs=None, link=self.link)


def _refuse_foreign(service: Service) -> None:
    match service:
        case ReferenceService() | CommandService():
            return
        case ImageService() | ComposeService():
            raise EnvironmentLacks(
                f"service {service.name!r} wants an image, and the compose testbed only attaches to what is there",
                "use `reference:` or `command:`",
                slug="service-kind",
            )


def _replicas(service: str) -> int:
    """How many addresses the project's name service knows for a service; 0 where it knows none."""
    try:
        found = socket.getaddrinfo(service, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return 0
    return len({address[0] for *_, address in found})


def _address_under_test(hello: Hello, control: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """The agent's address that is not the control network's; None when that is not exactly one."""
    found = [ipaddress.ip_interface(a).ip for a in hello.addresses.values()]
    under_test = [a for a in found if isinstance(a, ipaddress.IPv4Address) and a != control]
    return str(under_test[0]) if len(under_test) == 1 else None


class _Nobody:
    """The inbox of an agent between two runs: it has nothing to say, and may go."""

    def records(self, batch: Records) -> None:
        """Nobody listens."""

    def gone(self, host: str, why: str) -> None:
        """The next run that needs it will say so."""


def probes() -> tuple[Probe, ...]:
    """What the doctor looks for before a project is made: whoever runs inside one has it."""
    from midsession.testbeds.docker.looks import BASE_IMAGE, ENGINE, PLUGIN

    return ENGINE, PLUGIN, BASE_IMAGE
