"""Programs whose standard streams are closed, full, or read by nobody."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

_CLOSE = """\
import os, sys
for stream in sys.argv[1].split():
    os.close(int(stream))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

WAYS = ("closed", "full", "unread")


@contextlib.contextmanager
def python(
    arguments: Sequence[str], way: str, streams: Sequence[int], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments, some of its standard streams spoilt, the others /dev/null; killed at the end."""
    unread, pipe = os.pipe()
    os.close(unread)
    full = os.open("/dev/full", os.O_RDWR)
    given = {"full": full, "unread": pipe, "closed": subprocess.DEVNULL}[way]
    files = {
        name: given if n in streams else subprocess.DEVNULL for n, name in enumerate(("stdin", "stdout", "stderr"))
    }
    close = ["-c", _CLOSE, " ".join(map(str, streams))] if way == "closed" else []
    with subprocess.Popen([sys.executable, *close, *arguments], **files, **options) as process:  # type: ignore[call-overload]
        os.close(full)
        os.close(pipe)
        try:
            yield process
        finally:
            process.kill()
