"""Faults: injected, proven by their witnesses, healed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from midsession.agent.protocol import NOTHING_TO_HEAL, Reply, Start, Stop
from midsession.core.plan import Service
from midsession.core.record import Event, Record
from midsession.errors import HarnessError
from midsession.faults.base import Fault, Move, Rest, StartProgram, Unfit
from midsession.injection import Injection, Place
from midsession.ledger import reference
from midsession.programs import start_service
from midsession.runner.life import Life

REFUSED = "agent-refused"
"""The slug of the HarnessError for a request that an agent could not carry out."""


class Breaking(Life):
    """Injects faults on their hosts and heals them."""

    def _inject(self, step: str) -> None:
        fault, places = self._faults[step], self._places_of(step)
        try:
            moves = _moves(step, fault, places)
        except Unfit as unfit:  # told not before the conductor's other commands are carried out
            self._loop.call_soon(self._fails, Injection(step, fault, {}), str(unfit))
            return
        injection = self._injections[step] = Injection(step, fault, {name: places[name] for name in moves})
        if fault.healable:
            self._in_force[step] = injection
        # Every host is asked for the first move before any is waited for.
        firsts = {name: self._make(made[0], injection, name, *_ends(0, made)) for name, made in moves.items()}
        going = {name: self._spawn(self._go_on(injection, name, firsts[name], made)) for name, made in moves.items()}
        self._moving[step] = [going[name] for name, made in moves.items() if len(made) > 1]

    def _places_of(self, step: str) -> dict[str, Place]:
        """The hosts on which a step's fault is injected as things stand now."""
        fault = self._faults[step]
        hosts = [host for host in self._cast.hosts_broken(fault) if self._cast.can_bear(host, fault)]
        return {host.name: Place(host, self._scenery) for host in hosts}

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

    def _start_of(self, service: Service, fault: str = "") -> Start:
        return start_service(service, self._cast.services[service.name], self._place.run, self._plan.seed, fault)

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
            is_gone = at == 0 and not self._cast.can_bear(injection.places[name].host, injection.fault)
            if is_gone and len(injection.places) > 1:
                self._leave_out(injection, name)
            elif not injection.is_proven_on(name):  # what had its effect may go on badly: a flap of a host that died
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

    # --- witnesses and cures ---------------------------------------------------------------------------------------

    def _is_injected(self, record: Record) -> None:
        if injection := self._injections.get(str(record.fields.get("fault"))):
            injection.begin(record)

    def _look_for_witness(self, record: Record) -> None:
        for injection in list(self._injections.values()):
            if injection.take(record):
                self._took_effect(injection)
            elif injection.is_lost_by(record):
                self._fails(injection, f"the program of {record.host} has ended, and nothing says by this step")

    def _took_effect(self, injection: Injection) -> None:
        del self._injections[injection.step]
        witnesses = [reference(witness) for given in injection.witnesses.values() for witness in given]
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
                where = ", ".join(sorted(injection.unproven))
                self._fails(injection, f"{injection.fault.unfelt} on {where}")

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
        return self._spawn(self._await_cures(step, place, doing))

    async def _await_cures(self, step: str, place: Place, cures: Sequence[Awaitable[Reply]]) -> None:
        values = [(await self._answer(doing, f"{step} healed")).value for doing in cures]
        if all(value == NOTHING_TO_HEAL for value in values):  # else its `healed` comes
            self._is_healed(step, place.host.name)


def _moves(step: str, fault: Fault, places: Mapping[str, Place]) -> dict[str, list[Move]]:
    """What a fault does on those of its hosts where it does anything. Raises Unfit when there are none."""
    if not places:
        raise Unfit("none of its programs runs")
    moves = {name: list(fault.inject(step, place)) for name, place in places.items()}
    if not any(moves.values()):
        raise Unfit("there is nothing that it breaks on any of its hosts")
    return {name: made for name, made in moves.items() if made}


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
