"""Who plays in a run: the hosts of services, of fleets, of client programs, and what is known of their programs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midsession import startup
from midsession.core.placement import deal
from midsession.core.plan import ClientPlan, GroupPlan, Plan
from midsession.core.record import Event, Record
from midsession.faults.base import Fault
from midsession.testbeds import Host, Testbed

_FLEET_GRACE_S = 2.0


@dataclass(slots=True)
class Fleet:
    """A fleet's host and the clients that it plays; `left` are those that are not done."""

    host: Host
    groups: list[GroupPlan]
    clients: list[str]
    left: set[str]
    exited: Record | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """A client that is a program, and its host."""

    host: Host
    group: GroupPlan
    client: ClientPlan


@dataclass(slots=True)
class Program:
    """What is known of a host's program."""

    ready: asyncio.Future[Record]
    running: bool = False
    exits: list[Record] = field(default_factory=list)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=startup.LAST_LINES))
    """Its last lines, until it is ready."""

    def take(self, record: Record) -> None:
        """It was started, or has exited."""
        self.running = record.event == Event.STARTED
        if not self.running:
            self.exits.append(record)


class Cast:
    """The hosts of a run by name; empty before `meet`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.services: Mapping[str, Host] = {}
        self.fleets: dict[str, Fleet] = {}
        self.foreign: dict[str, Foreign] = {}
        self.programs: dict[str, Program] = {}

    def meet(self, testbed: Testbed, loop: asyncio.AbstractEventLoop) -> None:
        """The testbed is open: learn its hosts, and deal the clients out over them."""
        self.services = {s.name: testbed.services[s.name] for s in self._plan.services}
        self.fleets = _deal(self._plan, testbed.fleets)
        self.foreign = {
            name: Foreign(testbed.foreign[name], group, client)
            for group in self._plan.foreign
            for name, client in zip(group.names, group.clients, strict=True)
        }
        names = (*self.services, *self.fleets, *self.foreign)
        self.programs = {name: Program(loop.create_future()) for name in names}

    def facts(self) -> dict[str, Any]:
        """What run.json says of them: `hosts` with address, clock and role, and `placement`, who is played where."""
        hosts = {h.name: _told(h, "service") for h in self.services.values()}
        hosts |= {name: _told(fleet.host, "clients") for name, fleet in self.fleets.items()}
        hosts |= {name: _told(one.host, "client") for name, one in self.foreign.items()}
        placement = {name: fleet.clients for name, fleet in self.fleets.items()}
        return {"hosts": hosts, "placement": placement | {name: [name] for name in self.foreign}}

    def hosts_broken(self, fault: Fault) -> list[Host]:
        """The hosts on which a fault is injected, each once."""
        found = {host.name: host for place in fault.places(self._plan) for host in self.hosts_of(place)}
        return list(found.values())

    def fleets_broken(self, fault: Fault, groups: set[str]) -> Iterator[tuple[Fleet, str]]:
        """The fleets that are broken as a whole, and the group for which they are."""
        for place in groups.intersection(fault.places(self._plan)):
            yield from ((fleet, place) for fleet in self.fleets_of(place))

    def hosts_of(self, name: str) -> list[Host]:
        """The hosts of a service, of a client group, or of one client."""
        if name in self.services:
            return [self.services[name]]
        foreign = [one.host for client, one in self.foreign.items() if name in (client, one.group.name)]
        return foreign or [fleet.host for fleet in self.fleets_of(name)]

    def fleets_of(self, name: str) -> list[Fleet]:
        """Those that play a group, or one client."""
        fleets = self.fleets.values()
        return [f for f in fleets if name in f.clients or any(group.name == name for group in f.groups)]

    def host(self, name: str) -> Host:
        """The host of that name."""
        return self.hosts_of(name)[0] if name not in self.fleets else self.fleets[name].host

    def can_bear(self, host: Host, fault: Fault) -> bool:
        """A client program that has exited is out of reach; one that has yet to begin, of what breaks programs."""
        program = self.programs[host.name]
        out_of_reach = program.exits or fault.needs_program
        return host.name not in self.foreign or program.running or not out_of_reach

    def grace_s(self, name: str) -> float:
        """How long a host's program is given to end."""
        if name in self.fleets:
            return _FLEET_GRACE_S
        if name in self.foreign:
            program = self.foreign[name].group.program
            assert program is not None
            return program.grace_s
        return next(s.grace_s for s in self._plan.services if s.name == name)


def _deal(plan: Plan, hosts: Sequence[Host]) -> dict[str, Fleet]:
    """Deal the clients out over the hosts, see `midsession.core.placement`. Hosts that get none are not used."""
    fleets = {}
    for host, groups in zip(hosts, deal(plan.scripted, len(hosts)), strict=False):
        names = [name for group in groups for name in group.names]
        fleets[host.name] = Fleet(host, groups, names, set(names))
    return fleets


def _told(host: Host, role: str) -> dict[str, str]:
    return {"address": host.address, "clock": host.clock, "role": role}
