"""Where the server tells what happens: records for the harness, readable lines for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from midsession.core.record import Event, Log
from midsession.core.showable import showable
from midsession.streams import ERRORS, OUTPUT, write_line

LINES_PER_SECOND = 200
"""How many lines about ordinary traffic are shown in one second; what matters more is always shown."""


class Screen:
    """Readable lines, each shown at once.

    Traffic (`chatter`) is bounded to `LINES_PER_SECOND`; how many lines were left out is said before the next one.
    """

    def __init__(self, show: Callable[[str], object], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._show, self._clock = show, clock
        self._second = self._shown = self._left_out = 0

    def line(self, text: str) -> None:
        """Show a line that matters."""
        if self._left_out:
            self._show(f"… {self._left_out} lines of traffic not shown")
            self._left_out = 0
        self._show(text)

    def chatter(self, template: str, *values: object) -> None:
        """Show a line about ordinary traffic, as long as there are not too many of them."""
        second = self._clock() // 1_000_000_000
        if second != self._second:
            self._second, self._shown = second, 0
        if self._shown < LINES_PER_SECOND:
            self._shown += 1
            self.line(template.format(*values))
        else:
            self._left_out += 1


def show(text: str) -> None:
    """One line on stdout."""
    write_line(OUTPUT, showable(text))


def complain(text: str) -> None:
    """One line on stderr."""
    write_line(ERRORS, showable(f"server: {text}"))


class Records:
    """The event file, or nothing when the server runs by hand."""

    def __init__(self, log: Log | None) -> None:
        self._log = log

    def add(self, event: Event, connection: int | None = None, fields: dict[str, Any] | None = None) -> None:
        """Write one record. Raises HarnessError when the file does not take it."""
        if self._log is not None:
            self._log.append(event, None, connection, fields)

    def close(self) -> None:
        """Write the trailer."""
        if self._log is not None:
            self._log.close()
