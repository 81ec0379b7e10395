"""Swimlanes: what state each client and each service was in, when, as few segments as a picture needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midsession.core.record import Event, Record
from midsession.report.text import phrase, visible

CLIENT_STATES = {
    Event.CONNECTING: "connecting",
    Event.CONNECTED: "connected",
    Event.LOST: "lost",
    Event.RECONNECTING: "reconnecting",
}
"""The state that a client's record begins. `closed` begins `ended` where the connection was not lost."""

SERVICE_STATES = {
    Event.STARTED: "starting",
    Event.LISTENING: "up",
    Event.EXITED: "down",
    Event.FROZEN: "frozen",
    Event.THAWED: "up",
}
"""The same for the records about a host's program."""

PROGRAM_STATES = {**SERVICE_STATES, Event.STARTED: "up"}
"""The same for a client that is a program: nobody waits until it listens."""

_MARKED = frozenset({Event.LOST, Event.PROTOCOL_ERROR, Event.GAVE_UP, Event.EXITED, Event.MARK})
_MARKS_PER_LANE = 60
_SEGMENTS_PER_LANE = 120


@dataclass(frozen=True, slots=True)
class Segment:
    """One state from `start_ns` to `end_ns`, both from the start of the run."""

    state: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Mark:
    """One instant worth a tick, with its text."""

    kind: str
    t_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the picture. `outcome` is the client's one outcome (`unknown` without a `done`), or the last state of a
    service. `left_out` counts what was too small, or too much, to draw."""

    name: str
    outcome: str
    segments: list[Segment]
    marks: list[Mark]
    left_out: int = 0


@dataclass(slots=True)
class _Pen:
    """Draws one lane while the records go by."""

    name: str
    state: str = ""
    since_ns: int = 0
    outcome: str = "unknown"
    segments: list[Segment] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    left_out: int = 0

    def enter(self, state: str, t_ns: int) -> None:
        if self.state and t_ns > self.since_ns:
            self.segments.append(Segment(self.state, self.since_ns, t_ns))
        self.state, self.since_ns = state, t_ns

    def mark(self, kind: str, t_ns: int, text: str) -> None:
        if len(self.marks) < _MARKS_PER_LANE:
            self.marks.append(Mark(kind, t_ns, text))
        else:
            self.left_out += 1

    def lane(self, end_ns: int) -> Lane:
        self.enter("", end_ns)
        whole = _merged(self.segments, end_ns // 4000)
        left_out = self.left_out + max(0, len(whole) - _SEGMENTS_PER_LANE)
        return Lane(self.name, self.outcome, whole[:_SEGMENTS_PER_LANE], self.marks, left_out)


def _merged(segments: list[Segment], least_ns: int) -> list[Segment]:
    """Grow a segment over what follows it until it is wide enough to be seen; a refused attempt takes microseconds."""
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if last and (segment.state == last.state or segment.end_ns - segment.start_ns < least_ns):
            merged[-1] = Segment(last.state, last.start_ns, segment.end_ns)
        elif last and last.end_ns - last.start_ns < least_ns:
            merged[-1] = Segment(segment.state, last.start_ns, segment.end_ns)
        else:
            merged.append(segment)
    return merged


def client_lanes(records: Iterable[Record], names: Sequence[str], zero_ns: int, end_ns: int) -> list[Lane]:
    """A lane for each of these clients, in this order. `end_ns` counts from `zero_ns`."""
    pens = {name: _Pen(name) for name in names}
    for record in records:
        pen = pens.get(record.client or "")
        if pen is None or record.event in _SERVER_ONLY:
            continue
        if record.writer == "program":
            _draw_client(pen, record, record.t_ns - zero_ns)
        elif record.event in PROGRAM_STATES:  # only the agent of a client program names a client
            _draw_program(pen, record, PROGRAM_STATES, max(0, record.t_ns - zero_ns))
    return [pen.lane(end_ns) for pen in pens.values()]


_SERVER_ONLY = frozenset({Event.ACCEPTED, Event.CLIENT_LOST})


def _draw_client(pen: _Pen, record: Record, t_ns: int) -> None:
    if record.event in CLIENT_STATES:
        pen.enter(CLIENT_STATES[Event(record.event)], t_ns)
    elif record.event == Event.CLOSED and pen.state != "lost":
        pen.enter("ended", t_ns)
    elif record.event == Event.DONE:
        pen.outcome = visible(record.fields.get("outcome", "unknown"), 40)
        pen.enter("", t_ns)
        pen.mark("done", t_ns, f"done: {pen.outcome}")
    if record.event in _MARKED:
        pen.mark(record.event, t_ns, f"{record.event}: {phrase(record)}")


def service_lanes(records: Iterable[Record], names: Sequence[str], zero_ns: int, end_ns: int) -> list[Lane]:
    """A lane for each of these services' programs, in this order."""
    pens = {name: _Pen(name, outcome="absent") for name in names}
    for record in records:
        pen = pens.get(record.host)
        if pen is None or record.client is not None or record.event not in SERVICE_STATES:
            continue
        _draw_program(pen, record, SERVICE_STATES, max(0, record.t_ns - zero_ns))
    return [pen.lane(end_ns) for pen in pens.values()]


def _draw_program(pen: _Pen, record: Record, states: Mapping[Event, str], t_ns: int) -> None:
    state = states[Event(record.event)]
    if state != pen.state and t_ns >= pen.since_ns:
        pen.enter(state, t_ns)
        pen.outcome = state
    if record.event in _MARKED:
        pen.mark(record.event, t_ns, f"{record.event}: {phrase(record)}")


def packed(lane: Lane) -> list[Any]:
    """The lane as compact JSON values, instants in microseconds."""
    segments = [[s.state, s.start_ns // 1000, s.end_ns // 1000] for s in lane.segments]
    marks = [[m.kind, m.t_ns // 1000, m.text] for m in lane.marks]
    return [visible(lane.name, 80), lane.outcome, segments, marks]
