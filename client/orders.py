"""Lines from standard input, whatever it is (a pipe, a terminal, a file), carried to the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from client.journal import complain
from midsession.core.wire import LineReader, LineTooLong

_ORDER_LIMIT_BYTES = 1024 * 1024


class Lines(threading.Thread):
    """Read lines from a descriptor; `on_line` and `on_end` run on the event loop.

    A thread, because a terminal must stay blocking and a file cannot be polled; a daemon on the bare descriptor, so
    that nothing has to wait for a line that never comes.
    """

    def __init__(self, descriptor: int, on_line: Callable[[str], None], on_end: Callable[[], None]) -> None:
        super().__init__(name="stdin", daemon=True)
        self._descriptor, self._on_line, self._on_end = descriptor, on_line, on_end
        self._loop = asyncio.get_running_loop()

    def run(self) -> None:
        """Until the end of input, or a line that is too long: what comes after it could be anything."""
        reader = LineReader(_ORDER_LIMIT_BYTES)
        try:
            while data := self._read():
                for line in reader.receive(data):
                    self._tell(self._on_line, line.decode("utf-8", "replace"))
            if rest := reader.rest():
                self._tell(self._on_line, rest.decode("utf-8", "replace"))
        except LineTooLong as error:
            complain(f"standard input is taken as ended: {error} came")
        self._tell(self._on_end)

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except OSError:  # closed, or a terminal that hung up: nobody speaks to us any more
            return b""

    def _tell(self, what: Callable[..., None], *line: str) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *line)
        except RuntimeError:  # the loop has closed: the program ends
            return
