"""A program's stdout or stderr: raw bytes into a log file, whole lines as text to whoever records them."""

from __future__ import annotations

import codecs
import os
import select
from collections.abc import Callable
from typing import Any

from midsession.agent.answer import LogBroken
from midsession.agent.loop import Loop

LINE_CHARACTERS = 4096
_READ_BYTES = 8192
"""Small, so that a talkative program does not keep the loop from hearing a kill."""
_MIRROR_BYTES = 256 * 1024
_PIPE_BUF = 4096
_MIRROR_RETRY_S = 0.01


class Mirror:
    """Copies bytes to a descriptor that may be slow (the container's own stdout), and never blocks on it.

    A reader slower than the program loses what exceeds 256 KiB: the log file is the truth, this is a courtesy.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop, self._fd = loop, fd
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._retrying = False

    def put(self, data: bytes) -> None:
        """Copy, now or as soon as it is read."""
        if len(self._pending) < _MIRROR_BYTES:
            self._pending += data
        self._flush()

    def _flush(self) -> None:
        while self._pending and (events := self._ready()):
            if not events & select.POLLOUT:
                self._pending.clear()  # nobody reads there any more
                return
            # A pipe that polls as writable takes PIPE_BUF bytes without blocking: pipe(7).
            try:
                taken = os.write(self._fd, self._pending[:_PIPE_BUF])
            except OSError:
                self._pending.clear()
                return
            del self._pending[:taken]
        if self._pending and not self._retrying:
            self._retrying = True
            self._loop.later(_MIRROR_RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        self._flush()

    def _ready(self) -> int:
        return next((events for _, events in self._poll.poll(0)), 0)


OnLine = Callable[[str, bool], None]
"""Called with a line of text, and whether that is but the beginning of the line."""


def line_fields(stream: str, text: str, is_cut: bool, incarnation: int) -> dict[str, Any]:
    """The fields of a line's record."""
    return {"stream": stream, "text": text, "incarnation": incarnation, **({"cut": True} if is_cut else {})}


class Lines:
    """Turn a program's bytes into lines of text. Does no I/O.

    `on_line` gets each line without its newline, and whether it was cut: of a longer one, its first 4096 characters, as
    soon as they are there. Bytes that are not UTF-8 come as backslash escapes.
    """

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        self._text = ""
        self._is_told = False
        """The line under way is too long, and was told."""

    def receive(self, data: bytes) -> None:
        """The next bytes."""
        *lines, rest = (self._text + self._decode(data)).split("\n")
        for line in lines:
            self._tell(line)
            self._is_told = False
        if len(rest) > LINE_CHARACTERS:
            self._tell(rest)
            self._is_told = True
        self._text = "" if self._is_told else rest

    def end(self) -> None:
        """There are no more: what stands without a newline is a line too."""
        if rest := self._text + self._decode(b"", True):
            self._text = ""
            self._tell(rest)

    def _tell(self, line: str) -> None:
        if not self._is_told:
            self._on_line(line[:LINE_CHARACTERS], len(line) > LINE_CHARACTERS)


class Output:
    """Reads one pipe until its end, and cuts it into `Lines`.

    Owns both descriptors. Raises LogBroken when the log takes no more.
    """

    def __init__(self, loop: Loop, pipe: int, log: int, mirror: Mirror | None, on_line: OnLine) -> None:
        self._loop, self._pipe, self._log, self._mirror, self._lines = loop, pipe, log, mirror, Lines(on_line)
        self._open = True
        os.set_blocking(pipe, False)
        loop.reader(pipe, self._readable)

    def drain(self) -> None:
        """Take what the pipe still holds, and close: the program is dead."""
        while self._open and self._take():
            pass
        self._close()

    def _readable(self) -> None:
        self._take()

    def _take(self) -> bool:
        """Read once; False when there is nothing now, or nothing any more."""
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self._write(data)
        if self._mirror:
            self._mirror.put(data)
        self._lines.receive(data)
        return True

    def _write(self, data: bytes) -> None:
        try:
            taken = os.write(self._log, data)
        except OSError as error:
            raise LogBroken(f"a program's output log cannot be written: {error}") from error
        if taken != len(data):
            raise LogBroken(f"a program's output log took {taken} of {len(data)} bytes")

    def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.forget(self._pipe)
        os.close(self._pipe)
        os.close(self._log)
        self._lines.end()
