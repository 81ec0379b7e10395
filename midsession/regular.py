"""Reading files that others have named or written: regular ones only, a bounded part, nothing outside a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from midsession.core.wrong import Wrong, quoted


def read_regular(path: Path, limit: int = -1, within: Path | None = None) -> bytes:
    """At most `limit` bytes of a regular file (-1: all of it); never waits on a FIFO or reads a device.

    `within` is the folder that the opened file must be in: what is opened is looked at, not what the path meant a
    moment ago, so that a link put in its place meanwhile gives nothing away.

    Raises OSError, ValueError (a NUL) and Wrong.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Wrong("unreadable", f"{quoted(path.name)} is not a regular file")
        opened = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if within is not None and within.resolve() not in opened.parents:
            raise Wrong("outside", f"the path {quoted(path.name)} leaves the scenario's folder by a link")
        return file.read(limit)
