"""Standard output whose reader may go away: `midsession run … | head -1` loses its account, not its verdict."""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper

from midsession.streams import ERRORS, OUTPUT


class Outlet(TextIOWrapper):
    """Text for a descriptor. Once its reader is gone (EPIPE), everything goes to /dev/null, and nobody is told."""

    def write(self, text: str, /) -> int:
        """Write; never raises BrokenPipeError."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Flush; never raises BrokenPipeError."""
        try:
            super().flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def open_outlets() -> None:
    """Make standard output and standard error outlets that can say every character, line by line.

    One that was closed leads to /dev/null (see `open_closed`). Streams that somebody has put in their place (a test, a
    notebook) stay as they are.
    """
    for number, name in ((OUTPUT, "stdout"), (ERRORS, "stderr")):
        stream = getattr(sys, name)
        if stream is None or type(stream) is TextIOWrapper:
            encoding = "utf-8" if stream is None else stream.encoding
            raw = BufferedWriter(FileIO(number, "wb", closefd=False)) if stream is None else stream.detach()
            setattr(sys, name, Outlet(raw, encoding, errors="backslashreplace", line_buffering=True))
