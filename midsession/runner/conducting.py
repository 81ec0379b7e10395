"""The conductor at work: what hosts tell goes to it, what it wants is done."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

import msgspec

from midsession import startup
from midsession.agent.protocol import Records, Reply, Tell
from midsession.core import conductor as c
from midsession.core import job
from midsession.core.contract import client_environment
from midsession.core.plan import GroupPlan
from midsession.core.record import Event, Record, decode_line
from midsession.errors import HarnessError
from midsession.injection import Connections
from midsession.ledger import reference
from midsession.programs import start_client
from midsession.runner.breaking import REFUSED, Breaking
from midsession.runner.cast import Fleet

LATE_RECORDS_S = 2.0
"""How long the last records of a fleet may come after the news of its end."""


class Conducting(Breaking):
    """Feeds the conductor and carries out its commands. An `Inbox`, see midsession.testbeds."""

    # --- what hosts tell -------------------------------------------------------------------------------------------

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

    def note(self, text: str) -> None:
        """The testbed has something to tell."""
        if not self._closed:
            self._write(Event.NOTE, {"text": text})

    def _hear(self, record: Record) -> None:
        self._listener.on_record(record)
        if record.event in Connections.WATCHES:
            self._connections.hear(record)
        if record.event in (Event.STARTED, Event.EXITED):
            self._cast.programs[record.host].take(record)
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
                self._cast.programs[record.host].said.append(str(record.fields.get("text")))
            case Event.EXITED:
                self._program_exited(record)
            case Event.HEALED:
                self._is_healed(str(record.fields.get("fault")), record.host)
            case Event.INJECTED:
                self._is_injected(record)

    def _client_is_done(self, record: Record) -> None:
        fleet = self._cast.fleets.get(record.host)
        if fleet is not None and record.client is not None:
            fleet.left.discard(record.client)

    def _program_is_ready(self, record: Record) -> None:
        program = self._cast.programs[record.host]
        program.running = True
        if not program.ready.done():
            program.ready.set_result(record)
            if record.host in self._started_later:
                self._spawn(self._after_start(record.host))

    def _program_exited(self, record: Record) -> None:
        program = self._cast.programs[record.host]
        fleet = self._cast.fleets.get(record.host)
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

    def _was_ended(self, fleet: Fleet, step: str) -> None:
        """A step ended a fleet: nobody need wait for its clients. What their own log says of them still counts."""
        gone = [client for client in fleet.clients if client in fleet.left]
        fleet.left.clear()
        if gone:
            text = f"{step} ended {fleet.host.name}, and with it {len(gone)} sessions that were under way"
            self._write_and_observe(Event.NOTE, {"text": text, "step": step, "gone": gone})

    def _check_fleet(self, fleet: Fleet) -> None:
        if fleet.left and not self._ending:
            count = f"{len(fleet.left)} of its {len(fleet.clients)} clients were not done"
            self._problem(f"the client program of {fleet.host.name} ended, and {count}")

    async def _after_start(self, service: str) -> None:
        """Of a service that is up for the first time: a later part knows how."""
        raise NotImplementedError

    # --- what the conductor wants ----------------------------------------------------------------------------------

    def _observe(self, record: Record) -> None:
        self._do(self._conductor.observe(self._clock(), record))
        self._arm()

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

    def _tell(self, order: job.Order) -> None:
        line = msgspec.json.encode(order).decode()
        for fleet in self._cast.fleets.values():
            if fleet.exited is None:
                self._spawn(self._await_told(fleet, fleet.host.ask(Tell(id=0, line=line))))

    async def _await_told(self, fleet: Fleet, doing: Awaitable[Reply]) -> None:
        try:
            await self._answer(doing, f"{fleet.host.name} told")
        except HarnessError:
            if fleet.left and fleet.exited is None:  # else it has nobody left to tell
                raise

    def _begin_programs(self, group: GroupPlan, begin_ns: int) -> None:
        """Start each client program of a group when it is to arrive."""
        for name, client in zip(group.names, group.clients, strict=True):
            self._at(begin_ns + round(client.arrive_s * 1e9), partial(self._start_program, name))

    def _start_program(self, name: str) -> None:
        if self._over.done():
            return
        one = self._cast.foreign[name]
        environment = client_environment(one.group, one.client, self._place.run, self._plan.seed, self._addresses)
        assert one.group.program is not None
        doing = one.host.ask(start_client(one.group.program, environment))
        self._spawn(self._await_started(name, doing))

    async def _await_started(self, name: str, doing: Awaitable[Reply]) -> None:
        try:
            await self._answer(doing, f"{name} started")
        except HarnessError as error:
            raise startup.refused(name, error) if error.slug == REFUSED else error from None

    @property
    def _addresses(self) -> dict[str, str]:
        """Where each service is, as clients are told: the name alone where a fault is about looking it up."""
        asked_for = {name for fault in self._faults.values() for name in fault.looked_up()}
        return {name: name if name in asked_for else host.address for name, host in self._cast.services.items()}
