"""The Compose model of a run: which containers there are, and what they may do. Pure: values in, values out.

A host whose program is ours, or a command, is one container: its agent is PID 1 and starts the program. A host whose
program is an image is a pair: the agent's container owns the network namespace and the service's name, and the
program's container joins it, so that the address lives on when the program's container dies.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from midsession.core.contract import client_environment, service_environment
from midsession.core.placement import deal
from midsession.core.plan import ComposeService, GroupPlan, ImageService, Plan, Program, Service
from midsession.faults import broken_networks, looked_up, readdressed
from midsession.testbeds.docker import archive
from midsession.testbeds.docker.dependencies import Wait
from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE

DATA = "under-test"
"""The network under test."""
CLIENTS_PER_FLEET = 8000  # a process may hold 20,000 descriptors at most on common machines (RLIMIT_NOFILE)

_LIMITS: dict[str, Any] = {
    "mem_limit": "2g",
    "pids_limit": 512,
    "ulimits": {"nofile": {"soft": 20000, "hard": 20000}},
}
_NO_PRIVILEGES: dict[str, Any] = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
_USUAL_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
"""What the entry points of common images need to set up their directories and become another user."""
_STATE = "/var/lib/midsession"
WRITABLE = [_STATE, "/tmp", "/dev/shm", "/dev/mqueue"]
"""Where our own programs can write: everything else in their containers is read-only."""
_USER = 1000
"""Who runs our images, see Dockerfile."""
_BREAKS_ITS_NETWORK: dict[str, Any] = {"user": "0:0", "cap_add": ["NET_ADMIN", "NET_RAW", "SETGID", "SETUID"]}
"""Root, for as long as it takes the agent to become `_USER` with nothing but NET_ADMIN and NET_RAW; only root is given
them."""


@dataclass(frozen=True, slots=True)
class HostOrder:
    """A host: its name, its address, the Compose service of its agent, and that of its program where it has a pair.

    `breaks`: a fault of the plan breaks its network. `spare`: the address that a fault may give it instead of its own.
    `led`: so it is on another host, and its agent says where that is. With any of these its agent needs NET_ADMIN.
    `files` (text by name) are put into the program's container before it starts; None: it is no image of the
    scenario's, but a service of a Compose file, and nothing is, not even a directory for logs.
    """

    name: str
    role: str
    address: str
    agent: str
    program: str | None = None
    breaks: bool = False
    files: Mapping[str, str] | None = None
    spare: str | None = None
    led: bool = False

    @property
    def has_power(self) -> bool:
        """Whether its agent may configure its network."""
        return self.breaks or self.led


@dataclass(slots=True)
class Project:
    """A project to be made: the Compose model, its hosts, and the services of a Compose file that come up beside them.

    `beside`: each of those with the Compose services of hosts that are up before it; `waits`: what else is waited for;
    `put_in`: an archive for the root of a host's program, by the host's name, before it first starts; `variables`: what
    Compose is to find in its environment besides ours.
    """

    name: str
    subnet: ipaddress.IPv4Network
    hosts: list[HostOrder]
    model: dict[str, Any]
    beside: Mapping[str, frozenset[str]] = field(default_factory=dict)
    waits: Sequence[Wait] = ()
    put_in: Mapping[str, bytes] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_images(self) -> list[HostOrder]:
        """The hosts whose program is an image of the scenario's: a container of that is made for each run."""
        return [host for host in self.hosts if host.program is not None and host.files is not None]

    @property
    def lasting(self) -> dict[str, Any]:
        """The model of what may serve several runs: of two orders for which it is equal, one project serves both."""
        of_one_run = {host.program for host in self.of_images}
        services = {name: service for name, service in self.model["services"].items() if name not in of_one_run}
        return {**self.model, "services": services}

    @property
    def may_last(self) -> bool:
        """Whether it may serve several runs at all: not with services of a Compose file, which keep what they write."""
        return not self.beside and all(host.program is None or host.files is not None for host in self.hosts)


def fleets_for(plan: Plan, wanted: int | None) -> int:
    """How many client containers: as many as are wanted, else enough for every group to have its own."""
    if wanted:
        return min(wanted, sum(len(group.clients) for group in plan.scripted))
    return sum(-(-len(group.clients) // CLIENTS_PER_FLEET) for group in plan.scripted)


def hosts_of(plan: Plan, subnet: ipaddress.IPv4Network, fleets: int) -> list[HostOrder]:
    """A host for each service, for each client program, then the fleets. The first address is the gateway's; behind
    those of all hosts are the spare ones."""
    broken = broken_networks(plan)
    addresses = (str(subnet[n]) for n in itertools.count(2))
    hosts = []
    for service in plan.services:
        agent, program = _services_of(service)
        files = service.files if isinstance(service, ImageService) else None
        hosts.append(HostOrder(service.name, "server", next(addresses), agent, program, service.name in broken, files))
    for group, name in _foreign(plan):
        hosts.append(_client_host(name, group.program, next(addresses), bool({name, group.name} & broken)))
    for n, played in enumerate(played_by(plan, fleets), 1):
        name = f"client-{n}"
        hosts.append(HostOrder(name, "client", next(addresses), name, breaks=bool(played & broken)))
    moved = readdressed(plan)
    return [replace(h, spare=next(addresses) if h.name in moved else None, led=bool(moved)) for h in hosts]


def played_by(plan: Plan, fleets: int) -> list[set[str]]:
    """The groups and clients that each of so many client hosts plays."""
    hands = deal(plan.scripted, fleets)
    played = [
        {group.name for group in hand} | {f"{g.name}-{c.number}" for g in hand for c in g.clients} for hand in hands
    ]
    return played + [set[str]() for _ in range(fleets - len(hands))]


def _foreign(plan: Plan) -> Iterator[tuple[GroupPlan, str]]:
    return ((group, name) for group in plan.foreign for name in group.names)


def _client_host(name: str, program: Program | None, address: str, breaks: bool) -> HostOrder:
    assert program is not None
    if program.image is None:
        return HostOrder(name, "client", address, name, breaks=breaks)
    return HostOrder(name, "client", address, f"{name}.agent", f"{name}.program", breaks, program.files)


def _services_of(service: Service) -> tuple[str, str | None]:
    match service:
        case ImageService():
            return f"{service.name}.agent", f"{service.name}.program"
        case ComposeService():
            return f"{service.name}.agent", service.service
        case _:
            return service.name, None


def project_of(
    name: str, plan: Plan, run: str, subnet: ipaddress.IPv4Network, fleets: int, labels: Mapping[str, str]
) -> Project:
    """The project of a plan, but for what a Compose file of the user's adds (see `derived`)."""
    hosts = hosts_of(plan, subnet, fleets)
    services = {host.agent: agent_service(host, labels) for host in hosts}
    asked_for = looked_up(plan)
    images = _images(plan, run, {host.name: host.name if host.name in asked_for else host.address for host in hosts})
    for host in hosts:
        if host.program is not None and host.name in images:
            services[host.program] = image_service(*images[host.name], host, labels)
    networks = {DATA: network(subnet, labels, {host.name: host.spare for host in hosts if host.spare})}
    return Project(name, subnet, hosts, {"name": name, "services": services, "networks": networks})


def network(
    subnet: ipaddress.IPv4Network, labels: Mapping[str, str], reserved: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A network with nothing but our hosts on it. The engine gives nobody an address that is `reserved`, by name."""
    config = {"subnet": str(subnet), **({"aux_addresses": dict(reserved)} if reserved else {})}
    return {"internal": True, "ipam": {"config": [config]}, "labels": dict(labels)}


def agent_service(host: HostOrder, labels: Mapping[str, str]) -> dict[str, Any]:
    """The container of an agent: PID 1, spoken to over its standard input and output.

    It has no capability at all, unless it has to break its network.
    """
    environment = {"MIDSESSION_SERVICE": host.role, "TMPDIR": _STATE}
    if host.has_power:
        environment["MIDSESSION_USER"] = str(_USER)
    return {
        "image": SERVER_IMAGE if host.role == "server" else CLIENT_IMAGE,
        "pull_policy": "never",
        "command": ["--stdio"],
        "stdin_open": True,
        "init": False,
        "hostname": host.name,
        "environment": environment,
        "read_only": True,
        "tmpfs": ["/tmp"],
        "volumes": [{"type": "volume", "target": _STATE}],
        "sysctls": {"net.ipv4.tcp_no_metrics_save": "1"},  # no run inherits the round-trip times of another
        "dns_opt": ["timeout:1", "attempts:1"],  # as on netns: who is not answered waits for a second
        "networks": {DATA: {"ipv4_address": host.address, "aliases": [host.name]}},
        "logging": {"driver": "none"},  # what it says is heard over the attached stream
        "labels": dict(labels),
        **_NO_PRIVILEGES,
        **_LIMITS,
        **(_BREAKS_ITS_NETWORK if host.has_power else {}),
    }


def _images(
    plan: Plan, run: str, addresses: Mapping[str, str]
) -> dict[str, tuple[ImageService | Program, dict[str, str]]]:
    """What runs in each container of an image, by its host, with what the program is told of the run."""
    found: dict[str, tuple[ImageService | Program, dict[str, str]]] = {
        service.name: (service, service_environment(service, run, plan.seed))
        for service in plan.services
        if isinstance(service, ImageService)
    }
    for group in plan.foreign:
        if group.program is not None and group.program.image is not None:
            for name, client in zip(group.names, group.clients, strict=True):
                found[name] = (group.program, client_environment(group, client, run, plan.seed, addresses))
    return found


def image_service(
    program: ImageService | Program, told: Mapping[str, str], host: HostOrder, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The container of a foreign program, in the network namespace of its agent. `told`: the contract's variables."""
    environment = {**program.env, **told, "MIDSESSION_LOGS": archive.LOGS}
    made = {
        "image": program.image,
        "network_mode": f"service:{host.agent}",
        "environment": {name: _literal(value) for name, value in environment.items()},
        "restart": "no",
        "logging": {"driver": "none"},
        "labels": dict(labels),
        "cap_add": _USUAL_CAPABILITIES,
        **_NO_PRIVILEGES,
        **_LIMITS,
    }
    words = [archive.path_of(word) if word in program.files else word for word in program.argv or ()]
    return made | ({"command": [_literal(word) for word in words]} if words else {})


def _literal(text: str) -> str:
    """Compose reads `$` in its files; in ours it is a dollar sign."""
    return text.replace("$", "$$")


def foreign_files(services: Sequence[Service]) -> list[str]:
    """The Compose files that the plan names, each once."""
    return list(dict.fromkeys(s.file for s in services if isinstance(s, ComposeService)))
