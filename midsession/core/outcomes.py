"""What became of each client: its one outcome, and its connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from midsession.core.contract import UNSUPPORTED
from midsession.core.logs import Gap
from midsession.core.record import Event, Record

FOREVER = 2**63 - 1
"""An instant after all others."""

Word = Literal["ok", "fail", "info"]

WORDS: dict[str, Word] = {
    "ok": "ok",
    "lost": "fail",
    "gave_up": "fail",
    "protocol_error": "fail",
    "stopped": "info",
}
"""`done.outcome` → the outcome. A session that was stopped from outside had no end of its own: nobody knows it."""

ON_ATTEMPTS = frozenset({"refused", "unreachable", "name"})
"""The ways of a `lost` that only an attempt to connect can meet."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a client ended: `ok`, `fail`, or `info` (nobody knows), and why.

    `known_until_ns`: up to there the logs tell all about the client, so that absence can be believed; FOREVER once
    its session was over by itself. `by`: the step of the timeline that ended the program that played it.
    """

    client: str
    word: Word
    reason: str
    known_until_ns: int
    by: str = ""


def outcome_of(
    client: str,
    records: Sequence[Record],
    exited: Record | None,
    gaps: Sequence[Gap],
    known_until_ns: int = 0,
    gone: str = "",
) -> Outcome:
    """The one outcome of a client.

    `records` are all of the client's; `exited` is the agent's record of its fleet's death, `gaps` the files of its
    fleet that are not whole, `known_until_ns` the last instant of the file that it is in; `gone` is the step of which
    the conductor said that it ended the client's fleet.
    """
    by = gone or str(exited.fields.get("by") or "") if exited else gone
    done = next((r for r in records if r.event == Event.DONE), None)
    if done is not None:
        said = str(done.fields.get("outcome"))
        word = WORDS.get(said, "info")
        if word == "info":
            return Outcome(client, word, f"{said} by {by}" if by else said, done.t_ns, by)
        return Outcome(client, word, said, FOREVER)
    return Outcome(client, "info", _why_unknown(records, exited, gaps, by), known_until_ns, "" if gaps else by)


UNSUPPORTED_REASON = "unsupported"


def outcome_of_program(client: str, records: Sequence[Record], gaps: Sequence[Gap], ended_ns: int) -> Outcome:
    """The one outcome of a client that is a program on a host of its own: how the program exited, for its first exit.

    `records` are what its agent wrote of it, `gaps` its agent's files that are not whole. An exit after the end of the
    run (`ended_ns`) is the harness's doing.
    """
    exited = next((r for r in records if r.event == Event.EXITED), None)
    if gaps:
        return Outcome(client, "info", f"its agent's log is not whole: {gaps[0]}", records[-1].t_ns if records else 0)
    if exited is None or exited.t_ns > ended_ns:
        started = any(r.event == Event.STARTED for r in records)
        return Outcome(client, "info", "it still ran when the run ended" if started else "it was never begun", ended_ns)
    if by := str(exited.fields.get("by") or ""):
        return Outcome(client, "info", f"ended by {by}", exited.t_ns, by)
    signal, code = exited.fields.get("signal"), exited.fields.get("code")
    if maybe := exited.fields.get("maybe"):
        return Outcome(client, "info", f"exited with code {code}, perhaps by {maybe}", exited.t_ns)
    if code == UNSUPPORTED:
        return Outcome(client, "info", f"{UNSUPPORTED_REASON}: exited with code {code}", exited.t_ns)
    how = f"killed by SIG{signal}" if signal else f"exited with code {code}"
    return Outcome(client, "ok" if code == 0 else "fail", how, FOREVER)


def _why_unknown(records: Sequence[Record], exited: Record | None, gaps: Sequence[Gap], by: str) -> str:
    if by and not gaps:
        return f"its session was under way when {by} ended its program"
    if not records:
        return "no log has a record of it"
    host = records[0].host
    if gaps:
        return f"its fleet's log is not whole: {gaps[0]}"
    if exited is None:
        return f"its fleet on {host} has left no end of its session"
    signal, code = exited.fields.get("signal"), exited.fields.get("code")
    how = f"was killed (SIG{signal})" if signal else f"exited with code {code}"
    return f"its fleet on {host} {how} before the session was over"


class Connection(msgspec.Struct, frozen=True):
    """One connection of a client: when it was made (None: never), and when it was lost or closed (FOREVER: not seen).

    `how` is the `lost` record's word, None when it was not lost. `to` is where it was to go, `service:port`;
    `ending_ns` is when its own client began to end it (FOREVER: never).
    """

    number: int
    began_ns: int
    opened_ns: int | None
    ended_ns: int
    how: str | None
    to: str = ""
    ending_ns: int = FOREVER

    def is_open(self, t_ns: int) -> bool:
        """Whether it was open at that instant."""
        return self.opened_ns is not None and self.opened_ns <= t_ns < self.ended_ns

    def is_open_after(self, t_ns: int) -> bool:
        """Whether it was open at any instant from that one on."""
        return self.opened_ns is not None and t_ns < self.ended_ns


def connections_of(records: Sequence[Record]) -> list[Connection]:
    """A client's connections, from its records."""
    by_number: dict[int, list[Record]] = {}
    for r in records:
        if r.connection is not None and r.event in _MILESTONES:
            by_number.setdefault(r.connection, []).append(r)
    return [_connection(number, by_number[number]) for number in sorted(by_number)]


_MILESTONES = frozenset({Event.CONNECTING, Event.CONNECTED, Event.LOST, Event.CLOSED})


def _connection(number: int, records: list[Record]) -> Connection:
    opened = next((r.t_ns for r in records if r.event == Event.CONNECTED), None)
    ended = next((r.t_ns for r in records if r.event in (Event.LOST, Event.CLOSED)), FOREVER)
    how = next((r.fields.get("how") for r in records if r.event == Event.LOST), None)
    to = str(records[0].fields.get("to", ""))
    closed = next((r for r in records if r.event == Event.CLOSED), None)
    ending = int(closed.fields.get("ending_ns") or FOREVER) if closed else FOREVER
    return Connection(number, records[0].t_ns, opened, ended, how, to, ending)
