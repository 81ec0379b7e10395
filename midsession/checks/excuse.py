"""Whether the hosts stood still while something went wrong: what a stall can explain, nobody is blamed for.

A stall of the fleet makes clients late, and one of the conductor makes steps late: clients may then run out of attempts
because their server was started again too late. So a stall counts for as long as the trial lasted that went wrong, and
only where it is a quarter of that time or more.
"""

from __future__ import annotations

from midsession.core.history import History
from midsession.core.record import Event, Record

SHARE = 4
"""One in so many: the part of a time for which the hosts stand still at least where that explains anything."""

_CAUSES = frozenset({Event.LOST, Event.GAVE_UP, Event.PROTOCOL_ERROR})
_TROUBLES = _CAUSES | {Event.ERROR, Event.RECONNECTING}
_WELL = frozenset({Event.CONNECTED, Event.RECEIVED, Event.REPLIED})


def stalled_ns(history: History, from_ns: int, to_ns: int) -> int:
    """How long the hosts stood still between two instants, where that is a quarter of the time or more; else 0."""
    stalled = history.stalled_ns(from_ns, to_ns)
    return stalled if stalled * SHARE >= to_ns - from_ns else 0


def of_record(history: History, record: Record, since_ns: int = 0) -> int:
    """The stall that explains what a client met, in ns; 0: none does.

    An `expect` that nothing met was on trial for its `within`, a client that gave up (or an attempt in vain) since it
    had lost its connection, and a connection that was lost since anything was last heard on it, but for what was before
    the instant `since_ns`.
    """
    if not history.stalls or record.client is None:
        return 0
    if record.event == Event.DONE:
        return 0 if record.fields.get("outcome") == "ok" else _of_cause(history, record, since_ns)
    if record.event == Event.PROTOCOL_ERROR:
        within_ns = round((record.fields.get("within_s") or 0) * 1e9)
        heard = record.fields.get("got") is not None
        return 0 if heard or not within_ns else stalled_ns(history, record.t_ns - within_ns, record.t_ns)
    if record.event not in _TROUBLES:
        return 0
    return stalled_ns(history, _trial_began_ns(history, record, since_ns), record.t_ns)


def of_end(history: History, client: str, since_ns: int = 0) -> int:
    """The stall that explains why a client's session ended badly, in ns; 0: none does, or it did not end so."""
    done = history.events(Event.DONE).client(client).first
    return of_record(history, done, since_ns) if done else 0


def of_what_never_came(history: History, client: str, origin_ns: int) -> int:
    """The stall that explains what a client did not meet from an instant to its end, in ns; 0: none does."""
    return stalled_ns(history, origin_ns, end_ns(history, client)) or of_end(history, client, origin_ns)


def end_ns(history: History, client: str) -> int:
    """When a client's session was over; else the end of the run."""
    done = history.events(Event.DONE).client(client).first
    return done.t_ns if done else history.ended_ns


def _of_cause(history: History, done: Record, since_ns: int) -> int:
    cause = next((r for r in _before(history, done) if r.event in _CAUSES), None)
    return of_record(history, cause, since_ns) if cause else 0


def _trial_began_ns(history: History, record: Record, since_ns: int) -> int:
    """Attempts that began before the instant are one trial with those after it."""
    made = {c.number for c in history.connections.get(str(record.client), ()) if c.opened_ns is not None}
    began_ns = record.t_ns
    for r in _before(history, record):
        if r.event == Event.LOST and r.connection in made:
            return r.t_ns
        if r.event in _WELL:
            return max(r.t_ns, since_ns)
        began_ns = r.t_ns
    return began_ns


def _before(history: History, record: Record) -> list[Record]:
    """What the client had written before a record of its own, the latest first."""
    return [r for r in history.of_client(str(record.client)) if r.t_ns <= record.t_ns and r.seq < record.seq][::-1]
