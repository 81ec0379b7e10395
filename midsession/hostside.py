"""What server and fleet do alike with the system under them: open their event file, raise a limit, keep pauses away.

The harness itself has no use for it. It imports what is in every host, and nothing else.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Mapping

from midsession.core.record import Log, told_header
from midsession.errors import HarnessError


def open_event_file(environ: Mapping[str, str]) -> Log | None:
    """The event file that the harness asks for in the environment (see `midsession.agent.protocol.Start`); None: it
    asks for none.

    Raises OSError when it exists or cannot be created, msgspec.MsgspecError when MIDSESSION_HEADER is no header. A log
    that cannot be written later raises HarnessError: a run without its log is void.
    """
    path = environ.get("MIDSESSION_EVENT_FILE")
    if path is None:
        return None
    header = told_header(environ.get("MIDSESSION_HEADER", ""), os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(lines: bytes) -> int:
        try:
            taken = os.write(descriptor, lines)
        except OSError as error:
            raise HarnessError(f"the event file cannot be written: {error}") from error
        if taken != len(lines):
            raise HarnessError(f"the event file cannot be written: it took {taken} of {len(lines)} bytes")
        return taken

    return Log(header, write, time.monotonic_ns)


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as the system lets it (RLIMIT_NOFILE: the soft limit up to the hard one);
    how many that are, which may be RLIM_INFINITY."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


_COLLECT_EVERY = 200_000
"""New objects between two looks for garbage: some 30 MB, should all of it be."""


def rarely_pause() -> None:
    """Have Python look for cyclic garbage rarely, and never among what is here by now.

    With its own thresholds a fleet of a thousand clients that come back all the time stands still again and again (40
    ms in the mean on busy cores), and would take that for its server's time.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
