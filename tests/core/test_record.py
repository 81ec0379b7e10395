"""The event file: nothing acknowledged is lost to a SIGKILL, and nothing can be altered unseen."""

from __future__ import annotations

import mmap
import os
import random
import signal
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsession.core.logfile import LogFile, LogState, read_log
from midsession.core.record import Event, Header, Log, Record, decode_line
from midsession.errors import HarnessError
from tests.waiting import eventually

HEADER = Header(run="r", host="server", writer="program", incarnation=2, pid=7, clock="boot/time", seed=1, plan="p")


class Disk:
    """A file in memory that takes what it is given, up to its room, like a file opened with O_APPEND."""

    def __init__(self, room_bytes: int = 1 << 40) -> None:
        self.data = bytearray()
        self.room_bytes = room_bytes
        self.writes = 0

    def write(self, line: bytes) -> int:
        self.writes += 1
        taken = line[: max(0, self.room_bytes - len(self.data))]
        self.data += taken
        return len(taken)


def _written(records: int, *, closed: bool = True) -> tuple[bytes, list[Record]]:
    disk = Disk()
    log = Log(HEADER, disk.write, iter(range(1, 10_000)).__next__)
    for number in range(records):
        log.append(
            Event.RECEIVED, f"talkers-{number % 5}", number % 3 or None, {"bytes": number, "text": "👋" * number}
        )
    if closed:
        log.close()
    data = bytes(disk.data)
    return data, read_log(data).records


# --- what is written is read -----------------------------------------------------------------------------------------

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_records = st.tuples(
    st.sampled_from(Event),
    st.none() | st.text(),
    st.none() | st.integers(1, 2**40),
    st.dictionaries(st.text(), _json, max_size=4),
    st.integers(0, 2**63 - 1),
)


@given(st.lists(_records, max_size=8))
def test_a_log_is_read_as_it_was_written(rows: list[tuple[Event, str | None, int | None, dict[str, Any], int]]) -> None:
    """Every record comes back with its fields, its place and its writer, whatever text is in it."""
    disk = Disk()
    log = Log(HEADER, disk.write, lambda: 0)
    for row in rows:
        log.append(*row)
    log.close()
    found = read_log(bytes(disk.data))
    assert found.state is LogState.COMPLETE
    assert found.header == HEADER
    assert found.whole_bytes == found.size_bytes == len(disk.data)
    assert found.records == [
        Record(str(event), seq, t_ns, client, connection, fields, "server", "program", 2)
        for seq, (event, client, connection, fields, t_ns) in enumerate(rows, 1)
    ]


def test_a_record_is_one_write_of_one_line() -> None:
    """Nothing is held back: after each `append` the line stands in the file, whole."""
    disk = Disk()
    log = Log(HEADER, disk.write, lambda: 5)
    for number in range(1, 4):
        record = log.append(Event.NOTE, fields={"text": "a\nb"})
        assert disk.writes == number + 1
        assert disk.data.count(b"\n") == number + 1
        line = bytes(disk.data).splitlines()[-1]
        assert decode_line(line, "", "", 0) == record == Record("note", number, 5, fields={"text": "a\nb"})


def test_records_of_one_instant_may_share_a_write() -> None:
    """What is added is not in the file before `flush`, and then all of it is, in its order, before what comes next."""
    disk = Disk()
    log = Log(HEADER, disk.write, lambda: 9)
    log.add(Event.SENT, "a-1", 1, {"n": 1}, 7)
    log.add(Event.SENT, "a-1", 1, {"n": 2}, 7)
    assert disk.writes == 1
    log.flush()
    log.flush()
    assert disk.writes == 2
    log.add(Event.SENT, "a-1", 1, {"n": 3}, 8)
    log.append(Event.SENT, "a-1", 1, {"n": 4})
    assert disk.writes == 3
    log.add(Event.SENT, "a-1", 1, {"n": 5}, 9)
    log.close()
    found = read_log(bytes(disk.data))
    assert found.state is LogState.COMPLETE
    assert [r.fields["n"] for r in found.records] == [1, 2, 3, 4, 5]


def test_the_crc_is_the_documented_one() -> None:
    """CRC-32 of all bytes before a line's `,"crc"`: anybody can check a file with three lines of code."""
    data, _ = _written(5)
    end = 0
    for line in data.splitlines(keepends=True):
        end += len(line)
        before, _, tail = data[:end].rpartition(b',"crc":"')
        assert tail == b'%08x"}\n' % zlib.crc32(before)
        assert msgspec.json.decode(line)
    assert end == len(data) > 500


def test_a_short_write_is_an_error() -> None:
    """A full disk is never a shorter log."""
    disk = Disk(room_bytes=400)
    log = Log(HEADER, disk.write, lambda: 0)
    with pytest.raises(OSError, match="short write"):
        log.append(Event.NOTE, fields={"text": "x" * 400})
    assert read_log(bytes(disk.data)).state is LogState.CUT


@pytest.mark.parametrize("fields", [{"text": "\ud83d"}, {"x": object()}])
def test_what_cannot_be_written_leaves_no_trace(fields: dict[str, Any]) -> None:
    """A record that is no JSON (a lone surrogate, an object) raises, and the log goes on as if it had not been."""
    disk = Disk()
    log = Log(HEADER, disk.write, lambda: 0)
    for write in (
        lambda: log.append(Event.NOTE, None, None, fields),
        lambda: log.add(Event.NOTE, None, None, fields, 0),
    ):
        with pytest.raises((UnicodeEncodeError, TypeError)):
            write()
        log.append(Event.NOTE)
    log.close()
    found = read_log(bytes(disk.data))
    assert (found.state, len(found.records)) == (LogState.COMPLETE, 2)


# --- nothing is altered unseen (T2) ----------------------------------------------------------------------------------


def _delete(lines: list[bytes], draw: random.Random) -> bytes:
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def _duplicate(lines: list[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]])


def _swap(lines: list[bytes], draw: random.Random) -> bytes:
    one, other = draw.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def _truncate(lines: list[bytes], draw: random.Random) -> bytes:
    data = b"".join(lines)
    return data[: draw.randrange(len(data))]


def _flip(lines: list[bytes], draw: random.Random) -> bytes:
    data = bytearray(b"".join(lines))
    data[draw.randrange(len(data))] ^= draw.randrange(1, 256)
    return bytes(data)


def _insert(lines: list[bytes], draw: random.Random) -> bytes:
    data = bytearray(b"".join(lines))
    data.insert(draw.randrange(len(data) + 1), draw.randrange(256))
    return bytes(data)


@pytest.mark.parametrize("harm", [_delete, _duplicate, _swap, _truncate, _flip, _insert])
def test_every_harm_to_a_file_is_detected(harm: Any) -> None:
    """In 1,000 seeded places: never COMPLETE, and what is believed is how the file truly began."""
    data, records = _written(40)
    for seed in range(1000):
        harmed = harm(data.splitlines(keepends=True), random.Random(seed))
        assert harmed != data
        found = read_log(harmed)
        assert found.state is not LogState.COMPLETE, (seed, found.why)
        assert found.records == records[: len(found.records)], seed
        assert harmed[: found.whole_bytes] == data[: found.whole_bytes], seed


@pytest.mark.parametrize("harm", [_delete, _duplicate, _swap, _flip])
def test_harm_within_a_cut_file_is_detected(harm: Any) -> None:
    """A file without a trailer proves no end, but what is believed of it is true all the same."""
    data, records = _written(40, closed=False)
    corrupt = 0
    for seed in range(1000):
        found = read_log(harm(data.splitlines(keepends=True), random.Random(seed)))
        corrupt += found.state is LogState.CORRUPT
        assert found.state is not LogState.COMPLETE
        assert found.records == records[: len(found.records)], seed
    assert corrupt > 900  # the rest is harm to the last line, which nothing after it can tell


def test_every_cut_of_a_file_is_a_cut() -> None:
    """At whatever byte it ends: CUT, with all lines that were whole, and never a torn one."""
    data, records = _written(12)
    for end in range(len(data)):
        found = read_log(data[:end])
        assert found.state is LogState.CUT, (end, found.why)
        assert len(found.records) == min(max(data[:end].count(b"\n") - 1, 0), len(records))
        assert found.whole_bytes == data[:end].rfind(b"\n") + 1


def test_lines_of_another_file_are_not_believed() -> None:
    """A line that is right in its own file breaks the chain of any other."""
    ours, _ = _written(10)
    disk = Disk()
    log = Log(msgspec.structs.replace(HEADER, pid=8), disk.write, iter(range(1, 100)).__next__)
    for number in range(10):
        log.append(
            Event.RECEIVED, f"talkers-{number % 5}", number % 3 or None, {"bytes": number, "text": "👋" * number}
        )
    log.close()
    mine, theirs = ours.splitlines(keepends=True), bytes(disk.data).splitlines(keepends=True)
    for at in range(len(mine)):
        found = read_log(b"".join([*mine[:at], *theirs[at:]]))
        assert (found.state is LogState.COMPLETE) == (at == 0)


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def _signed(*bodies: bytes) -> bytes:
    """A file of these lines with right checksums: what somebody could forge who knows how."""
    data = b""
    for body in bodies:
        data += b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(data + body))
    return data


_HEADER_BODY = b'{"header":' + msgspec.json.encode(HEADER)


@given(st.binary(max_size=400))
def test_hostile_bytes_never_raise(data: bytes) -> None:
    """Whatever stands in a file, it is read, and it is not COMPLETE."""
    assert read_log(data).state is not LogState.COMPLETE


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_forged_lines_never_raise(bodies: list[bytes]) -> None:
    """Nor when the checksums are right."""
    assert isinstance(read_log(_signed(_HEADER_BODY, *bodies)), LogFile)


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"x","seq":1,"t_ns":0,"fields":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"event":"x","seq":1,"t_ns":' + b"9" * 5000,
        b'{"event":"\\ud800","seq":1,"t_ns":0',
        b'{"event":"x","seq":1.0,"t_ns":0',
        b'{"event":"x","seq":2,"t_ns":0',
        b'{"event":"x","seq":0,"t_ns":0',
        b'{"event":"x","seq":1',
        b'{"trailer":{"count":1}',
        b'{"trailer":{"count":0,"more":1}',
        b'{"trailer":' + b"[" * 100_000,
        b"",
    ],
)
def test_a_forged_line_is_corrupt(body: bytes) -> None:
    """Deep nesting, huge numbers, wrong counts: said, not raised."""
    found = read_log(_signed(_HEADER_BODY, body))
    assert found.state is LogState.CORRUPT
    assert found.records == []
    assert found.why


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"x","seq":1,"t_ns":0,"fields":{"a":1e999}',
        b'{"event":"x","seq":1,"t_ns":0,"fields":[]',
        b'{"event":"\xff","seq":1,"t_ns":0',
        b'{"event":"x","seq":1,"t_ns":0,"connection":"1"',
        b'{"seq":1,"t_ns":0',
    ],
)
def test_a_forged_record_is_an_error_of_the_harness_when_it_is_looked_at(body: bytes) -> None:
    """It has its number, its instant and a right checksum: no accident, and no writer of ours has made it."""
    with pytest.raises(HarnessError, match="unreadable-record"):
        list(read_log(_signed(_HEADER_BODY, body)).records)


def test_records_of_one_event_are_found_without_the_others() -> None:
    """Whatever stands between; also in a file whose lines begin otherwise, and after all were asked for."""
    data, _ = _written(50)
    mixed = b"".join(data.splitlines(keepends=True)[:-1])
    log = read_log(data)
    found = log.of_event("received")
    assert found == list(log.records)
    assert len(found) == 50
    assert log.of_event("received") == found
    assert read_log(mixed).of_event("sent") == []
    odd = read_log(_signed(_HEADER_BODY, b'{"event":"sent","seq":1,"t_ns":9', b'{"seq":2,"t_ns":5,"event":"sent"'))
    assert [r.seq for r in odd.of_event("sent")] == [1, 2]
    assert list(odd.instants(odd.of_event("sent")[1:])) == [9], "it was stamped late, and stands behind its forerunner"


# --- SIGKILL (T1) ----------------------------------------------------------------------------------------------------


def _write_until_killed(path: Path, counter: mmap.mmap) -> None:
    """The writer's life: append, and only then count. The count is in memory that outlives the process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Log(HEADER, lambda line: os.write(descriptor, line), time.monotonic_ns)
    number = 0
    while True:
        log.append(Event.SENT, "talkers-1", 1, {"bytes": 9000, "text": "x" * (number * 37 % 9000)})
        number += 1
        counter[:8] = number.to_bytes(8, "little")


def test_sigkill_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """100 kills at random points of a busy writer: 0 acknowledged records lost, and only the last line may be torn."""
    draw = random.Random(1)
    busy = torn = unacknowledged = 0
    for kill in range(100):
        path = tmp_path / f"{kill}.jsonl"
        with mmap.mmap(-1, 8) as counter:
            pid = os.fork()
            if pid == 0:
                try:
                    _write_until_killed(path, counter)
                finally:
                    os._exit(1)
            enough = draw.randrange(1, 1000)  # acknowledged records; where in the next the kill falls is chance
            eventually(partial(_has_counted, counter, enough), 30, f"{enough} records", pause_s=0)
            os.kill(pid, signal.SIGKILL)
            assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
            acknowledged = int.from_bytes(counter[:8], "little")
        data = path.read_bytes()
        found = read_log(data)
        assert found.state is LogState.CUT, found.why
        assert acknowledged <= len(found.records) <= acknowledged + 1
        assert b"\n" not in data[found.whole_bytes :]
        busy += acknowledged > 10
        torn += found.whole_bytes < len(data)
        unacknowledged += len(found.records) > acknowledged
    assert busy > 80, "the writers were killed before they wrote"
    assert torn + unacknowledged > 0, "no kill fell into the middle of an append"


def _has_counted(counter: mmap.mmap, count: int) -> bool:
    return int.from_bytes(counter[:8], "little") >= count
