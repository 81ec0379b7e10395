"""Standard output whose reader may go away: `midsession run … | head -1` loses its account, not its verdict."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


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

    Streams that somebody has put in their place (a test, a notebook) stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is TextIOWrapper:
            encoding = stream.encoding
            outlet = Outlet(stream.detach(), encoding, errors="backslashreplace", line_buffering=True)
            setattr(sys, name, outlet)
