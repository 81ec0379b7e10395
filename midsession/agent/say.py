"""The agent's account of itself, for people: lines on standard error."""

from __future__ import annotations

import os
import select

_STDERR = 2
_MOST_BYTES = 1024


def say(text: str) -> None:
    """Print one line, if standard error takes it now: nobody may read there, and an agent must never block on it."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    reader = select.poll()
    reader.register(_STDERR, select.POLLOUT)
    if any(events & select.POLLOUT for _, events in reader.poll(0)):
        try:
            os.write(_STDERR, f"midsession agent: {line}".encode(errors="backslashreplace")[:_MOST_BYTES] + b"\n")
        except OSError:
            return  # gone, or full: no reason to fail
