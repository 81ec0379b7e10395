"""Event files read back: what a file proves about itself, and its records, decoded only as far as they are asked for.

A file in which all is in order is proved by one checksum over all of it, and its records stay bytes until somebody
wants them (`Lines`). One that is not is read line by line, up to its first broken line (`_Reader`).
"""

from __future__ import annotations

import itertools
import operator
import re
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import overload

import msgspec

from midsession.core.record import Header, Record, RecordLine, Trailer, decode_line
from midsession.errors import HarnessError


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
    records: Sequence[Record]
    state: LogState
    whole_bytes: int
    size_bytes: int
    why: str = ""

    def of_event(self, event: str) -> Sequence[Record]:
        """Its records of one event."""
        if isinstance(self.records, Lines):
            return self.records.of_event(event)
        return [r for r in self.records if r.event == event]

    def instants(self, records: Sequence[Record]) -> Iterable[int]:
        """Where some of its records (in their order) stand in time: an instant, but never before one above it.

        So an instant that was stamped late cannot break the writer's own order.
        """
        if isinstance(self.records, Lines):
            return self.records.instants(records)
        standing = list(itertools.accumulate((r.t_ns for r in self.records), max))
        return standing if records is self.records else [standing[r.seq - 1] for r in records]


def read_log(data: bytes) -> LogFile:
    """Read a writer's whole file and say what it proves; never raises on hostile bytes."""
    return _read_in_bulk(data) or _Reader(data).read()


_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')


class _HeaderLine(msgspec.Struct, frozen=True):
    header: Header
    crc: str


class _TrailerLine(msgspec.Struct, frozen=True):
    trailer: Trailer
    crc: str


class _Stamp(msgspec.Struct, gc=False):
    """What must be known of each record to know that the file is in order; all else stays bytes."""

    seq: int
    t_ns: int


_decode_header = msgspec.json.Decoder(_HeaderLine).decode
_decode_trailer = msgspec.json.Decoder(_TrailerLine).decode
_decode_lines = msgspec.json.Decoder(RecordLine).decode_lines
_decode_stamps = msgspec.json.Decoder(_Stamp).decode_lines


# --- a file in order -----------------------------------------------------------------------------------------------


class Lines(Sequence[Record]):
    """The records of a file that is in order. What was asked for as a whole is kept; what was asked for by its event is
    found among the bytes, and decoded alone.

    They are in the `span` of the file's `data`, each behind a line feed.
    Raises HarnessError for a record that has its number, its instant and a right checksum, and still is none.
    """

    __slots__ = ("_data", "_header", "_instants", "_plain", "_records", "_span")

    def __init__(self, data: bytes, span: tuple[int, int], header: Header, stamps: Sequence[_Stamp]) -> None:
        self._data, self._span, self._header = data, span, header
        self._plain = data.count(_PLAIN, *span) == len(stamps)
        instants = array("q", map(operator.attrgetter("t_ns"), stamps))
        in_order = all(map(operator.le, instants, itertools.islice(instants, 1, None)))
        self._instants = instants if in_order else array("q", itertools.accumulate(instants, max))
        self._records: list[Record] | None = None

    def of_event(self, event: str) -> Sequence[Record]:
        """Those of one event."""
        if self._records is None and self._plain:
            begins = b'\n{"event":"%b",' % event.encode()
            if self._data.find(begins, *self._span) < 0:  # much faster than an expression that finds nothing
                return []
            found = re.compile(b"%b.*" % re.escape(begins)).findall(self._data, *self._span)
            return self._decoded(b"".join(found))
        return [r for r in self._all() if r.event == event]

    def instants(self, records: Sequence[Record]) -> Iterable[int]:
        """Where these stand in time, see `LogFile.instants`."""
        return self._instants if records is self else [self._instants[r.seq - 1] for r in records]

    def __len__(self) -> int:
        return len(self._instants)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares like a list, so it hashes like one

    def _all(self) -> list[Record]:
        if self._records is None:
            self._records = self._decoded(memoryview(self._data)[slice(*self._span)])
        return self._records

    def _decoded(self, lines: bytes | memoryview) -> list[Record]:
        try:
            return _records(lines, self._header)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Its checksum is right, so no accident has made it, and no writer of ours.
            of = f"{self._header.host}'s {self._header.writer}"
            raise HarnessError(f"a record of {of} cannot be read: {error}", "unreadable-record") from error


_PLAIN = b'\n{"event":"'
"""How our own writers begin a record's line."""


def _read_in_bulk(data: bytes) -> LogFile | None:
    """What `_Reader` says of a file in which every whole line is in order, in a fraction of its time; else None."""
    end = data.rfind(b"\n") + 1
    last_at = data.rfind(b"\n", 0, max(0, end - 1)) + 1
    tail = _TAIL.search(data[last_at : end - 1]) if end else None
    if tail is None or b"%08x" % zlib.crc32(memoryview(data)[: last_at + tail.start()]) != tail[1]:
        return None
    try:
        return _decode_in_bulk(data, last_at, end)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None


def _decode_in_bulk(data: bytes, last_at: int, end: int) -> LogFile | None:
    begin = data.index(b"\n")
    header = _decode_header(data[:begin]).header
    last = data[last_at : end - 1]
    trailer = _decode_trailer(last).trailer if last.startswith(b'{"trailer":') else None
    span = begin, (last_at if trailer else end) - 1
    stamps = _decode_stamps(memoryview(data)[slice(*span)])
    in_order = all(map(operator.eq, map(operator.attrgetter("seq"), stamps), itertools.count(1)))
    lines = data.count(b"\n", *span)
    counted = lines == len(stamps) == (trailer.count if trailer else lines)
    torn = len(data) - end
    if not in_order or not counted or (trailer and torn):
        return None
    return LogFile(
        header=header,
        records=Lines(data, span, header, stamps),
        state=LogState.COMPLETE if trailer else LogState.CUT,
        whole_bytes=end,
        size_bytes=len(data),
        why="" if trailer else _why_cut(torn),
    )


def _why_cut(torn: int) -> str:
    return f"no trailer; {torn} bytes of a torn line" if torn else "no trailer"


def _records(lines: bytes | memoryview, header: Header) -> list[Record]:
    """Records of a file; equal names are one string, which saves a hundred bytes a record."""
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
        for r in _decode_lines(lines)
    ]


# --- any file ------------------------------------------------------------------------------------------------------


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
        return LogState.CUT, _why_cut(len(self._data) - self._at)

    def _lines(self) -> Iterator[bytes]:
        while (end := self._data.find(b"\n", self._at)) >= 0:
            yield self._checked(self._data[self._at : end])

    def _checked(self, line: bytes) -> bytes:
        tail = _TAIL.search(line)
        if tail is None:
            raise _Broken("a line has no checksum")
        crc = zlib.crc32(line[: tail.start()], self._crc)
        if b"%08x" % crc != tail[1]:
            raise _Broken("a line was altered, lost, doubled or moved (checksum chain)")
        self._crc = zlib.crc32(line[tail.start() :] + b"\n", crc)
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
