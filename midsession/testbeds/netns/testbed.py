"""`NetnsTestbed`: worlds of network namespaces, ordered from a warm process.

The namespaces are made by `world`, forked from a warm `template` process that is started once per testbed. The hosts
share our file system, read-only but for the run directory, so nothing has to be collected.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import socket
import sys
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from midsession.agent.network import nft
from midsession.agent.protocol import Configure
from midsession.core.job import SPARE_DESCRIPTORS
from midsession.core.plan import CommandService, Plan, ReferenceService
from midsession.errors import EnvironmentLacks, HarnessError, few_files
from midsession.faults import looked_up, needed_abilities
from midsession.programs import programs_directory
from midsession.testbeds import Inbox
from midsession.testbeds.hosts import AgentHost, by_role
from midsession.testbeds.link import AgentLink, receive_hello
from midsession.testbeds.netns.abilities import netem, packet_filter, packet_queue, queue_remedy, socket_destroyer
from midsession.testbeds.netns.confinement import Limits
from midsession.testbeds.netns.filesystem import needed_paths
from midsession.testbeds.netns.refusal import Machine, explain
from midsession.testbeds.netns.warmth import WarmProcess, take
from midsession.testbeds.netns.world import MAX_HOSTS, Answer, HostOrder, WorldOrder
from midsession.testbeds.registry import CONTAINERS, elsewhere

if TYPE_CHECKING:
    from midsession.testbeds.probe import Probe

NETWORK = ipaddress.IPv4Network("10.77.0.0/16")
_SPARE = 1026
"""The spare address of the first host: behind those of all hosts."""
_UP_S = 10.0
_DOWN_S = 5.0
_CLIENTS_PER_FLEET = 8000  # a process may hold 20,000 descriptors at most on common machines (RLIMIT_NOFILE)

_SPARE_FILES = 40
"""What this process has open besides two ends for each host."""


class NetnsTestbed:
    """A `Testbed` (see `midsession.testbeds`) of network namespaces."""

    name = "netns"
    doing = ""

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits` None: those of the environment. Raises EnvironmentLacks when they cannot be read."""
        self._limits = limits or Limits.of_environment()
        self.services: Mapping[str, AgentHost] = {}
        self.fleets: Sequence[AgentHost] = ()
        self.foreign: Mapping[str, AgentHost] = {}
        self._warm: WarmProcess | None = None
        self._status: socket.socket | None = None

    def remedy_for(self, ability: str) -> str | None:
        """Its agents are root of their own network namespaces: nothing but what must be installed."""
        if ability in ("filter", "names") and not nft.available():
            return "install nftables (Debian: apt-get install nftables)"
        if ability in ("filter", "names") and not packet_filter():
            return "take a kernel with nftables for IPv4 (CONFIG_NF_TABLES_IPV4)"
        if ability == "sockets" and not socket_destroyer():
            return "take a kernel that destroys sockets (CONFIG_INET_DIAG_DESTROY)"
        if ability == "queue" and not packet_queue():
            return f"{queue_remedy()} (netem cannot do it)"
        if ability == "shape" and not packet_queue() and not netem():
            return f"{queue_remedy()}, or one with sch_netem"
        return None

    async def open(self, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        """Fork a world with a host for every service, client program and fleet of the plan."""
        _refuse_foreign(plan)
        hosts = _hosts_of(plan)
        _require_files(plan, len(hosts))
        if self._warm is None:
            self._warm = take()
        streams = await self._fork_world(plan, hosts, directory)
        made = await asyncio.gather(*(_meet(h, stream, inbox) for h, stream in zip(hosts, streams, strict=True)))
        self.services, self.foreign, self.fleets = by_role(plan, made)
        facts = Configure(id=0, run=run, host="", seed=plan.seed, plan=plan.hash, directory=str(directory))
        clients = {name: name for name in self.foreign}
        named = (msgspec.structs.replace(facts, host=h.name, client=clients.get(h.name)) for h in made)
        await asyncio.gather(*(h.ask(request) for h, request in zip(made, named, strict=True)))

    async def after_start(self, service: str) -> None:
        """Nothing waits for a service but its clients."""

    async def collect(self, directory: Path) -> None:
        """Nothing to do: the hosts write into the run directory themselves."""

    async def close(self) -> None:
        """End the world; returns when its last process is gone. Raises HarnessError when it does not go."""
        hosts = [*self.services.values(), *self.foreign.values(), *self.fleets]
        self.services, self.foreign, self.fleets = {}, {}, ()
        links = asyncio.gather(*(host.link.close() for host in hosts))
        if self._status is None:
            await links
            return
        status, self._status = self._status, None
        with status:
            with suppress(OSError):  # the world has ended by itself
                status.shutdown(socket.SHUT_WR)
            await links
            await _within(_DOWN_S, _drain(status), "the last process of the world gone")

    async def shut(self) -> None:
        """End the warm process too."""
        await self.close()
        if self._warm is not None:
            warm, self._warm = self._warm, None
            await _within(_DOWN_S, asyncio.to_thread(warm.end, _DOWN_S), "the warm process gone")

    async def _fork_world(self, plan: Plan, hosts: Sequence[HostOrder], directory: Path) -> list[socket.socket]:
        assert self._warm is not None
        keep = [*needed_paths(), *(s.cwd for s in plan.services if isinstance(s, CommandService) and s.cwd)]
        pairs = [socket.socketpair() for _ in range(len(hosts) + 1)]
        cut = "packets" in needed_abilities(plan)
        order = WorldOrder(list(hosts), str(directory.resolve()), keep, self._limits, os.getcwd(), cut)
        try:
            self._warm.order(order, [theirs.fileno() for _, theirs in pairs])
        finally:
            for _, theirs in pairs:
                theirs.close()
        (self._status, _), *streams = pairs
        await _within(_UP_S, _answer(self._status), f"{len(hosts)} hosts up")
        return [ours for ours, _ in streams]


def probes() -> tuple[Probe, ...]:
    """What the doctor looks for on behalf of this testbed."""
    from midsession.testbeds.netns.looks import PROBES

    return PROBES


def _refuse_foreign(plan: Plan) -> None:
    for service in plan.services:
        if not isinstance(service, ReferenceService | CommandService):
            raise EnvironmentLacks(
                f"service {service.name!r} needs a container, and netns has none",
                elsewhere(CONTAINERS),
                slug="service-kind",
            )
    for group in plan.foreign:
        if group.program and group.program.image is not None:
            raise EnvironmentLacks(
                f"the clients {group.name!r} need containers, and netns has none",
                elsewhere(CONTAINERS),
                slug="client-kind",
            )


def _hosts_of(plan: Plan) -> list[HostOrder]:
    """A host per service and client program, then fleets enough for every other group to have its own."""
    fleets = sum(-(-len(group.clients) // _CLIENTS_PER_FLEET) for group in plan.scripted)
    roles = [(s.name, "server") for s in plan.services]
    roles += [(name, "client") for name in (*plan.foreign_clients, *(f"client-{n}" for n in range(1, fleets + 1)))]
    if len(roles) > MAX_HOSTS:
        raise EnvironmentLacks(
            f"the plan needs {len(roles)} hosts, and one world holds {MAX_HOSTS}",
            "use fewer services and client programs",
            "too-many-hosts",
        )
    asked_for = looked_up(plan)
    return [
        HostOrder(name, service, str(NETWORK[n + 2]), str(NETWORK[n + _SPARE]), name in asked_for)
        for n, (name, service) in enumerate(roles)
    ]


def _require_files(plan: Plan, hosts: int) -> None:
    """Each process may have as many files open as it needs: ours, one for each host; fleets, which go up to the hard
    limit, one for each client. Raises EnvironmentLacks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    clients = [len(group.clients) for group in plan.scripted if group.clients]
    of_fleets = max((-(-n // -(-n // _CLIENTS_PER_FLEET)) + SPARE_DESCRIPTORS for n in clients), default=0)
    ours = _SPARE_FILES + 2 * hosts
    for needed, allowed in ((ours, soft), (of_fleets, hard)):
        if needed > allowed != resource.RLIM_INFINITY:
            seen = f"a process of this run needs {needed} open files, and may have {allowed}"
            raise few_files(seen, max(ours, of_fleets))


async def _meet(host: HostOrder, stream: socket.socket, inbox: Inbox) -> AgentHost:
    reader, writer = await asyncio.open_unix_connection(sock=stream)
    hello = await receive_hello(reader, _UP_S)
    link = AgentLink(reader, writer, hello, inbox, host.name)
    return AgentHost(host.name, host.address, [sys.executable], str(programs_directory()), link, host.spare_address)


async def _answer(status: socket.socket) -> None:
    status.setblocking(False)
    line = await asyncio.get_running_loop().sock_recv(status, 65536)
    if not line:
        raise HarnessError("the warm process ended before its world was up", "netns-failed")
    answer = msgspec.json.decode(line.split(b"\n")[0], type=Answer)
    if not answer.ok:
        missing, remedy = explain(answer, Machine.look())
        raise EnvironmentLacks(missing, f"{remedy}; or {elsewhere(CONTAINERS)}", slug="no-namespaces")


async def _drain(status: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while await asyncio.get_running_loop().sock_recv(status, 65536):
            pass


async def _within(seconds: float, wait: Awaitable[object], named: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait
    except TimeoutError:
        raise HarnessError(f"{named}: not within {seconds:g} s", "wait-timeout") from None
