"""How a run begins: hosts, programs, subscriptions, and the start."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable
from itertools import islice

from midsession import startup
from midsession.agent.protocol import Prepare, Status, Subscribe
from midsession.core import job
from midsession.core.plan import CommandService, Service
from midsession.core.pulse import BEAT_S, Pulse
from midsession.core.record import Event
from midsession.core.units import duration
from midsession.core.wrong import Wrong
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.ledger import wall_clock
from midsession.programs import start_fleet
from midsession.runner.breaking import REFUSED
from midsession.runner.conducting import Conducting
from midsession.testbeds import Host
from midsession.testbeds.registry import more_fleets

GO_LEAD_S = 0.005
"""The start lies that far ahead when it is announced, so that all fleets begin together: they hear of it within a
millisecond or two. One that hears of it late begins at once."""
WITHIN_VARIABLE = "MIDSESSION_TESTBED_WITHIN"
"""How long a testbed may take to open, and to bring up what waits for a service: images are built and pulled then."""
FLEET_READY_WITHIN_S = 30.0
_ABILITIES = {
    "filter": "filter packets",
    "packets": "tell single packets apart",
    "links": "switch interfaces",
    "sockets": "destroy sockets",
    "queue": "have a queue of packets",
    "shape": "shape links",
    "names": "answer for their hosts' resolvers",
    "addresses": "give their hosts other addresses",
}
HOST_EVENTS = frozenset({Event.STARTED, Event.LISTENING, Event.EXITED})
"""What is heard of every host besides what the conductor and the faults want."""
FAULT_EVENTS = frozenset({Event.INJECTED, Event.WITNESSED, Event.HEALED})


def testbed_within_s() -> float:
    """What `WITHIN_VARIABLE` says. Raises EnvironmentLacks for what is no duration."""
    try:
        return duration(os.environ.get(WITHIN_VARIABLE, "3m"))
    except Wrong as wrong:
        raise EnvironmentLacks(f"{WITHIN_VARIABLE}: {wrong.message}", wrong.remedy, "bad-wait") from None


class Beginning(Conducting):
    """Sets everything up, and lets the conductor begin."""

    async def _set_up(self) -> None:
        self._listener.on_phase("open")
        self._save(started=wall_clock())
        self._require_abilities()
        within_s = testbed_within_s()
        opening = asyncio.ensure_future(self._testbed.open(self._plan, self._place.run, self._place.directory, self))
        await asyncio.sleep(0)  # it is under way
        for work in islice(self._meanwhile, 1):
            work()
        await self._until_testbed(opening, f"testbed {self._testbed.name} open", within_s)
        self._opened = True
        self._cast.meet(self._testbed, self._loop)
        self._save(**self._cast.facts())
        self._require_own_fleets()
        await self._subscribe()
        self._listener.on_phase("programs")
        # Fleets connect to nothing before `go`, so their programs may start beside the services.
        fleets = asyncio.ensure_future(self._start_fleets())
        fleets.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may fail while none awaits it
        try:
            for service in self._plan.services:
                if service.autostart:
                    await self._start_service(service)
                    await self._after_start(service.name)
            await self._until(fleets, FLEET_READY_WITHIN_S, "client programs ready")
            await self._prepare()
        finally:
            fleets.cancel()

    def _require_abilities(self) -> None:
        for step, fault in self._faults.items():
            for ability in sorted(fault.abilities()):
                if remedy := self._testbed.remedy_for(ability):
                    missing = f"{step} ({fault.verb}) needs agents that can {_ABILITIES[ability]}"
                    raise EnvironmentLacks(f"{missing}, and those of {self._testbed.name} cannot", remedy, "no-ability")

    def _require_own_fleets(self) -> None:
        """A fault on a group must not hit clients of another."""
        groups = {group.name for group in self._plan.scripted}
        enough = len(groups)
        for step, fault in self._faults.items():
            for fleet, place in self._cast.fleets_broken(fault, groups):
                others = [group.name for group in fleet.groups if group.name != place]
                if others:
                    missing = f"{step} ({fault.verb}) is for {place} alone, and {fleet.host.name} plays {others[0]} too"
                    how = more_fleets(self._testbed.name, enough)
                    need = f"give the testbed {enough} client hosts or more{f' ({how})' if how else ''}"
                    raise EnvironmentLacks(missing, need, "shared-fleet")

    async def _subscribe(self) -> None:
        witnesses = frozenset[str]().union(*(f.watches for f in self._faults.values()), self._listener.wants)
        both = HOST_EVENTS | (FAULT_EVENTS if self._faults else frozenset()) | witnesses
        self._heard = both | {Event.FROZEN, Event.THAWED} | self._conductor.service_watches
        # What a service says is heard until it is up: if it does not come up, that is what tells why.
        services = sorted(self._heard | {Event.LINE})
        fleets = sorted(both | self._conductor.client_watches)
        wanted = [(host, services) for host in self._cast.services.values()]
        wanted += [(fleet.host, fleets) for fleet in self._cast.fleets.values()]
        wanted += [(one.host, sorted({*services, *fleets})) for one in self._cast.foreign.values()]
        asked = [(host.name, host.ask(Subscribe(id=0, events=events))) for host, events in wanted]
        for name, doing in asked:
            await self._answer(doing, f"{name} subscribed")

    async def _prepare(self) -> None:
        """Nothing that a fault needs is first made, or first touched since a program was forked, when it comes."""
        needs: dict[str, set[str]] = {}
        for fault in self._faults.values():
            for host in self._cast.hosts_broken(fault) if fault.abilities() else ():
                needs.setdefault(host.name, set()).update(fault.abilities())
        asked = [
            self._cast.host(name).ask(Prepare(id=0, abilities=sorted(abilities))) for name, abilities in needs.items()
        ]
        await self._answer(asyncio.gather(*asked), "hosts prepared for faults")

    async def _start_service(self, service: Service) -> None:
        host = self._cast.services[service.name]
        program = self._cast.programs[host.name]
        try:
            await self._answer(host.ask(self._start_of(service)), f"{service.name} started")
        except HarnessError as error:
            raise startup.refused_service(service, error) if error.slug == REFUSED else error from None
        try:
            await self._until(program.ready, service.ready_within_s, f"{service.name} listening")
        except HarnessError:
            if program.exits:
                left_out = self._left_out(service, host)
                raise startup.exited(service, program.exits[0], program.said, left_out) from None
            raise startup.late(service, program.said, await self._listening(host)) from None
        if Event.LINE not in self._heard:
            self._spawn(self._hear_less(host))

    def _left_out(self, service: Service, host: Host) -> list[str]:
        """What a command names of the files beside the scenario, where the host has files of its own and not these."""
        if not isinstance(service, CommandService) or host.programs is not None:
            return []
        folder, words = os.path.dirname(self._plan.source), [word for word in service.argv if os.sep not in word]
        return [word for word in words if word not in service.files and os.path.isfile(os.path.join(folder, word))]

    async def _listening(self, host: Host) -> list[str]:
        """Where anybody listens on a host; nothing where that cannot be told."""
        with contextlib.suppress(HarnessError):
            return list((await self._answer(host.ask(Status(id=0)), f"the state of {host.name}")).value["listening"])
        return []

    async def _after_start(self, service: str) -> None:
        """Of a service that is up for the first time."""
        doing = self._testbed.after_start(service)
        await self._until_testbed(doing, f"all that waits for {service} up", testbed_within_s())

    async def _until_testbed(self, doing: Awaitable[None], condition: str, within_s: float) -> None:
        await self._until(doing, within_s, condition, self._what_takes_long)

    def _what_takes_long(self) -> str:
        doing = self._testbed.doing and f"; it was {self._testbed.doing}"
        return f"{doing}; {WITHIN_VARIABLE}=10m gives it longer"

    async def _hear_less(self, host: Host) -> None:
        await self._answer(host.ask(Subscribe(id=0, events=sorted(self._heard))), f"{host.name} subscribed")

    async def _start_fleets(self) -> None:
        asked = []
        for fleet in self._cast.fleets.values():
            task = job.Job(run=self._place.run, groups=fleet.groups, addresses=self._addresses)
            asked.append(fleet.host.ask(start_fleet(task, fleet.host)))
        await asyncio.gather(*asked)
        await asyncio.gather(*(self._cast.programs[name].ready for name in self._cast.fleets))

    # --- the start -------------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        self._listener.on_phase("run")
        start_ns = self._clock() + round(GO_LEAD_S * 1e9)
        self._tell(job.Go(t_ns=start_ns))
        self._write(Event.BEGUN, {"plan": self._plan.hash, "seed": self._plan.seed, "name": self._plan.name}, start_ns)
        self._save(t0_ns=start_ns)
        self._timer = self._at(start_ns, lambda: self._begin(start_ns))
        self._beat(Pulse(self._clock()))
        await asyncio.wait([self._over])  # bounded: the conductor ends the run at the plan's timeout

    def _begin(self, start_ns: int) -> None:
        with self._crashing():
            for group in self._plan.foreign:
                if group.begin:
                    self._begin_programs(group, start_ns)
            self._do(self._conductor.begin(start_ns))
            self._arm()

    def _beat(self, pulse: Pulse) -> None:
        """Write down whenever this process was not run in time, until the run is over."""
        if self._over.done():
            return
        now_ns = self._clock()
        if (stall := pulse.beat(now_ns)) is not None:
            self._write(Event.STALLED, stall, now_ns)
        self._loop.call_later(BEAT_S, self._beat, pulse)
