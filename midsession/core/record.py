"""Records: what happened, as lines that survive a SIGKILL and cannot be altered unseen.

A writer process owns one file. The file is a header line, one line per record, and a trailer line; each line is one
JSON object and is written by one `write(2)`. The last key of every line is `crc`: the CRC-32 of everything in the file
before that line's `,"crc"`. So a line that was dropped, doubled, moved or altered makes every later checksum wrong, the
last one proves the whole file, and a file without a trailer is known to be cut. `core/logfile.py` reads them.

This module knows neither files nor clocks: `Log` is given a `write` and a `clock`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec


class Event(StrEnum):
    """Every kind of record there is. Node's own words where Node has one."""

    # A client's session. Every attempt to connect is a connection, and ends with exactly one `closed`.
    CONNECTING = "connecting"
    CONNECTED = "connected"
    SENT = "sent"  # intent: written before the bytes go to the kernel
    RECEIVED = "received"
    REPLIED = "replied"  # an `expect` that followed a `send` was met
    END = "end"  # the peer's FIN
    CLOSED = "closed"
    ERROR = "error"
    LOST = "lost"
    RECONNECTING = "reconnecting"
    GAVE_UP = "gave_up"
    MARK = "mark"
    DONE = "done"  # the session's one outcome
    PROTOCOL_ERROR = "protocol_error"
    # The reference server, besides `received`, `sent`, `end`, `error` and `closed`.
    LISTENING = "listening"
    ACCEPTED = "accepted"
    CLIENT_LOST = "client_lost"
    # Programs, written by the agent that supervises them.
    STARTED = "started"
    EXITED = "exited"
    FROZEN = "frozen"
    THAWED = "thawed"
    LINE = "line"
    # Faults: `injected` by the agent when the call has returned, `effective` by the conductor when the witness is seen.
    INJECTED = "injected"
    WITNESSED = "witnessed"  # the agent saw the fault at work: a packet met its rule, a link went down, sockets died
    EFFECTIVE = "effective"
    HEALED = "healed"
    STALLED = "stalled"  # by clients, agents and the conductor: its writer was not run in time (`core/pulse.py`)
    # The conductor's own.
    BEGUN = "begun"
    TRIGGERED = "triggered"  # a step of the timeline fired: intent, written before anything is asked of an agent
    NOTE = "note"
    ENDED = "ended"


CLIENT_ENDS = (Event.DONE, Event.EXITED)
"""What ends a client: its session is done, or the program that it is has exited (only such an exit bears a client)."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a writer's file.

    `clock` names the clock domain (boot id and time namespace): instants of two files may be compared only when their
    domains are equal. `incarnation` counts the starts of this writer on this host, from 1.
    """

    run: str
    host: str
    writer: str
    incarnation: int
    pid: int
    clock: str
    seed: int
    plan: str
    version: int = 1


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line of a file that was closed in order: how many records stand between header and trailer."""

    count: int


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One thing that happened. (Records hold no cycles, so the garbage collector need not walk through a million.)

    `seq` counts the records of one file from 1. `t_ns` is CLOCK_MONOTONIC in nanoseconds. `client` is
    `<group>-<number>`, `connection` counts a client's (or a server incarnation's) connections from 1; both are absent
    where they have no meaning. `fields` depend on the event, see `docs/records.md`. `host`, `writer` and `incarnation`
    are not on the line: they come from the file's header.
    """

    event: str
    seq: int
    t_ns: int
    client: str | None = None
    connection: int | None = None
    fields: dict[str, Any] = {}
    host: str = ""
    writer: str = ""
    incarnation: int = 0

    @property
    def group(self) -> str | None:
        """The client group, or None for a record that is no client's."""
        return self.client.rpartition("-")[0] if self.client else None


def clock_domain(boot_id: str, time_namespace: str) -> str:
    """Name a clock domain from /proc/sys/kernel/random/boot_id and the link target of /proc/self/ns/time."""
    return f"{boot_id.strip()}/{time_namespace}"


def told_header(told: str, pid: int) -> Header:
    """The header of a program's own log: what the harness told it (`MIDSESSION_HEADER`, see `Start`), and its pid.

    Raises msgspec.MsgspecError for what is no header.
    """
    fields = msgspec.json.decode(told, type=dict[str, Any])
    return msgspec.convert({**fields, "pid": pid}, Header)


def event_file_name(host: str, writer: str, incarnation: int) -> str:
    """The name of a writer's file in `events/`."""
    return f"{host}.{writer}.{incarnation}.jsonl"


_SHORT_WRITE = "short write to the event log: a line was taken in part"


class Log:
    """Append records to one file: one `write` of one whole line each, nothing held back.

    A record that is no JSON (a lone surrogate, an object of no known type) raises UnicodeEncodeError or TypeError, and
    the log goes on as if it had never been asked.

    `write` takes the line and returns how many bytes it took (as `os.write` does on a file opened with O_APPEND).
    `clock` returns CLOCK_MONOTONIC in nanoseconds. The header is written at once.

    A writer that has several records for one instant of its own may `add` each and `flush` them in one write: nothing
    is acknowledged before `flush` returns, so it must come before any effect that the records announce and before the
    writer waits for anything.

    Raises OSError from `write` as it is, and OSError(ENOSPC-like, "short write") when a line was taken in part: a log
    that cannot be written is an error of the run, never a shorter log.
    """

    __slots__ = ("_clock", "_crc", "_encode_into", "_held", "_line", "_seq", "_tail_bytes", "_write")

    def __init__(self, header: Header, write: Callable[[bytes], int], clock: Callable[[], int]) -> None:
        self._write, self._clock = write, clock
        self._encode_into = msgspec.json.Encoder().encode_into
        self._line = bytearray(1024)  # where every line is made; one buffer for all of them is measurably faster
        self._tail_bytes = 0  # the buffer begins with the tail of the line before: the checksum goes over it too
        self._seq = 0
        self._crc = 0
        self._held = b""
        self._put(self._signed({"header": header}))

    def append(
        self,
        event: str,
        client: str | None = None,
        connection: int | None = None,
        fields: dict[str, Any] | None = None,
        t_ns: int | None = None,
    ) -> Record:
        """Write one record, stamped now unless `t_ns` is given, and return it once the write has returned."""
        instant = self._clock() if t_ns is None else t_ns
        record = Record(event, self._seq + 1, instant, client, connection, fields or {})
        line = self._signed(record)
        self._seq += 1
        if self._held:
            line, self._held = self._held + line, b""
        if self._write(line) != len(line):  # `_put`, written out: this is the hot path
            raise OSError(_SHORT_WRITE)
        return record

    def add(self, event: str, client: str | None, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Hold one record back until `flush` (or until the next record that is not held back)."""
        self._held += self._signed(Record(event, self._seq + 1, t_ns, client, connection, fields))
        self._seq += 1

    def flush(self) -> None:
        """Write what is held back, in one write; the records are durable once this returns."""
        if self._held:
            held, self._held = self._held, b""
            self._write_whole(held)

    def close(self) -> None:
        """Write the trailer. The file is complete from here on; the caller owns and closes the descriptor."""
        self._put(self._signed({"trailer": Trailer(count=self._seq)}))

    def _signed(self, value: Record | dict[str, Any]) -> bytes:
        """The line of a value, the checksum carried on. Raises on what is no JSON, and then nothing has changed."""
        line, begin = self._line, self._tail_bytes
        self._encode_into(value, line, begin)
        del line[-1]
        self._crc = crc = zlib.crc32(line, self._crc)
        tail = b',"crc":"%08x"}\n' % crc
        signed = bytes(line[begin:]) + tail
        line[:begin] = tail
        self._tail_bytes = len(tail)
        return signed

    def _put(self, line: bytes) -> None:
        if self._held:
            line, self._held = self._held + line, b""
        self._write_whole(line)

    def _write_whole(self, lines: bytes) -> None:
        if self._write(lines) != len(lines):
            raise OSError(_SHORT_WRITE)


class RecordLine(msgspec.Struct, gc=False):
    """A record as it stands in a line of its writer's file; its header says the rest."""

    event: str
    seq: int
    t_ns: int
    client: str | None = None
    connection: int | None = None
    fields: dict[str, Any] = {}


_decode_record = msgspec.json.Decoder(RecordLine).decode


def decode_line(line: bytes, host: str, writer: str, incarnation: int) -> Record:
    """Decode one record line (with or without its newline) without checking its chain: for live streams."""
    r = _decode_record(line)
    return Record(r.event, r.seq, r.t_ns, r.client, r.connection, r.fields, host, writer, incarnation)
