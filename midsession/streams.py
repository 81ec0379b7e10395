"""The standard streams of our programs. They may be closed, full, or have no reader: none of that ends a program, for
what it says there is for people, and what it found out is elsewhere (in records, in its exit code).

Imports next to nothing: a command opens its closed streams before it imports anything else.
"""

from __future__ import annotations

import contextlib
import os

OUTPUT, ERRORS = 1, 2


def open_closed() -> None:
    """Give each standard stream that is closed /dev/null, so that no other file gets its number, here or in what is
    started from here."""
    for number in (0, OUTPUT, ERRORS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def write_line(stream: int, text: str) -> None:
    """Write a line that may be shown at once, in UTF-8 whatever the locale says. What the stream does not take is
    dropped."""
    line = text.encode() + b"\n"
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(stream, line) :]
