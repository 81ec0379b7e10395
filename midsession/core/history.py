"""The history: everything that happened in a run, over all hosts, in one order, and the questions that it answers.

The history is the API: a run makes one, checks judge one, the report draws one. It is built from the plan and the
writers' files by a pure constructor and never changes. What it cannot know it refuses to say (`CannotTell`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any, TypeVar, overload

import msgspec

from midsession.core.asked import event_called, is_field, refuse_field, refuse_name, refuse_value
from midsession.core.compared import EventCounts, EventSequence
from midsession.core.logfile import LogFile
from midsession.core.logs import AGENT, CONDUCTOR, PROGRAM, Gap, Writer, find_gaps
from midsession.core.outcomes import (
    FOREVER,
    UNSUPPORTED_REASON,
    Connection,
    Outcome,
    connections_of,
    outcome_of,
    outcome_of_program,
)
from midsession.core.plan import CheckPlan, Plan
from midsession.core.record import CLIENT_ENDS, Event, Record
from midsession.core.stalls import Span, overlap_ns, spans_of
from midsession.core.steps import StepStory, tell_steps
from midsession.core.wrong import did_you_mean

__all__ = ["AGENT", "CONDUCTOR", "FOREVER", "PROGRAM", "CannotTell", "Gap", "History", "Outcome", "Selection"]


K = TypeVar("K")


class CannotTell(Exception):
    """The history has no answer: a step that never fired, clocks that cannot be compared. The text says why."""


def never_fired(step: str) -> str:
    """What there is to say of such a step, and of all that counts from it."""
    return f"the step {step} never fired"


class History:
    """An ordered, immutable list of records, with what the plan says about them.

    The order is that of `t_ns`; a writer's own order is never broken, and equal instants stand in the order of host,
    writer, incarnation and seq. When the hosts' clocks cannot be compared, the records stand writer by writer, and
    everything that asks for an instant raises CannotTell.
    """

    def __init__(self, plan: Plan, files: Mapping[str, LogFile], hosts: Collection[str] = (), run: str = "") -> None:
        self.plan = plan
        self._files = {f.header: f for _, f in sorted(files.items()) if f.header}
        self._by_writer = {(h.host, h.writer, h.incarnation): f for h, f in self._files.items()}
        self._by_event: dict[str, Sequence[Record]] = {}
        self.gaps: Sequence[Gap] = find_gaps(plan, files, hosts, run)
        self._asked = set[str]()
        self._named = frozenset(hosts)

    @staticmethod
    def of(plan: Plan, files: Mapping[str, LogFile], hosts: Collection[str] = (), run: str = "") -> History:
        """The history of a run: its plan, its files by name, the hosts known to have taken part, and its own name.

        Files of another run are gaps; without the name, the conductor's file says which run this is.
        """
        return History(plan, files, hosts, run)

    def with_checks(self, checks: list[CheckPlan]) -> History:
        """The same history, to be judged by other checks than those of its plan."""
        other = copy(self)
        other.plan = msgspec.structs.replace(self.plan, checks=checks)
        return other

    @cached_property
    def records(self) -> Sequence[Record]:
        """All records, in order."""
        return self._merged(lambda file: file.records)

    def __len__(self) -> int:
        return sum(len(file.records) for file in self._by_writer.values())

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    # --- queries ---

    def events(self, *names: str) -> Selection:
        """The records of these events, or all records. Raises ValueError for a word that is no event."""
        wanted = [event_called(name) for name in names]
        if not wanted:
            return Selection(self, self.records)
        if len(wanted) == 1:
            return Selection(self, self._of_event(wanted[0]), events=wanted)
        return Selection(self, [r for r in self.records if r.event in wanted], events=wanted)

    def of_client(self, client: str) -> Selection:
        """Everything that a client wrote, in its own order."""
        return Selection(self, self._by_client.get(client, []))

    def find(self, ref: Mapping[str, Any] | None) -> Record | None:
        """The record that a reference (host, writer, incarnation, seq) in another record's fields names."""
        if ref is None:
            return None
        file = self._by_writer.get((ref.get("host", ""), ref.get("writer", ""), ref.get("incarnation", 0)))
        seq = ref.get("seq", 0)
        return file.records[seq - 1] if file and 0 < seq <= len(file.records) else None

    # --- time ---

    @cached_property
    def clocks(self) -> Sequence[str]:
        """The clock domains of the files. More than one: instants cannot be compared."""
        return sorted({header.clock for header in self._files})

    @property
    def comparable(self) -> bool:
        """Whether all records stand on one clock."""
        return len(self.clocks) <= 1

    def instant(self, when: str | int) -> int:
        """The instant of a step of the timeline: `began_ns` of its fault, else when it fired. A number stays itself.

        Raises CannotTell for a step that never fired and for clocks that differ, ValueError for an unknown step.
        """
        if not self.comparable:
            raise CannotTell(f"the hosts' clocks cannot be compared ({len(self.clocks)} clock domains)")
        if isinstance(when, int):
            return when
        if when not in self.steps:
            raise ValueError(f"the timeline has no step {when!r}; {did_you_mean(when, self.steps)}")
        self._asked.add(when)
        instant = self.steps[when].instant_ns
        if instant is None:
            raise CannotTell(never_fired(when))
        return instant

    def steps_asked(self) -> frozenset[str]:
        """The steps of which the instant was asked since this was asked last."""
        asked, self._asked = frozenset(self._asked), set()
        return asked

    @property
    def begun_ns(self) -> int:
        """When the run began: the conductor's `begun`. Raises CannotTell when there is none: a service did not
        come up."""
        begun = self.events(Event.BEGUN).first
        if begun is None:
            raise CannotTell("the run never began")
        return self.instant(begun.t_ns)

    @property
    def ended(self) -> Record | None:
        """The conductor's `ended` record: why the run ended. None: the conductor never came to it."""
        return self.events(Event.ENDED).last

    @cached_property
    def ended_ns(self) -> int:
        """When the run ended; what agents write later is tear-down. Without an `ended` record: FOREVER."""
        return self.ended.t_ns if self.ended and self.comparable else FOREVER

    @cached_property
    def stalls(self) -> Sequence[Span]:
        """When the hosts stood still, from and to in ns: in order, without overlap; empty when clocks differ."""
        if not self.comparable:
            return []
        return spans_of(self.events(Event.STALLED), self.events(Event.FROZEN, Event.THAWED)[:])

    def stalled_ns(self, from_ns: int, to_ns: int) -> int:
        """How long the hosts stood still between two instants."""
        return overlap_ns(self.stalls, from_ns, to_ns)

    # --- what it all means ---

    @cached_property
    def steps(self) -> Mapping[str, StepStory]:
        """What became of each step of the timeline, in the plan's order."""
        return tell_steps(self.plan, self._of_event)

    @cached_property
    def outcomes(self) -> Mapping[str, Outcome]:
        """Exactly one outcome for every planned client, in the plan's order, even if its process died."""
        return {client: self._outcome(client) for client in self.plan.clients}

    @cached_property
    def connections(self) -> Mapping[str, Sequence[Connection]]:
        """Every client's connections (failed attempts too), in the order of their numbers."""
        return {client: connections_of(records) for client, records in self._by_client.items()}

    def open_at(self, when: str | int) -> Mapping[str, Connection]:
        """The clients that had a connection open at that instant, in the plan's order, and which one."""
        t_ns = self.instant(when)
        return {
            client: connection
            for client in self.plan.clients
            for connection in self.connections.get(client, ())
            if connection.is_open(t_ns)
        }

    def lost_later(self, client: str, t_ns: int) -> int | None:
        """The number of the connection that the client had open at that instant and then lost; None: there was none."""
        open_then = (c for c in self.connections.get(client, ()) if c.is_open(t_ns))
        return next((c.number for c in open_then if c.how is not None), None)

    def was_over(self, client: str, t_ns: int) -> bool:
        """Whether the client's session was over (the program that it is had exited) before that instant."""
        done = next((r for r in self.of_client(client) if r.event in CLIENT_ENDS), None)
        return done is not None and done.t_ns < t_ns

    def unsupported(self, name: str) -> Sequence[str]:
        """Those of a group's clients whose program said that it cannot play its part (exit code 127)."""
        return [c for c in self.clients_of(name) if self.outcomes[c].reason.startswith(UNSUPPORTED_REASON)]

    def clients_of(self, name: str) -> Sequence[str]:
        """The planned clients of a group, or the one client that is called so. Raises ValueError for any other name."""
        if name not in self._groups and name not in self._clients:
            known = did_you_mean(name, [*self._groups, *self._clients])
            raise ValueError(f"the plan has no client group and no client {name!r}; {known}")
        return self._groups.get(name, [name])

    def means_clients(self, name: str) -> bool:
        """Whether the name is a client group's or a client's. Raises ValueError when it is not a service's either."""
        if name in self._services:
            return False
        if name not in self._groups and name not in self._clients:
            known = did_you_mean(name, [*self._services, *self._groups, *self._clients])
            raise ValueError(f"the plan has no service, no client group and no client {name!r}; {known}")
        return True

    @cached_property
    def foreign(self) -> frozenset[str]:
        """The clients that are programs on hosts of their own."""
        return frozenset(self.plan.foreign_clients)

    @cached_property
    def hosts(self) -> Collection[str]:
        """The hosts of services, client programs and fleets, and the conductor, whoever of them left a log."""
        return self._services | self.foreign | self._named | {h.host for h in self._files} | {CONDUCTOR}

    def written_by(self, host: str, writer: str) -> Selection:
        """Everything that one kind of writer wrote on a host, over all its incarnations."""
        return Selection(self, self._by_place.get((host, writer), []))

    def gaps_of(self, host: str, writer: str) -> Sequence[Gap]:
        """The files of that writer that are not whole."""
        return [gap for gap in self.gaps if gap.host == host and gap.writer == writer]

    def writers(self) -> Sequence[Writer]:
        """Host, writer and incarnation of every file that has a header, in order."""
        return sorted(self._by_writer)

    @cached_property
    def fleets(self) -> Sequence[str]:
        """The hosts that played clients, as far as the files tell."""
        return sorted({h.host for h in self._files} - self._services - self.foreign - {CONDUCTOR})

    # --- indices, made when they are first needed ---

    def _of_event(self, event: str) -> Sequence[Record]:
        """The records of one event. As long as nobody asked for all, only these are decoded."""
        if event not in self._by_event:
            if "records" in self.__dict__:
                self._by_event = defaultdict(list, _index(self.records, attrgetter("event")))
            else:
                self._by_event[event] = self._merged(lambda file: file.of_event(event))
        return self._by_event[event]

    def _merged(self, part: Callable[[LogFile], Sequence[Record]]) -> list[Record]:
        """Some records of each file, in one order: stable over files in the order of their writers, so ties are too."""
        parts = [(file, part(file)) for _, file in sorted(self._by_writer.items(), key=itemgetter(0))]
        records = [r for _, own in parts for r in own]
        if not self.comparable:
            return records
        keys = [t_ns for file, own in parts for t_ns in file.instants(own)]
        return [records[i] for i in sorted(range(len(records)), key=keys.__getitem__)]

    @cached_property
    def _by_client(self) -> dict[str, list[Record]]:
        index = _index(self.records, attrgetter("client"))
        index.pop(None, None)
        return index

    @cached_property
    def _by_place(self) -> dict[tuple[str, str], list[Record]]:
        return _index(self.records, attrgetter("host", "writer"))

    @cached_property
    def _clients(self) -> frozenset[str]:
        return frozenset(self.plan.clients)

    @cached_property
    def _groups(self) -> Mapping[str, Sequence[str]]:
        return {g.name: g.names for g in self.plan.groups}

    @cached_property
    def _services(self) -> set[str]:
        return {s.name for s in self.plan.services}

    def _outcome(self, client: str) -> Outcome:
        records = self._by_client.get(client, [])
        if client in self.foreign:
            return outcome_of_program(client, records, self.gaps_of(client, AGENT), self.ended_ns)
        gone = self._gone.get(client, "")
        if not records:
            return outcome_of(client, records, None, [], gone=gone)
        last = records[-1]
        writer = (last.host, last.writer, last.incarnation)
        exits = self.events(Event.EXITED).on(last.host).where(incarnation=last.incarnation)
        gaps = self.gaps_of(last.host, PROGRAM)
        return outcome_of(client, records, exits.last, gaps, self._by_writer[writer].records[-1].t_ns, gone)

    @cached_property
    def _gone(self) -> Mapping[str, str]:
        """The clients whose program a step of the timeline ended, each with the step, as the conductor said."""
        notes = self.events(Event.NOTE).by(CONDUCTOR)
        return {client: str(r.fields.get("step")) for r in notes for client in r.fields.get("gone", ())}


class Selection:
    """Some of a history's records, in its order; each question gives a smaller selection.

    `history.events("lost").of("talkers").since("crash").within(1.0).where(how="eof")`

    A question with a name, a field or a value that no record of these events could have is a ValueError: it would find
    nothing, which may be what is hoped for.
    """

    __slots__ = ("_events", "_history", "_origin_ns", "_records")

    def __init__(
        self,
        history: History,
        records: Sequence[Record],
        origin_ns: int | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        self._history, self._records, self._origin_ns, self._events = history, records, origin_ns, events

    def of(self, name: str) -> Selection:
        """Those of a group's clients, of one client, or of a service's host."""
        if self._history.means_clients(name):
            clients = set(self._history.clients_of(name))
            return self._keep(lambda r: r.client in clients)
        return self.on(name)

    def client(self, name: str) -> Selection:
        """Those of one client (`talkers-3`)."""
        found = self._keep(lambda r: r.client == name)
        if not found:
            refuse_name("client", name, self._history.plan.clients)
        return found

    def connection(self, number: int) -> Selection:
        """Those of the connections with that number."""
        return self._keep(lambda r: r.connection == number)

    def on(self, host: str) -> Selection:
        """Those that were written on a host, whoever wrote them."""
        found = self._keep(lambda r: r.host == host)
        if not found:
            refuse_name("host", host, self._history.hosts)
        return found

    def by(self, writer: str) -> Selection:
        """Those of one kind of writer: `conductor`, `agent`, `program`."""
        refuse_name("writer", writer, (CONDUCTOR, AGENT, PROGRAM))
        return self._keep(lambda r: r.writer == writer)

    def since(self, when: str | int) -> Selection:
        """Those at or after a step of the timeline (or an instant in ns)."""
        t_ns = self._history.instant(when)
        return Selection(self._history, [r for r in self._records if r.t_ns >= t_ns], t_ns, self._events)

    def until(self, when: str | int) -> Selection:
        """Those before a step (or an instant)."""
        t_ns = self._history.instant(when)
        return self._keep(lambda r: r.t_ns < t_ns)

    def between(self, first: str | int, last: str | int) -> Selection:
        """Those at or after `first` and before `last`."""
        return self.since(first).until(last)

    def within(self, seconds: float) -> Selection:
        """Those at most that long after the instant of the last `since`, else after the beginning of the run."""
        origin_ns = self._history.begun_ns if self._origin_ns is None else self._origin_ns
        limit_ns = origin_ns + round(seconds * 1e9)
        return self._keep(lambda r: r.t_ns <= limit_ns)

    def before_teardown(self) -> Selection:
        """Without what agents wrote after the run's end: programs are stopped then, and that is no event of the run."""
        ended_ns = self._history.ended_ns
        return self._keep(lambda r: r.writer != AGENT or r.t_ns <= ended_ns)

    def where(self, /, **fields: Any) -> Selection:
        """Those whose fields have these values."""
        if not fields:
            return self
        self._refuse_unknown(fields)
        wanted = list(fields.items())
        found = self._keep(lambda r: all(r.fields.get(key) == value for key, value in wanted))
        for key, value in wanted if not found else ():
            refuse_value(self._events, key, value)
        return found

    def by_client(self) -> Mapping[str, Selection]:
        """The selection client by client, in the order of their first records; records of no client are left out."""
        index = _index(self._records, attrgetter("client"))
        return {client: self._with(records) for client, records in index.items() if client is not None}

    def sequence(self, *fields: str) -> EventSequence:
        """The events in order, each with the values of these fields (if any are named), to be compared with a list."""
        self._refuse_unknown(fields)
        return EventSequence(self._records, fields, self._zero_ns)

    def counts(self, field: str = "") -> EventCounts:
        """How many records of each event, or of each value of a field, to be compared with a dict."""
        self._refuse_unknown([field] if field else [])
        return EventCounts(self._records, field, self._zero_ns)

    def difference(self, expected: object) -> list[str]:
        """In words, how the records differ from others."""
        others = [*expected] if isinstance(expected, Selection | list | tuple) else []
        more = Selection(self._history, [r for r in self._records if r not in others], self._origin_ns)
        lines = more.sequence().difference([])[1:] if len(more) else []
        return [f"{len(self)} records, where {len(others)} were expected:", *lines]

    @property
    def _zero_ns(self) -> int:
        """The beginning of the run, as far as it is known."""
        begun = self._history.events(Event.BEGUN).first
        return begun.t_ns if begun else 0

    @property
    def first(self) -> Record | None:
        """The earliest record, or None."""
        return self._records[0] if self._records else None

    @property
    def last(self) -> Record | None:
        """The latest record, or None."""
        return self._records[-1] if self._records else None

    @property
    def count(self) -> int:
        """How many records."""
        return len(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """A record by its position, or a list of them."""
        return self._records[index] if isinstance(index, int) else list(self._records[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares like a list, so it hashes like one

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.client or r.host}: {r.event}" for r in self._records[:5])
        return f"<{len(self)} records{': ' if shown else ''}{shown}{', …' if len(self) > 5 else ''}>"

    def _keep(self, wanted: Callable[[Record], bool]) -> Selection:
        return self._with([r for r in self._records if wanted(r)])

    def _with(self, records: Sequence[Record]) -> Selection:
        return Selection(self._history, records, self._origin_ns, self._events)

    def _refuse_unknown(self, fields: Iterable[str]) -> None:
        for field in fields:
            if not is_field(self._events, field) and not any(field in r.fields for r in self._records):
                refuse_field(self._events, field)


def _index(records: Iterable[Record], key: Callable[[Record], K]) -> dict[K, list[Record]]:
    index: defaultdict[K, list[Record]] = defaultdict(list)
    for r in records:
        index[key(r)].append(r)
    return dict(index)
