"""Lines and counts do not depend on how the bytes were cut into reads."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsession.core.wire import PREVIEW_CHARS, Inbox, LineReader, LineTooLong, describe, digest, preview

STREAM = "hello\nGot your message ✅\r\n👋 bye 👨‍👩‍👧\n\nrest".encode()
LINES = [b"hello", "Got your message ✅".encode(), "👋 bye 👨‍👩‍👧".encode(), b""]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_every_cut_point_gives_the_same_lines(cut: int) -> None:
    """For every cut, both halves give the same lines: an emoji cut in two included."""
    reader = LineReader()
    assert [*reader.receive(STREAM[:cut]), *reader.receive(STREAM[cut:])] == LINES
    assert reader.rest() == b"rest"


def told(reader: LineReader, pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """The lines that a reader hands out, and whether it then met one that is too long."""
    lines: list[bytes] = []
    try:
        for piece in pieces:
            for line in reader.receive(piece):
                lines.append(line)
    except LineTooLong:
        return lines, True
    return lines, False


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_in_any_pieces_give_the_same_lines(stream: bytes, cuts: list[int]) -> None:
    """However a stream arrives, its lines are those of the stream in one piece."""
    reader, whole = LineReader(limit=50), LineReader(limit=50)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(bounds)]
    lines, too_long = told(reader, pieces)
    assert (lines, too_long) == told(whole, [stream])
    assert too_long or reader.rest() == whole.rest()


def test_a_line_without_end_is_bounded() -> None:
    """A peer that never ends its line cannot fill the memory: the reader says so at the limit."""
    reader = LineReader(limit=10)
    assert list(reader.receive(b"0123456789")) == []
    with pytest.raises(LineTooLong):
        next(reader.receive(b"x"))


@pytest.mark.parametrize("stream", [b"hello\nhi\n0123456789x\nbye\n", b"hello\nhi\n0123456789xyz"])
def test_a_line_that_is_too_long_takes_none_before_it_along(stream: bytes) -> None:
    """For every cut point the lines before it are handed out, and it is refused, be its end there already or not."""
    for cut in range(len(stream)):
        assert told(LineReader(limit=10), [stream[:cut], stream[cut:]]) == ([b"hello", b"hi"], True)
    assert told(LineReader(limit=10), [b"0123456789\n"]) == ([b"0123456789"], False)


def test_counts_take_exactly_what_they_say() -> None:
    """`take` waits for all of it, `drop` takes what there is, and the line search starts anew after either."""
    inbox = Inbox()
    inbox.feed(b"abcdef")
    assert inbox.line() is None
    assert inbox.take(7) is None
    assert inbox.take(2) == b"ab"
    assert inbox.drop(3) == 3
    inbox.feed(b"\nnext")
    assert inbox.line() == b"f"
    assert inbox.peek() == b"next"
    assert inbox.drop(100) == 4
    assert len(inbox) == 0


def test_a_description_is_exact_or_has_a_hash() -> None:
    """Text that is all there needs no hash; what was cut or is not UTF-8 carries one."""
    assert describe("Hi 👋\n".encode()) == {"bytes": 8, "text": "Hi 👋\n"}
    assert describe(b"") == {"bytes": 0, "text": ""}
    broken = b"\xff\x00ok"
    assert describe(broken) == {"bytes": 4, "text": "\\xff\x00ok", "hash": digest(broken)}
    long = b"a" * 129
    assert describe(long) == {"bytes": 129, "text": "a" * 128, "hash": digest(long)}
    emoji = "👋".encode() * 400
    assert describe(emoji) == {"bytes": 1600, "text": "👋" * 128, "hash": digest(emoji)}


@given(st.binary(max_size=2000))
def test_a_preview_is_short_and_printable_as_json(data: bytes) -> None:
    """Never more than 128 characters, always encodable; without a hash it is the whole payload."""
    told = describe(data)
    assert len(told["text"]) <= PREVIEW_CHARS
    assert told["text"].encode() is not None
    assert told["bytes"] == len(data)
    assert ("hash" in told) == (told["text"].encode() != data)
    assert preview(data) == told["text"]
