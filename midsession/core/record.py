"""Records: what happened, as lines that survive a SIGKILL and cannot be altered unseen.

A writer process owns one file. The file is a header line, one line per record, and a trailer line; each line is one
JSON object and is written by one `write(2)`. The last key of every line is `crc`: the CRC-32 of that line's bytes
before `,"crc"`, chained over all lines before it (zlib.crc32's second argument). So a line that was dropped, doubled,
moved or altered breaks the chain, and a file without a trailer is known to be cut.

This module knows neither files nor clocks: `Log` is given a `write` and a `clock`.
"""

from __future__ import annotations

import itertools
import operator
import re
import sys
import zlib
from collections.abc import Callable, Iterator
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


class _HeaderLine(msgspec.Struct, frozen=True):
    header: Header
    crc: str


class _TrailerLine(msgspec.Struct, frozen=True):
    trailer: Trailer
    crc: str


def clock_domain(boot_id: str, time_namespace: str) -> str:
    """Name a clock domain from /proc/sys/kernel/random/boot_id and the link target of /proc/self/ns/time."""
    return f"{boot_id.strip()}/{time_namespace}"


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

    __slots__ = ("_clock", "_crc", "_encode_into", "_held", "_line", "_seq", "_write")

    def __init__(self, header: Header, write: Callable[[bytes], int], clock: Callable[[], int]) -> None:
        self._write, self._clock = write, clock
        self._encode_into = msgspec.json.Encoder().encode_into
        self._line = bytearray(1024)  # where every line is made; one buffer for all of them is measurably faster
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
        """The line of a value, with the chain carried on. Raises on what is no JSON, and then nothing has changed."""
        line = self._line
        self._encode_into(value, line)
        del line[-1]
        self._crc = crc = zlib.crc32(line, self._crc)
        line += b',"crc":"%08x"}\n' % crc
        return bytes(line)

    def _put(self, line: bytes) -> None:
        if self._held:
            line, self._held = self._held + line, b""
        self._write_whole(line)

    def _write_whole(self, lines: bytes) -> None:
        if self._write(lines) != len(lines):
            raise OSError(_SHORT_WRITE)


class LogState(StrEnum):
    """What a file proves about itself."""

    COMPLETE = "complete"  # header, unbroken chain, trailer with the right count
    CUT = "cut"  # header and unbroken chain, but no trailer: the writer was killed, or still writes
    CORRUPT = "corrupt"  # anything else: nothing after the first broken line is believed


class LogFile(msgspec.Struct, frozen=True, kw_only=True):
    """A writer's file as read back: the records before the first break, and what the file proves.

    `whole_bytes` is the length of the part that is believed, `size_bytes` that of the whole file (more, when a line is
    torn or broken); `why` says what broke, for people.
    """

    header: Header | None
    records: list[Record]
    state: LogState
    whole_bytes: int
    size_bytes: int
    why: str = ""


_TAIL_BYTES = len(b',"crc":"00000000"}')
_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')
_decode_header = msgspec.json.Decoder(_HeaderLine).decode
_decode_trailer = msgspec.json.Decoder(_TrailerLine).decode


class _RecordLine(msgspec.Struct, gc=False):
    event: str
    seq: int
    t_ns: int
    client: str | None = None
    connection: int | None = None
    fields: dict[str, Any] = {}


_decode_record = msgspec.json.Decoder(_RecordLine).decode
_decode_records = msgspec.json.Decoder(_RecordLine).decode_lines


def decode_line(line: bytes, host: str, writer: str, incarnation: int) -> Record:
    """Decode one record line (with or without its newline) without checking its chain: for live streams."""
    r = _decode_record(line)
    return Record(r.event, r.seq, r.t_ns, r.client, r.connection, r.fields, host, writer, incarnation)


def read_log(data: bytes) -> LogFile:
    """Read a writer's whole file and say what it proves; never raises on hostile bytes."""
    return _read_in_bulk(data) or _Reader(data).read()


def _read_in_bulk(data: bytes) -> LogFile | None:
    """What `_Reader` says of a file in which every whole line is in order, in a fraction of its time; else None."""
    end = data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")[:-1]
    crc = 0
    for line in lines:
        crc = zlib.crc32(line[:-_TAIL_BYTES], crc)
        if line[-_TAIL_BYTES:] != b',"crc":"%08x"}' % crc:
            return None
    if not lines:
        return None
    first, last, count = lines[0], lines[-1], len(lines)
    del lines  # a second copy of the file, no longer needed while the records come into being
    try:
        return _decode_in_bulk(data, first, last, count, end)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decode_in_bulk(data: bytes, first: bytes, last: bytes, lines: int, end: int) -> LogFile | None:
    header = _decode_header(first).header
    has_trailer = last.startswith(b'{"trailer":')
    count = _decode_trailer(last).trailer.count if has_trailer else lines - 1
    raw = _decode_records(data[len(first) + 1 : end - (len(last) + 1 if has_trailer else 0)])
    in_order = all(map(operator.eq, (r.seq for r in raw), itertools.count(1)))
    torn = len(data) - end
    if not in_order or not len(raw) == count == lines - 1 - has_trailer or (has_trailer and torn):
        return None
    why = "" if has_trailer else f"no trailer; {torn} bytes of a torn line" if torn else "no trailer"
    return LogFile(
        header=header,
        records=_records(raw, header),
        state=LogState.COMPLETE if has_trailer else LogState.CUT,
        whole_bytes=end,
        size_bytes=len(data),
        why=why,
    )


def _records(raw: list[_RecordLine], header: Header) -> list[Record]:
    """The records of a file; equal names are one string, which saves a hundred bytes a record."""
    known: dict[str | None, str | None] = {}
    same = known.setdefault
    host, writer, incarnation = header.host, header.writer, header.incarnation
    return [
        Record(
            sys.intern(r.event),
            r.seq,
            r.t_ns,
            same(r.client, r.client),
            r.connection,
            r.fields,
            host,
            writer,
            incarnation,
        )
        for r in raw
    ]


class _Broken(Exception):
    pass


class _Reader:
    """One pass over a file's lines, with the chain carried along."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._crc = 0
        self._at = 0
        self._header: Header | None = None
        self._records: list[Record] = []

    def read(self) -> LogFile:
        try:
            state, why = self._read()
        except (_Broken, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as broken:
            state, why = LogState.CORRUPT, f"at byte {self._at}: {broken}"
        return LogFile(
            header=self._header,
            records=self._records,
            state=state,
            whole_bytes=self._at,
            size_bytes=len(self._data),
            why=why,
        )

    def _read(self) -> tuple[LogState, str]:
        lines = self._lines()
        first = next(lines, None)
        if first is None:
            return LogState.CUT, "no whole header line"
        self._header = header = _decode_header(first).header
        self._take(first)
        for line in lines:
            if line.startswith(b'{"trailer":'):
                return self._trailer(line)
            self._record(line, header)
        torn = len(self._data) - self._at
        return LogState.CUT, f"no trailer; {torn} bytes of a torn line" if torn else "no trailer"

    def _lines(self) -> Iterator[bytes]:
        while (end := self._data.find(b"\n", self._at)) >= 0:
            yield self._checked(self._data[self._at : end])

    def _checked(self, line: bytes) -> bytes:
        tail = _TAIL.search(line)
        if tail is None:
            raise _Broken("a line has no checksum")
        self._crc = zlib.crc32(line[: tail.start()], self._crc)
        if b"%08x" % self._crc != tail[1]:
            raise _Broken("a line was altered, lost, doubled or moved (checksum chain)")
        return line

    def _take(self, line: bytes) -> None:
        self._at += len(line) + 1

    def _record(self, line: bytes, header: Header) -> None:
        record = decode_line(line, header.host, header.writer, header.incarnation)
        if record.seq != len(self._records) + 1:
            raise _Broken(f"record {record.seq} where {len(self._records) + 1} was due")
        self._records.append(record)
        self._take(line)

    def _trailer(self, line: bytes) -> tuple[LogState, str]:
        count = _decode_trailer(line).trailer.count
        if count != len(self._records):
            raise _Broken(f"the trailer counts {count} records, the file holds {len(self._records)}")
        self._take(line)
        if self._at != len(self._data):
            raise _Broken("something stands after the trailer")
        return LogState.COMPLETE, ""
