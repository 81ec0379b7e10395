"""Where the fleet tells what happens: records for the harness, a short account for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

from midsession.core.showable import showable
from midsession.streams import ERRORS, OUTPUT, write_line

ACCOUNT_LINES = 60
"""How many lines the account shows in full; after that, one line a second that counts."""


def say(text: str) -> None:
    """One line on stdout."""
    write_line(OUTPUT, showable(text))


def complain(text: str) -> None:
    """One line on stderr."""
    write_line(ERRORS, showable(f"client: {text}"))


class NoLog:
    """In place of a log, when the fleet runs by hand."""

    def add(self, event: str, client: str | None, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Keep nothing."""

    def flush(self) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Keep nothing."""


class Account:
    """The first lines in full, then a line a second that counts what happened in it. Bounded, whatever happens."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.shown = 0
        self._told: Counter[str] = Counter()

    def line(self, event: str, client: str, connection: int | None, fields: dict[str, Any]) -> None:
        """Show one record in full, while there is room."""
        self.shown += 1
        detail = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
        where = client if connection is None or connection == 1 else f"{client} (connection {connection})"
        say(f"{where}: {event} {detail}".rstrip())
        if self.shown == ACCOUNT_LINES:
            say("… from here on one line a second, where anything happened")

    def tick(self) -> None:
        """Show what happened since the last tick."""
        if self.shown < ACCOUNT_LINES:
            self._told = self.counts.copy()
            return
        news = self.counts - self._told
        if news:
            say(" ".join(f"{event}={count}" for event, count in sorted(news.items())))
        self._told = self.counts.copy()

    def close(self) -> None:
        """Show the sum."""
        if self.counts:
            say("all in all: " + " ".join(f"{event}={count}" for event, count in sorted(self.counts.items())))


def _short(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)
