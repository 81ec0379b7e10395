"""The runner: carries out a plan on a testbed. The only place that waits.

It makes the run directory, has the testbed make hosts, starts services and fleets, feeds every record to the conductor
and carries out its commands through the hosts' agents, and at the end heals, stops and collects everything. What it
leaves is a run directory; judging that is somebody else's.

Hot path: from a record that a host pushed to the request of a fault there is no await. The intent (`triggered`) is in
the log first, at the price of one write(2).

Interrupts (SIGINT, SIGTERM): the first ends the run in order within 7 s, logs kept; a second within 2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from midsession import startup
from midsession.agent.protocol import Finish, Prepare, Records, Reply, Start, Stop, Subscribe, Tell
from midsession.core import conductor as c
from midsession.core import job
from midsession.core.contract import client_environment
from midsession.core.placement import deal
from midsession.core.plan import ClientPlan, GroupPlan, Plan, Service
from midsession.core.pulse import BEAT_S, Pulse
from midsession.core.record import Event, Record, decode_line
from midsession.errors import EnvironmentLacks, HarnessError, MidsessionError
from midsession.faults import build
from midsession.faults.base import Fault, Move, Rest, StartProgram, Unfit
from midsession.injection import Connections, Injection, Place, Stage
from midsession.ledger import Ledger, RunPlace, cannot_write, reference, wall_clock
from midsession.programs import start_client, start_fleet, start_service
from midsession.testbeds import Host, Testbed

T = TypeVar("T")

GO_LEAD_S = 0.005
"""The start lies that far ahead when it is announced, so that all fleets begin together: they hear of it within a
millisecond or two. One that hears of it late begins at once."""
OPEN_WITHIN_S = 180.0
ANSWER_WITHIN_S = 10.0
FLEET_READY_WITHIN_S = 30.0
LATE_RECORDS_S = 2.0
"""How long the last records of a fleet may come after the news of its end."""
_ABILITIES = {
    "filter": "filter packets",
    "links": "switch interfaces",
    "sockets": "destroy sockets",
    "queue": "have a queue of packets",
    "shape": "shape links",
    "names": "answer for their hosts' resolvers",
}
REFUSED = "agent-refused"
"""The slug of the HarnessError for a request that an agent could not carry out."""

HOST_EVENTS = frozenset({Event.STARTED, Event.LISTENING, Event.EXITED})
"""What is heard of every host besides what the conductor and the faults want."""
FAULT_EVENTS = frozenset({Event.INJECTED, Event.WITNESSED, Event.HEALED})


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that is over. `why_ended`: `done`, `timeout`, `interrupted`, `error`.

    `unfired` are the steps that never fired, each with what was `missing`. `problems` are the harness's own failures,
    in sentences; with any, the run is an `error`.
    """

    run: str
    directory: Path
    why_ended: str
    unfired: list[dict[str, str]]
    problems: list[str]


class Listener:
    """Is told of a run while it goes on, on the run's event loop: must neither block nor raise. Override at will."""

    wants: frozenset[str] = frozenset()
    """Events to be told of besides those that the run itself needs."""

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        """The run directory is there; nothing else is."""

    def on_phase(self, phase: str) -> None:
        """What happens now: `open`, `programs`, `run`, `end`, `collect`."""

    def on_record(self, record: Record) -> None:
        """A record came, or the conductor wrote one (host `conductor`)."""

    def on_problem(self, text: str) -> None:
        """A part of the harness failed."""

    def on_end(self, result: RunResult) -> None:
        """Nothing is left of the run but its directory."""


async def run_plan(
    plan: Plan,
    testbed: Testbed,
    runs_directory: Path,
    listener: Listener | None = None,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    meanwhile: Callable[[], object] = lambda: None,
) -> RunResult:
    """Carry out a plan. `clock` is CLOCK_MONOTONIC in ns, and must be that of the running event loop.

    `meanwhile` is called once, while the hosts come up: the only time of a run at which this process may be busy.

    Raises EnvironmentLacks when the testbed cannot serve the plan; everything is taken down then, and no directory is
    left. Raises HarnessError when no run directory can be made. All else that goes wrong is in the result.
    """
    try:
        run = _Run(plan, testbed, RunPlace.make(plan, runs_directory), listener or Listener(), clock)
    except OSError as error:
        raise cannot_write(runs_directory, error) from None
    with _interrupts(run.interrupt):
        return await run.carry_out(meanwhile)


def run(plan: Plan, testbed: Testbed, runs_directory: Path, listener: Listener | None = None) -> RunResult:
    """`run_plan` on an event loop of its own; for a testbed that serves this plan alone."""
    return asyncio.run(run_plan(plan, testbed, runs_directory, listener))


@dataclass(frozen=True, slots=True)
class _Limits:
    """How long a stage of the end may take: in order, after one interrupt, after two (0: it is left out)."""

    normal_s: float
    interrupted_s: float
    hurried_s: float

    def at(self, urgency: int) -> float:
        return (self.normal_s, self.interrupted_s, self.hurried_s)[urgency]


_END_LIMITS = {
    "heal": _Limits(10.0, 0.5, 0.2),
    "stop the clients": _Limits(30.0, 1.0, 0.0),
    "stop the services": _Limits(30.0, 1.5, 0.0),
    "finish": _Limits(10.0, 1.0, 0.4),
    "collect": _Limits(120.0, 1.5, 0.6),
    "close": _Limits(60.0, 1.0, 0.6),
}
"""The sums of the last two columns are the promise: 7 s after one interrupt, 2 s after two."""
_FLEET_GRACE_S = 2.0


@dataclass(slots=True)
class _Fleet:
    """A fleet's host and the clients that it plays; `left` are those that are not done."""

    host: Host
    groups: list[GroupPlan]
    clients: list[str]
    left: set[str]
    exited: Record | None = None


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A client that is a program, and its host."""

    host: Host
    group: GroupPlan
    client: ClientPlan


@dataclass(slots=True)
class _Program:
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


class _Stopped(Exception):
    """The run is over while something was awaited."""


class _Run:
    """One run. Its methods are called on one event loop."""

    def __init__(
        self, plan: Plan, testbed: Testbed, place: RunPlace, listener: Listener, clock: Callable[[], int]
    ) -> None:
        self._plan, self._testbed, self._place, self._listener, self._clock = plan, testbed, place, listener, clock
        self._ledger = Ledger(place, plan)
        self._conductor = c.Conductor(plan)
        self._faults = {s.id: build(s.verb, s.args) for s in plan.timeline if c.is_fault(s)}
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._hurry: asyncio.Future[None] = self._loop.create_future()
        self._urgency = 0
        self._ending = False
        self._opened = False
        self._closed = False
        self._services: Mapping[str, Host] = {}
        self._fleets: dict[str, _Fleet] = {}
        self._foreign: dict[str, _Foreign] = {}
        self._programs: dict[str, _Program] = {}
        self._injections: dict[str, Injection] = {}
        """Those that have not shown all their witnesses."""
        self._in_force: dict[str, Injection] = {}
        """Those that have something to heal."""
        self._moving: dict[str, list[asyncio.Task[None]]] = {}
        self._connections = Connections()
        services = frozenset(service.name for service in plan.services)
        played = frozenset(name for group in plan.scripted for name in group.names)
        self._scenery = Stage(services, played, self._hosts_of, self._connections)
        self._heard = frozenset[str]()
        """What services are listened to for, once they are up."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns: int | None = None
        self._problems: list[str] = []
        self._disk_failed = False
        self._crash: Exception | None = None
        self._facts: dict[str, Any] = {}

    async def carry_out(self, meanwhile: Callable[[], object]) -> RunResult:
        """From the first host to the last file."""
        self._listener.on_open(self._plan, self._place.run, self._place.directory)
        lacking: EnvironmentLacks | None = None
        try:
            await self._set_up(meanwhile)
            await self._play()
        except _Stopped:
            pass
        except EnvironmentLacks as error:
            lacking = error
        except HarnessError as error:
            self._problem(str(error))
        finally:
            result = await self._take_down()
        if self._crash:
            raise self._crash
        if lacking:
            self._place.remove()
            raise lacking
        return result

    def interrupt(self) -> None:
        """End the run soon; the second time: at once."""
        self._urgency = min(self._urgency + 1, 2)
        self._end("interrupted")
        hurry, self._hurry = self._hurry, self._loop.create_future()
        hurry.set_result(None)

    # --- the beginning ---------------------------------------------------------------------------------------------

    async def _set_up(self, meanwhile: Callable[[], object]) -> None:
        self._listener.on_phase("open")
        self._save(started=wall_clock())
        self._require_abilities()
        opening = asyncio.ensure_future(self._testbed.open(self._plan, self._place.run, self._place.directory, self))
        await asyncio.sleep(0)  # it is under way
        meanwhile()
        await self._until(opening, OPEN_WITHIN_S, f"testbed {self._testbed.name} open")
        self._opened = True
        self._meet_hosts()
        await self._subscribe()
        self._listener.on_phase("programs")
        # Fleets connect to nothing before `go`, so their programs may start beside the services.
        fleets = asyncio.ensure_future(self._start_fleets())
        fleets.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may fail while none awaits it
        try:
            for service in self._plan.services:
                if service.autostart:
                    await self._start_service(service)
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
            for fleet, place in self._fleets_broken(fault, groups):
                others = [group.name for group in fleet.groups if group.name != place]
                if others:
                    missing = f"{step} ({fault.verb}) is for {place} alone, and {fleet.host.name} plays {others[0]} too"
                    need = f"give the testbed {enough} client hosts or more (on Compose: --scale client={enough})"
                    raise EnvironmentLacks(missing, need, "shared-fleet")

    def _fleets_broken(self, fault: Fault, groups: set[str]) -> Iterator[tuple[_Fleet, str]]:
        """The fleets that are broken as a whole, and the group for which they are."""
        for place in groups.intersection(fault.places(self._plan)):
            yield from ((fleet, place) for fleet in self._fleets_of(place))

    def _meet_hosts(self) -> None:
        self._services = {s.name: self._testbed.services[s.name] for s in self._plan.services}
        self._fleets = _deal(self._plan, self._testbed.fleets)
        self._foreign = {
            name: _Foreign(self._testbed.foreign[name], group, client)
            for group in self._plan.foreign
            for name, client in zip(group.names, group.clients, strict=True)
        }
        names = (*self._services, *self._fleets, *self._foreign)
        self._programs = {name: _Program(self._loop.create_future()) for name in names}
        hosts = {h.name: {"address": h.address, "clock": h.clock, "role": "service"} for h in self._services.values()}
        for name, fleet in self._fleets.items():
            hosts[name] = {"address": fleet.host.address, "clock": fleet.host.clock, "role": "clients"}
        for name, one in self._foreign.items():
            hosts[name] = {"address": one.host.address, "clock": one.host.clock, "role": "client"}
        placement = {name: fleet.clients for name, fleet in self._fleets.items()}
        self._save(hosts=hosts, placement=placement | {name: [name] for name in self._foreign})
        self._require_own_fleets()

    async def _subscribe(self) -> None:
        witnesses = frozenset[str]().union(*(f.watches for f in self._faults.values()), self._listener.wants)
        both = HOST_EVENTS | (FAULT_EVENTS if self._faults else frozenset()) | witnesses
        self._heard = both | {Event.FROZEN, Event.THAWED} | self._conductor.service_watches
        # What a service says is heard until it is up: if it does not come up, that is what tells why.
        services = sorted(self._heard | {Event.LINE})
        fleets = sorted(both | self._conductor.client_watches)
        wanted = [(host, services) for host in self._services.values()]
        wanted += [(fleet.host, fleets) for fleet in self._fleets.values()]
        wanted += [(one.host, sorted({*services, *fleets})) for one in self._foreign.values()]
        asked = [(host.name, host.ask(Subscribe(id=0, events=events))) for host, events in wanted]
        for name, doing in asked:
            await self._answer(doing, f"{name} subscribed")

    async def _prepare(self) -> None:
        """Nothing that a fault needs is first made, or first touched since a program was forked, when it comes."""
        needs: dict[str, set[str]] = {}
        for fault in self._faults.values():
            for host in self._hosts_broken(fault) if fault.abilities() else ():
                needs.setdefault(host.name, set()).update(fault.abilities())
        asked = [self._host(name).ask(Prepare(id=0, abilities=sorted(abilities))) for name, abilities in needs.items()]
        await self._answer(asyncio.gather(*asked), "hosts prepared for faults")

    async def _start_service(self, service: Service) -> None:
        host = self._services[service.name]
        program = self._programs[host.name]
        try:
            await self._answer(host.ask(self._start_of(service)), f"{service.name} started")
        except HarnessError as error:
            raise startup.refused(service, error) if error.slug == REFUSED else error from None
        try:
            await self._until(program.ready, service.ready_within_s, f"{service.name} listening")
        except HarnessError:
            if program.exits:
                raise startup.exited(service, program.exits[0], program.said) from None
            raise startup.late(service, program.said) from None
        if Event.LINE not in self._heard:
            self._spawn(self._hear_less(host))

    async def _hear_less(self, host: Host) -> None:
        await self._answer(host.ask(Subscribe(id=0, events=sorted(self._heard))), f"{host.name} subscribed")

    def _start_of(self, service: Service, fault: str = "") -> Start:
        return start_service(service, self._services[service.name], self._place.run, self._plan.seed, fault)

    @property
    def _addresses(self) -> dict[str, str]:
        """Where each service is, as clients are told: the name alone where a fault is about looking it up."""
        asked_for = {name for fault in self._faults.values() for name in fault.looked_up()}
        return {name: name if name in asked_for else host.address for name, host in self._services.items()}

    async def _start_fleets(self) -> None:
        asked = []
        for fleet in self._fleets.values():
            task = job.Job(run=self._place.run, groups=fleet.groups, addresses=self._addresses)
            asked.append(fleet.host.ask(start_fleet(task, fleet.host)))
        await asyncio.gather(*asked)
        await asyncio.gather(*(self._programs[name].ready for name in self._fleets))

    # --- the middle ------------------------------------------------------------------------------------------------

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

    def _begin_programs(self, group: GroupPlan, begin_ns: int) -> None:
        """Start each client program of a group when it is to arrive."""
        for name, client in zip(group.names, group.clients, strict=True):
            self._at(begin_ns + round(client.arrive_s * 1e9), partial(self._start_program, name))

    def _start_program(self, name: str) -> None:
        if self._over.done():
            return
        one = self._foreign[name]
        environment = client_environment(one.group, one.client, self._place.run, self._plan.seed, self._addresses)
        assert one.group.program is not None
        doing = one.host.ask(start_client(one.group.program, environment))
        self._spawn(self._await_started(name, doing))

    async def _await_started(self, name: str, doing: Awaitable[Reply]) -> None:
        await self._answer(doing, f"{name} started")

    def _tick(self) -> None:
        self._armed_ns = None
        with self._crashing():
            self._do(self._conductor.tick(self._clock()))
            self._arm()

    def _arm(self) -> None:
        deadline_ns = self._conductor.next_deadline_ns()
        if deadline_ns == self._armed_ns or self._over.done():
            return
        self._armed_ns = deadline_ns
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline_ns is None else self._at(deadline_ns, self._tick)

    def _at(self, instant_ns: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(max(0, instant_ns - self._clock()) / 1e9, callback)

    # --- what hosts tell (an Inbox, see midsession.testbeds) -------------------------------------------------------

    def records(self, batch: Records) -> None:
        """A host pushed records."""
        if self._closed:
            return
        with self._crashing():
            for line in batch.records:
                self._hear(decode_line(bytes(line), batch.host, batch.writer, batch.incarnation))
            self._arm()

    def gone(self, host: str, why: str) -> None:
        """An agent is gone, and nothing that it said last can be trusted to be its last word."""
        if not self._ending:
            self._problem(f"the agent of {host} is gone: {why}")

    def _hear(self, record: Record) -> None:
        if record.event in Connections.WATCHES:
            self._connections.hear(record)
        if record.event in (Event.STARTED, Event.EXITED):
            self._programs[record.host].take(record)
        if not self._over.done():
            commands = self._conductor.observe(self._clock(), record)
            if commands:
                self._do(commands)
            if self._injections:
                self._look_for_witness(record)
        match record.event:
            case Event.DONE:
                self._client_is_done(record)
            case Event.LISTENING:
                self._program_is_ready(record)
            case Event.LINE:
                self._programs[record.host].said.append(str(record.fields.get("text")))
            case Event.EXITED:
                self._program_exited(record)
            case Event.HEALED:
                self._is_healed(str(record.fields.get("fault")), record.host)
        self._listener.on_record(record)

    def _look_for_witness(self, record: Record) -> None:
        for injection in list(self._injections.values()):
            if injection.take(record):
                self._took_effect(injection)

    def _took_effect(self, injection: Injection) -> None:
        del self._injections[injection.step]
        witnesses = [reference(witness) for witness in injection.witnesses.values()]
        fields = {"step": injection.step, "witness": witnesses[-1], "after_ns": injection.after_ns()}
        self._write_and_observe(Event.EFFECTIVE, fields | ({"witnesses": witnesses} if len(witnesses) > 1 else {}))

    def _is_healed(self, step: str, host: str) -> None:
        injection = self._in_force.get(step)
        if injection is None:
            return
        injection.unhealed.discard(host)
        if not injection.unhealed:
            del self._in_force[step]
            if step in self._injections and not self._over.done():
                self._fails(injection, "it was healed before it had any effect")

    def _client_is_done(self, record: Record) -> None:
        fleet = self._fleets.get(record.host)
        if fleet is not None and record.client is not None:
            fleet.left.discard(record.client)

    def _program_is_ready(self, record: Record) -> None:
        program = self._programs[record.host]
        program.running = True
        if not program.ready.done():
            program.ready.set_result(record)

    def _program_exited(self, record: Record) -> None:
        program = self._programs[record.host]
        fleet = self._fleets.get(record.host)
        if not program.ready.done():
            died = HarnessError(f"{record.host} listening: its program {startup.exit_words(record)}", "not-listening")
            program.ready.set_exception(died)
            program.ready.exception()  # the one who waits for it may have been stopped
        elif fleet is not None and not self._ending:
            fleet.exited = record
            if record.fields.get("by") in self._faults:
                self._was_ended(fleet, str(record.fields["by"]))
            elif record.fields.get("code") == 0:
                self._loop.call_later(LATE_RECORDS_S, self._check_fleet, fleet)
            else:
                self._problem(f"the client program of {record.host} {startup.exit_words(record)}")

    def _was_ended(self, fleet: _Fleet, step: str) -> None:
        """A step ended a fleet: nobody need wait for its clients. What their own log says of them still counts."""
        gone = [client for client in fleet.clients if client in fleet.left]
        fleet.left.clear()
        if gone:
            text = f"{step} ended {fleet.host.name}, and with it {len(gone)} sessions that were under way"
            self._write_and_observe(Event.NOTE, {"text": text, "step": step, "gone": gone})

    def _check_fleet(self, fleet: _Fleet) -> None:
        if fleet.left and not self._ending:
            count = f"{len(fleet.left)} of its {len(fleet.clients)} clients were not done"
            self._problem(f"the client program of {fleet.host.name} ended, and {count}")

    # --- what the conductor wants ----------------------------------------------------------------------------------

    def _do(self, commands: Sequence[c.Command]) -> None:
        for command in commands:
            if self._over.done():
                return
            match command:
                case c.Fired(step, verb, t_ns, due_ns, by):
                    cause = None if by is None else reference(by)
                    fields = {"step": step, "verb": verb, "by": cause, "lag_ns": t_ns - due_ns}
                    self._write(Event.TRIGGERED, fields, t_ns)
                case c.Act(step):
                    self._inject(step)
                case c.Heal(target):
                    self._heal(target)
                case c.Signal(name):
                    self._tell(job.Signal(name=name))
                case c.Begin(group) if self._plan.group(group).program is not None:
                    self._begin_programs(self._plan.group(group), self._clock())
                case c.Begin(group):
                    self._tell(job.Begin(group=group, t_ns=self._clock()))
                case c.Release(group, barrier):
                    self._tell(job.Release(group=group, name=barrier))
                case c.Note(text):
                    self._write(Event.NOTE, {"text": text})
                case c.Finish(why):
                    self._end(why)

    def _inject(self, step: str) -> None:
        fault = self._faults[step]
        hosts = [host for host in self._hosts_broken(fault) if self._can_bear(host, fault)]
        places = {host.name: Place(host, self._scenery) for host in hosts}
        injection = self._injections[step] = Injection(step, fault, places)
        if fault.healable:
            self._in_force[step] = injection
        try:
            if not places:
                raise Unfit("none of its programs runs")
            moves = {name: list(fault.inject(step, place)) for name, place in places.items()}
        except Unfit as unfit:
            self._loop.call_soon(self._fails, injection, str(unfit))  # not before the conductor's other commands
            return
        # Every host is asked for the first move before any is waited for.
        firsts = {name: self._make(moves[name][0], injection, name, *_ends(0, moves[name])) for name in places}
        going = [self._spawn(self._go_on(injection, name, firsts[name], moves[name])) for name in places]
        self._moving[step] = [task for task, name in zip(going, places, strict=True) if len(moves[name]) > 1]

    def _can_bear(self, host: Host, fault: Fault) -> bool:
        """A client program that has exited is out of reach; one that has yet to begin, of what breaks programs."""
        program = self._programs[host.name]
        out_of_reach = program.exits or fault.needs_program
        return host.name not in self._foreign or program.running or not out_of_reach

    def _make(self, move: Move, injection: Injection, name: str, first: bool, last: bool) -> Awaitable[object]:
        if first if injection.fault.proven_from == "first" else last:
            injection.since_ns[name] = self._clock()
        host = injection.places[name].host
        match move:
            case Rest(rest_s):
                return asyncio.sleep(rest_s)
            case StartProgram(fault):
                service = next(s for s in self._plan.services if s.name == name)
                return host.ask(self._start_of(service, fault))
            case request:
                return host.ask(request)

    async def _go_on(self, injection: Injection, name: str, first: Awaitable[object], moves: list[Move]) -> None:
        at = 0
        try:
            for at, move in enumerate(moves):
                doing = first if at == 0 else self._make(move, injection, name, *_ends(at, moves))
                await self._answer(doing, f"{injection.step}: {injection.fault.describe()}", _own_time_s(move))
        except HarnessError as error:
            if error.slug != REFUSED:
                raise
            if at == 0:  # nothing was done there
                injection.unhealed.discard(name)
            is_gone = at == 0 and not self._can_bear(injection.places[name].host, injection.fault)
            if is_gone and len(injection.places) > 1:
                self._leave_out(injection, name)
            elif name not in injection.witnesses:  # what has had its effect may go on badly: a flap of a host that died
                self._fails(injection, str(error))

    def _leave_out(self, injection: Injection, name: str) -> None:
        """A client program was quicker to exit than the fault to reach it: the others are what it meets."""
        if injection.leave_out(name) and injection.step in self._injections:
            self._took_effect(injection)

    def _fails(self, injection: Injection, why: str) -> None:
        """It could not be injected, or will never show its witness. What it did on other hosts is healed."""
        if injection.failed:
            return
        injection.failed = True
        self._injections.pop(injection.step, None)
        if injection.step in self._in_force:
            self._heal(injection.step)
        text = f"{injection.step} failed: {injection.fault.describe()}: {why}"
        self._write_and_observe(Event.NOTE, {"text": text, "failed": injection.step})

    def _hosts_broken(self, fault: Fault) -> list[Host]:
        """The hosts on which a fault is injected, each once."""
        found = {host.name: host for place in fault.places(self._plan) for host in self._hosts_of(place)}
        return list(found.values())

    def _hosts_of(self, name: str) -> list[Host]:
        """The hosts of a service, of a client group, or of one client."""
        if name in self._services:
            return [self._services[name]]
        foreign = [one.host for client, one in self._foreign.items() if name in (client, one.group.name)]
        return foreign or [fleet.host for fleet in self._fleets_of(name)]

    def _fleets_of(self, name: str) -> list[_Fleet]:
        """Those that play a group, or one client."""
        fleets = self._fleets.values()
        return [f for f in fleets if name in f.clients or any(group.name == name for group in f.groups)]

    def _heal(self, target: str) -> list[asyncio.Task[None]]:
        steps = list(self._in_force) if target == "all" else [target]
        if target != "all" and target not in self._in_force:
            self._write(Event.NOTE, {"text": f"nothing to heal: {target} is not in force"})
        return [self._cure(step, place) for step in steps if step in self._in_force for place in self._places(step)]

    def _places(self, step: str) -> list[Place]:
        """Where a fault is in force. What it has still to do there is not done any more."""
        for task in self._moving.pop(step, ()):
            task.cancel()
        injection = self._in_force[step]
        return [injection.places[name] for name in sorted(injection.unhealed)]

    def _cure(self, step: str, place: Place) -> asyncio.Task[None]:
        """Every cure is asked for now."""
        doing = [place.host.ask(request) for request in self._faults[step].heal(step, place)]
        return self._spawn(self._await_cures(step, doing))

    async def _await_cures(self, step: str, cures: Sequence[Awaitable[Reply]]) -> None:
        for doing in cures:
            await self._await_cure(step, doing)

    async def _await_cure(self, step: str, doing: Awaitable[Reply]) -> None:
        await self._answer(doing, f"{step} healed")

    def _tell(self, order: job.Order) -> None:
        line = msgspec.json.encode(order).decode()
        for fleet in self._fleets.values():
            if fleet.exited is None:
                self._spawn(self._await_told(fleet, fleet.host.ask(Tell(id=0, line=line))))

    async def _await_told(self, fleet: _Fleet, doing: Awaitable[Reply]) -> None:
        try:
            await self._answer(doing, f"{fleet.host.name} told")
        except HarnessError:
            if fleet.left and fleet.exited is None:  # else it has nobody left to tell
                raise

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _take_down(self) -> RunResult:
        self._end("error")  # unless there is a better reason by now
        self._listener.on_phase("end")
        unfired = self._conductor.missing()
        self._write(Event.ENDED, {"why": self._over.result(), "unfired": unfired})
        self._ending = True
        self._injections.clear()
        if self._timer is not None:
            self._timer.cancel()
        await self._drop_tasks()
        if self._opened:
            await self._stage("heal", self._heal_all())
            await self._stage("stop the clients", self._stop([*self._fleets, *self._foreign], self._grace_s))
            await self._stage("stop the services", self._stop(list(self._services), self._grace_s))
            await self._stage("finish", self._finish())
            self._listener.on_phase("collect")
            await self._stage("collect", self._testbed.collect(self._place.directory))
        await self._stage("close", self._testbed.close())
        await self._drop_tasks()
        self._closed = True
        self._ledger.close()
        return self._result(unfired)

    def _result(self, unfired: list[dict[str, str]]) -> RunResult:
        why = self._over.result()
        why = "error" if self._problems and why != "interrupted" else why
        result = RunResult(self._place.run, self._place.directory, why, unfired, self._problems)
        self._save(ended=wall_clock(), why_ended=why, unfired=unfired, problems=self._problems)
        self._listener.on_end(result)
        return result

    async def _heal_all(self) -> None:
        cures = self._heal("all")
        if cures:
            await asyncio.wait(cures)

    async def _stop(self, hosts: Sequence[str], grace_s: Callable[[str], float]) -> None:
        running = [name for name in hosts if self._programs[name].running]
        asked = [self._host(name).ask(Stop(id=0, grace_s=grace_s(name))) for name in running]
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            refused = isinstance(outcome, HarnessError) and outcome.slug == REFUSED  # it went by itself
            if isinstance(outcome, BaseException) and not refused:
                raise outcome

    def _grace_s(self, name: str) -> float:
        """How long a host's program is given to end."""
        if name in self._fleets:
            return _FLEET_GRACE_S
        if name in self._foreign:
            program = self._foreign[name].group.program
            assert program is not None
            return program.grace_s
        return next(s.grace_s for s in self._plan.services if s.name == name)

    async def _finish(self) -> None:
        """Every agent's log gets its trailer, also where nobody played."""
        hosts = (*self._testbed.services.values(), *self._testbed.foreign.values(), *self._testbed.fleets)
        await asyncio.gather(*(host.ask(Finish(id=0)) for host in hosts))

    def _host(self, name: str) -> Host:
        return self._hosts_of(name)[0] if name not in self._fleets else self._fleets[name].host

    async def _drop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def _stage(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do one thing of the end, within its limits; what goes wrong is a problem and does not keep the rest from
        being done. An interrupt meanwhile tightens the limit that holds from there on."""
        task = asyncio.ensure_future(work)
        while not task.done():
            limit_s = _END_LIMITS[name].at(self._urgency)
            done, _ = await asyncio.wait({task, self._hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
                if limit_s:
                    self._problem(f"{name}: not within {limit_s:g} s")
                return
        error = task.exception()
        if isinstance(error, MidsessionError | OSError | ExceptionGroup):
            self._problem(f"{name}: {error}")
        elif error is not None:
            raise error

    # --- small things ----------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _problem(self, text: str) -> None:
        self._problems.append(text)
        self._end("error")
        self._write(Event.NOTE, {"text": text, "problem": True})
        self._listener.on_problem(text)

    def _write(self, event: Event, fields: dict[str, Any], t_ns: int | None = None) -> Record:
        record = self._ledger.write(event, fields, self._clock() if t_ns is None else t_ns)
        self._listener.on_record(record)
        if self._ledger.failure is not None and not self._disk_failed:
            self._disk_fails(self._ledger.failure)
        return record

    def _disk_fails(self, error: OSError) -> None:
        """Said once; the run ends, and what can still be written is."""
        self._disk_failed = True
        self._problem(str(cannot_write(self._place.directory, error)))

    def _write_and_observe(self, event: Event, fields: dict[str, Any]) -> None:
        record = self._write(event, fields)
        self._do(self._conductor.observe(self._clock(), record))
        self._arm()

    def _save(self, **facts: Any) -> None:
        plan = self._plan
        known = {"run": self._place.run, "name": plan.name, "seed": plan.seed, "plan": plan.hash}
        where = {"testbed": self._testbed.name, "runs": str(self._place.directory.parent)}
        self._facts = {**known, **where, **self._facts, **facts}
        try:
            self._ledger.save_run(self._facts)
        except OSError as error:
            if not self._disk_failed:
                self._disk_fails(error)

    async def _until(self, awaitable: Awaitable[T], within_s: float, condition: str) -> T:
        """Wait for a condition, but not beyond the end of the run. Raises HarnessError, naming it, after `within_s`."""
        task = asyncio.ensure_future(awaitable)
        waiting: set[asyncio.Future[Any]] = {task, self._over}
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if self._over.done():
            raise _Stopped
        raise HarnessError(f"{condition}: not within {within_s:g} s", "wait-ran-out")

    async def _answer(self, doing: Awaitable[T], condition: str, own_time_s: float = 0.0) -> T:
        """Wait for an agent's answer, which may take `own_time_s` of its own."""
        within_s = ANSWER_WITHIN_S + own_time_s
        try:
            async with asyncio.timeout(within_s):
                return await doing
        except TimeoutError:
            raise HarnessError(f"{condition}: no answer within {within_s:g} s", "wait-ran-out") from None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_is_done)
        return task

    def _task_is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, HarnessError):
            self._problem(str(error))
        elif isinstance(error, Exception):
            self._crash = error
            self._end("error")

    @contextlib.contextmanager
    def _crashing(self) -> Iterator[None]:
        """A mistake of ours in a callback ends the run in order, and is raised at its end."""
        try:
            yield
        except Exception as error:
            self._crash = error
            self._end("error")
            raise


def _deal(plan: Plan, hosts: Sequence[Host]) -> dict[str, _Fleet]:
    """Deal the clients out over the hosts, see `midsession.core.placement`. Hosts that get none are not used."""
    fleets = {}
    for host, groups in zip(hosts, deal(plan.scripted, len(hosts)), strict=False):
        names = [name for group in groups for name in group.names]
        fleets[host.name] = _Fleet(host, groups, names, set(names))
    return fleets


def _ends(at: int, moves: Sequence[Move]) -> tuple[bool, bool]:
    """Whether a move is the first, and the last."""
    return at == 0, at == len(moves) - 1


def _own_time_s(move: Move) -> float:
    """How long a move takes by its own nature."""
    match move:
        case Rest(rest_s):
            return rest_s
        case Stop():
            return move.grace_s
        case _:
            return 0.0


@contextlib.contextmanager
def _interrupts(interrupt: Callable[[], None]) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `interrupt` while the run goes on; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
