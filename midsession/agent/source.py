"""Read event files forwards in whole lines, and pick the wanted records by their first bytes.

Knows nothing of when to read: `tail` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import msgspec

from midsession.agent.protocol import Records, encode
from midsession.agent.say import say
from midsession.core.record import decode_line

_CHUNK_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 1024 * 1024


class Source:
    """One event file, read from its begin up to `limit` (None: as far as it grows).

    `after`: what stands in the agent's own file up to that offset goes before anything of this one. `ended`: its
    writer is dead, so that it can be let go of once it was read to its end.
    """

    def __init__(self, host: str, writer: str, incarnation: int, path: str, after: int = 0) -> None:
        self.host, self.writer, self.incarnation, self.path, self.after = host, writer, incarnation, path, after
        self.limit: int | None = None
        self.offset = 0
        self.ended = False
        self.over = False
        self._fd: int | None = None

    def past(self) -> Source:
        """A source of what was read of this one already."""
        past = Source(self.host, self.writer, self.incarnation, self.path, self.after)
        past.limit, past.ended = self.offset, True
        return past

    @property
    def is_open(self) -> bool:
        """The file was there."""
        return self._fd is not None

    def open(self) -> bool:
        """Open the file if it is there by now; True when it is open."""
        if self._fd is None and not self.over:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            except OSError as error:
                self._give_up(str(error))
        return self._fd is not None

    def read(self, limit: int | None = None) -> list[bytes]:
        """The next whole lines, a chunk's worth, none of which begins at or after `limit`; empty: none for now."""
        assert self._fd is not None
        limit = min((n for n in (limit, self.limit) if n is not None), default=None)
        size = _CHUNK_BYTES
        while True:
            room = size if limit is None else min(size, limit - self.offset)
            data = os.pread(self._fd, room, self.offset) if room > 0 else b""
            if end := data.rfind(b"\n") + 1:
                self.offset += end
                return data[: end - 1].split(b"\n")
            if len(data) < size:
                return []
            if size >= _LONGEST_LINE_BYTES:
                self._give_up(f"it holds a line of more than {_LONGEST_LINE_BYTES} bytes")
                return []
            size *= 4

    def frame(self, lines: Iterable[bytes], wanted: tuple[bytes, ...]) -> bytes | None:
        """The `Records` frame of those lines that begin with a wanted prefix; None when none does."""
        raw = [msgspec.Raw(line) for line in lines if line.startswith(wanted) and _is_record(line)]
        if not raw:
            return None
        return encode(Records(host=self.host, writer=self.writer, incarnation=self.incarnation, records=raw))

    def close(self) -> None:
        """Read no more of it."""
        self.over = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _give_up(self, why: str) -> None:
        say(f"cannot follow {self.path}: {why}")
        self.close()


class Pass:
    """One way through a host's files: the agent's own and its programs', for one set of events.

    The order across files: what the agent wrote before a program began, then the program's records, then what the
    agent wrote later. So a program's end comes after its last record, and before its next incarnation's first.
    """

    def __init__(self, own: Source, programs: list[Source], events: frozenset[str]) -> None:
        self.own, self.programs = own, programs
        self.want(events)

    def want(self, events: frozenset[str]) -> None:
        """From here on pick these."""
        self.events = events
        self._prefixes = tuple(b'{"event":"%b"' % event.encode() for event in sorted(events))

    def past(self, events: frozenset[str]) -> Pass:
        """A pass over what this one has read, for other events."""
        return Pass(self.own.past(), [program.past() for program in self.programs], events)

    def step(self, ready: Callable[[Source], bool], send: Callable[[bytes], None]) -> bool:
        """Read one chunk of the next file that has something, and send what is wanted of it; False: nothing for now.

        `ready` opens a source, and says whether it could.
        """
        if not self.events:
            return False
        for program in self.programs:
            if program.over:
                continue
            if self.own.offset < program.after and self._read(self.own, program.after, ready, send):
                return True
            if self._read(program, None, ready, send):
                return True
            if program.ended:
                program.close()
        return self._read(self.own, None, ready, send)

    def close(self) -> None:
        """Let go of all files."""
        for source in (self.own, *self.programs):
            source.close()

    def _read(
        self, source: Source, limit: int | None, ready: Callable[[Source], bool], send: Callable[[bytes], None]
    ) -> bool:
        lines = source.read(limit) if ready(source) else []
        frame = source.frame(lines, self._prefixes)
        if frame is not None:
            send(frame)
        return bool(lines)


def _is_record(line: bytes) -> bool:
    """A line that is none would break the frame. The file itself is judged by whoever reads it whole."""
    try:
        decode_line(line, "", "", 0)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
