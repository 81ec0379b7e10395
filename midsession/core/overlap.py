"""Whether a fault met the sessions that it was meant for: one that nobody felt proves nothing of what came after it.

A session is a scripted client's connection, and has two ends: the client, and the service that its `connecting` names.
A fault is aimed at names of either kind; `with` (or the second of `between`) narrows it down to an other end, `port` to
the service's port. Programs of the user's leave no records of their connections, so of theirs nothing is counted.

What was done to nobody counts for nothing: no session was open, nobody tried to connect while the fault was in force
(or, where it does not heal, ever after), no program of the user's may have had to do with it, and no check asks what
became of its target. So it is with the wrong target, and with the right one at the wrong time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from midsession.core.concern import is_asked_about, is_told
from midsession.core.history import FOREVER, History
from midsession.core.outcomes import ON_ATTEMPTS, Connection
from midsession.core.plan import Plan, Step
from midsession.core.steps import StepStory
from midsession.core.whose import ENDINGS, OF_SESSIONS


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many sessions a fault met (`sessions`), of which target and other end, and why that is too few (`missed`)."""

    sessions: int
    missed: str
    other: str | None

    @staticmethod
    def of(history: History, story: StepStory) -> Overlap | None:
        """The sessions that had a connection open when the fault was injected, and that it could meet.

        None: it was not injected, the clocks do not tell, or only programs of the user's were to have such a session.
        """
        step = next(step for step in history.plan.timeline if step.id == story.id)
        aim = _Aim.of(history.plan, step)
        if story.injected is None or story.instant_ns is None or not history.comparable:
            return None
        opened = history.open_at(story.instant_ns)
        met = sum(aim.meets(client, connection) for client, connection in opened.items())
        missed = "" if met else _missed(history, story, aim) or _in_vain(history, story, aim)
        return Overlap(met, missed, step.sides[1]) if aim.clients or missed else None

    def __str__(self) -> str:
        many = self.sessions != 1
        between = f" and {self.other}" if self.other else ""
        return f"{self.sessions} session{'s' if many else ''} with its target{between} {'were' if many else 'was'} open"


@dataclass(frozen=True, slots=True)
class _Aim:
    """Whom a fault can meet: `clients` are the scripted ones that were to have a session with its target, with their
    groups; `programs` the clients that are programs, and were to have to do with it."""

    target: frozenset[str]
    other: frozenset[str]
    port: int | None
    udp: bool
    clients: Mapping[str, str]
    programs: Collection[str]

    @staticmethod
    def of(plan: Plan, step: Step) -> _Aim:
        """Between two services it counts who has a session with either: nobody has one with both."""
        names, other = step.sides
        target, others = frozenset(names), frozenset() if other is None else frozenset({other})
        if target | others <= {service.name for service in plan.services}:
            target, others = target | others, frozenset()
        clients = {
            name: group.name
            for group, hosts in ((group, group.hosts) for group in plan.groups)
            for name in group.names
            if any(_fits(({name, group.name}, {host}), target, others) for host in hosts)
        }
        programs = clients.keys() & {*plan.foreign_clients}
        scripted = {name: group for name, group in clients.items() if name not in programs}
        udp = step.args.get("protocol") == "udp"
        return _Aim(target, others, step.args.get("port"), udp, scripted, programs)

    def meets(self, client: str, connection: Connection) -> bool:
        """Whether a connection of that client is one of those."""
        service, _, port = connection.to.rpartition(":")
        if client not in self.clients or self.udp or (self.port is not None and port != str(self.port)):
            return False
        return _fits(({client, self.clients[client]}, {service}), self.target, self.other)


def _fits(ends: tuple[set[str], set[str]], target: frozenset[str], other: frozenset[str]) -> bool:
    """Whether one end of a session is a target, and the other end an other one, where those are given."""
    return any(target & one and (not other or other & another) for one, another in (ends, ends[::-1]))


def _missed(history: History, story: StepStory, aim: _Aim) -> str:
    """Why a fault that met no open session proves nothing of what a check counts from it; empty: it does.

    Where only programs of the user's were to have such a session, nobody knows.
    """
    if not aim.clients:
        return ""
    counted = [args for check in history.plan.checks for args in _counted_from(check.args, story.id)]
    if any(map(_looks_for_a_loss, counted)):
        return "and a check asks who lost one"
    if any(map(_looks_at_sessions, counted)) and not _meets_attempts(history, story, aim):
        return "no attempt to connect met it, and a check counts from it"
    return ""


def _in_vain(history: History, story: StepStory, aim: _Aim) -> str:
    """Why a fault that met no open session did nothing to anybody; empty: somebody may have felt it."""
    plan, ends = history.plan, aim.target | aim.other
    if _met_packets(history, story) and not aim.clients:
        return ""
    if _meets_programs(history, story, aim) or _is_felt_later(history, story, aim):
        return ""
    if is_told(plan, ends) or is_asked_about(plan, ends):
        return ""
    nobody = "nobody tried to connect from then on" if aim.clients or aim.programs else "no client connects to it"
    return f"{nobody}, no program is told of it, and no check asks what became of it"


def _met_packets(history: History, story: StepStory) -> bool:
    """Whether its witness has counted packets: somebody has sent them."""
    witness = history.find(story.witness)
    return witness is not None and "packets" in witness.fields


def _meets_programs(history: History, story: StepStory, aim: _Aim) -> bool:
    """Whether a client that is a program, and was to have to do with it, had not exited by then."""
    assert story.instant_ns is not None
    return any(not history.was_over(client, story.instant_ns) for client in aim.programs)


def _is_felt_later(history: History, story: StepStory, aim: _Aim) -> bool:
    """Whether a connection was tried, or made, while it was in force; of what does not heal, at any time after."""
    assert story.instant_ns is not None
    return any(connection.ended_ns > story.instant_ns for connection in _begun_before_its_end(history, story, aim))


def _begun_before_its_end(history: History, story: StepStory, aim: _Aim) -> Iterator[Connection]:
    """The connections between a fault's two ends, also those that were tried in vain, begun before it was healed."""
    until_ns = FOREVER if story.healed is None else story.healed.t_ns
    for client in aim.clients:
        for connection in history.connections.get(client, ()):
            if connection.began_ns < until_ns and aim.meets(client, connection):
                yield connection


def _counted_from(value: object, step: str) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a check's fields that counts from (`since`) the step."""
    if isinstance(value, Mapping) and value.get("since") == step:
        yield value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _counted_from(one, step)


def _looks_for_a_loss(counted: Mapping[str, Any]) -> bool:
    """Whether it asks for open sessions that are lost (or are not)."""
    return counted.get("as_") not in ON_ATTEMPTS and not ENDINGS.isdisjoint(_events(counted))


def _looks_at_sessions(counted: Mapping[str, Any]) -> bool:
    """Whether it asks what sessions met, not what became of a program."""
    return not {"service", "clients"} & counted.keys() and OF_SESSIONS.issuperset(_events(counted))


def _events(counted: Mapping[str, Any]) -> set[str]:
    return {counted[key] for key in ("event", "meets") if key in counted}


def _meets_attempts(history: History, story: StepStory, aim: _Aim) -> bool:
    """Whether a connection was tried while the fault was in force; of one that is never healed: tried in vain."""
    assert story.instant_ns is not None
    tried = [c for c in _begun_before_its_end(history, story, aim) if c.began_ns >= story.instant_ns]
    return any(story.healed is not None or connection.opened_ns is None for connection in tried)
