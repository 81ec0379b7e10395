"""Bytes on the wire: a bounded buffer that hands out lines or counts, and the short description that goes into records.

Pure: knows no socket and no clock. A TCP stream has no messages, so nothing here may depend on how the peer's bytes
were cut into reads: for every cut point both halves give the same lines, an emoji cut in two included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

LINE_LIMIT_BYTES = 64 * 1024
"""The longest line that is waited for, and how much a session hears ahead before it stops reading (backpressure)."""

PREVIEW_CHARS = 128
_PREVIEW_BYTES = 4 * PREVIEW_CHARS  # UTF-8 has at most four bytes a character


class LineTooLong(ValueError):
    """The peer sent more than `limit` bytes without a line end."""


class Inbox:
    """What a peer sent and nobody has taken yet.

    A line ends with LF; the LF, and one CR before it, are not part of it (`whole_line` hands them out all the same).
    Both raise `LineTooLong` for a line with more than `limit` bytes before its LF, be the LF there already or not, so
    that it is the same however the stream was cut: what is held stays, for the report. `held` is to be looked at only.
    """

    __slots__ = ("_limit", "_scanned", "held")

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self.held = bytearray()
        self._limit = limit
        self._scanned = 0  # no line end stands before here; keeps a dripping peer linear

    def __len__(self) -> int:
        return len(self.held)

    def feed(self, data: bytes) -> None:
        """Hear `data`."""
        self.held += data

    def line(self) -> bytes | None:
        """Take the next whole line, or None when none is complete yet."""
        whole = self.whole_line()
        return None if whole is None else without_end(whole)

    def whole_line(self) -> bytes | None:
        """Take the next whole line as it came, with its end, or None when none is complete yet."""
        end = self.held.find(b"\n", self._scanned)
        self._scanned = len(self.held) if end < 0 else end
        if self._scanned > self._limit:
            raise LineTooLong(f"a line of more than {self._limit} bytes")
        if end < 0:
            return None
        line = bytes(self.held[: end + 1])
        del self.held[: end + 1]
        self._scanned = 0
        return line

    def rest(self) -> bytes:
        """Take everything: at the end of a stream what follows the last line end is a line too."""
        rest = bytes(self.held)
        self.clear()
        return rest

    def take(self, count: int) -> bytes | None:
        """Take exactly `count` bytes, or None when fewer are held."""
        if len(self.held) < count:
            return None
        taken = bytes(self.held[:count])
        del self.held[:count]
        self._scanned = 0
        return taken

    def drop(self, most: int) -> int:
        """Drop up to `most` bytes and say how many there were."""
        dropped = min(most, len(self.held))
        del self.held[:dropped]
        self._scanned = 0
        return dropped

    def peek(self, most: int = _PREVIEW_BYTES) -> bytes:
        """The first bytes, left where they are."""
        return bytes(self.held[:most])

    def clear(self) -> None:
        """Forget everything."""
        self.held.clear()
        self._scanned = 0


def without_end(line: bytes) -> bytes:
    """What a whole line says: without its LF, and one CR before it."""
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


class LineReader:
    """Turn bytes into lines. Does no I/O: the caller owns the socket."""

    __slots__ = ("_inbox",)

    def __init__(self, limit: int = LINE_LIMIT_BYTES) -> None:
        self._inbox = Inbox(limit)

    def receive(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes, each taken when it is asked for.

        Asking for a line that is too long raises `LineTooLong`, after all those before it.
        """
        self._inbox.feed(data)
        return iter(self._inbox.line, None)

    def rest(self) -> bytes:
        """What followed the last line end, to be asked for at the end of the stream."""
        return self._inbox.rest()


def preview(data: bytes) -> str:
    """`data` for people: at most 128 characters, UTF-8, bytes that are not UTF-8 as `\\xff`."""
    return data[:_PREVIEW_BYTES].decode("utf-8", "backslashreplace")[:PREVIEW_CHARS]


def digest(data: bytes) -> str:
    """The first 16 hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:16]


def describe(data: bytes) -> dict[str, Any]:
    """The fields of a record about `data`: `bytes`, `text` (preview) and, where the text is not all of it, `hash`."""
    size = len(data)
    if size <= _PREVIEW_BYTES:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if len(text) <= PREVIEW_CHARS and (text or not size):
            return {"bytes": size, "text": text}
    return {"bytes": size, "text": preview(data), "hash": digest(data)}
