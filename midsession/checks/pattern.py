"""Which records a check means, and who would have seen them: absence is worth what its observer is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from midsession.core.history import AGENT, CONDUCTOR, FOREVER, PROGRAM, History, Selection
from midsession.core.outcomes import ON_ATTEMPTS
from midsession.core.plan import ReferenceService
from midsession.core.record import Event
from midsession.core.refers import StepId, Subject
from midsession.core.whose import WRITERS

_ON_CONNECTIONS = frozenset(
    {
        *(Event.SENT, Event.RECEIVED, Event.REPLIED, Event.END, Event.CLOSED, Event.ERROR, Event.LOST, Event.MARK),
        *(Event.PROTOCOL_ERROR, Event.CLIENT_LOST),
    }
)
"""What only a connection that was made can meet: an attempt that was refused is no sign that it could have come."""
_OF_PROGRAMS = frozenset({Event.STARTED, Event.LISTENING, Event.EXITED, Event.FROZEN, Event.THAWED, Event.LINE})
"""What only a program that lives can meet: of one that had exited before the window, its absence is no news."""
_ON_EITHER = ON_ATTEMPTS | {"timeout"}
"""The ways of a `lost` for which an attempt is enough."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Records of one event, by any client of the group, by the client or by the service `of`, at or after the step
    `since`, before the step `until`.

    `as` is the way of a `lost` (its field `how`); `where` holds fields that must have these values. What agents write
    after the run's end is tear-down and never meant.
    """

    event: Event
    of: Subject | None = None
    as_: str | None = None
    where: dict[str, Any] = field(default_factory=dict)
    since: StepId | None = None
    until: StepId | None = None

    def select(self, history: History) -> Selection:
        """The records. Raises CannotTell when the history cannot say."""
        found = history.events(self.event).where(**self.fields)
        found = found.of(self.of) if self.of is not None else found
        found = found.since(self.since) if self.since is not None else found
        found = found.until(self.until) if self.until is not None else found
        return found.before_teardown()

    def window(self, history: History) -> tuple[int, int]:
        """From when on, and before when, in ns. Raises CannotTell for a step that never fired."""
        since_ns = 0 if self.since is None else history.instant(self.since)
        return since_ns, FOREVER if self.until is None else history.instant(self.until)

    @property
    def needs_connection(self) -> bool:
        """Whether only somebody with a connection could have met it."""
        return self.event in _ON_CONNECTIONS and self.fields.get("how") not in _ON_EITHER

    @property
    def fields(self) -> dict[str, Any]:
        """`where` and `as` as one mapping of fields."""
        return self.where if self.as_ is None else {**self.where, "how": self.as_}

    def __str__(self) -> str:
        said = ", ".join(filter(None, [self.as_, *(f"{k} = {v!r}" for k, v in self.where.items())]))
        parts = [self.event.value, f"({said})" if said else "", f"of {self.of}" if self.of else ""]
        parts += [f"since {self.since}" if self.since else "", f"until {self.until}" if self.until else ""]
        return " ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Watch:
    """Who would have seen a pattern's records: observers with whole logs and a sign of life in its window, and those
    of whom nobody can tell (with the reason). In neither are those that had nothing to see it on: clients whose session
    was over before the window (of client programs: that had exited before it), and, for what only a connection meets,
    those that had none in it."""

    alive: list[str]
    unknown: list[str]


def watch(history: History, pattern: Pattern) -> Watch:
    """The observers of a pattern, each with its word."""
    alive: list[str] = []
    unknown: list[str] = []
    for name, why in _observers(history, pattern):
        if why is None:
            alive.append(name)
        elif why:
            unknown.append(f"{name}: {why}")
    return Watch(alive, unknown)


def _observers(history: History, pattern: Pattern) -> Iterator[tuple[str, str | None]]:
    """Name and None (alive), a reason (nobody can tell), or an empty text (out of scope)."""
    writers = WRITERS[pattern.event]
    of_clients = None if pattern.of is None else history.means_clients(pattern.of)
    if "client" in writers and of_clients is not False:
        yield from _clients(history, pattern)
    if "server" in writers and not of_clients:
        yield from _services(history, pattern)
    if "agent" in writers:
        yield from _agents(history, pattern)
    if "fleet" in writers and pattern.of is None:
        yield from ((fleet, _first_gap(history, fleet, PROGRAM)) for fleet in history.fleets)
    if "conductor" in writers and pattern.of is None:
        yield CONDUCTOR, _first_gap(history, CONDUCTOR, CONDUCTOR)


def _clients(history: History, pattern: Pattern) -> Iterator[tuple[str, str | None]]:
    meant = history.plan.clients if pattern.of is None else history.clients_of(pattern.of)
    clients = [client for client in meant if client not in history.foreign]
    since_ns, until_ns = pattern.window(history)
    for client in clients:
        outcome = history.outcomes[client]
        if outcome.word == "info" and outcome.known_until_ns < until_ns:
            yield client, outcome.reason
        else:
            yield client, None if _was_there(history, client, pattern, since_ns, until_ns) else ""


def _was_there(history: History, client: str, pattern: Pattern, since_ns: int, until_ns: int) -> bool:
    if pattern.needs_connection:
        connections = history.connections.get(client, ())
        return any(c.is_open_after(since_ns) and (c.opened_ns or 0) < until_ns for c in connections)
    records = history.of_client(client)
    return bool(records) and records[0].t_ns < until_ns and records[-1].t_ns >= since_ns


def _services(history: History, pattern: Pattern) -> Iterator[tuple[str, str | None]]:
    since_ns, until_ns = pattern.window(history)
    for service in history.plan.services:
        if isinstance(service, ReferenceService) and pattern.of in (None, service.name):
            gap = _first_gap(history, service.name, PROGRAM)
            spoke = any(
                since_ns <= r.t_ns < until_ns and (r.connection is not None or not pattern.needs_connection)
                for r in history.written_by(service.name, PROGRAM)
            )
            yield service.name, gap if gap or spoke else ""


def _agents(history: History, pattern: Pattern) -> Iterator[tuple[str, str | None]]:
    since_ns, until_ns = pattern.window(history)
    for host in _hosts(history, pattern.of):
        # A whole agent's log has a trailer: the agent lived to the end of the run, whatever the window.
        gap = _first_gap(history, host, AGENT)
        foreign = host in history.foreign
        over = foreign and pattern.event in _OF_PROGRAMS and history.was_over(host, since_ns)
        name = host if foreign else f"agent of {host}"
        began = any(r.t_ns < until_ns for r in history.written_by(host, AGENT))
        yield name, gap if gap or (began and not over) else ""


def _hosts(history: History, of: str | None) -> list[str]:
    """Whose agents are meant: the service's, those of client programs, or everybody's."""
    plan = history.plan
    if of is None:
        return [*(s.name for s in plan.services), *plan.foreign_clients, *history.fleets]
    if not history.means_clients(of):
        return [of]
    return [client for client in history.clients_of(of) if client in history.foreign]


def _first_gap(history: History, host: str, writer: str) -> str | None:
    gaps = history.gaps_of(host, writer)
    return f"its log is not whole ({gaps[0]})" if gaps else None
