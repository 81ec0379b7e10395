"""A small key-value store: what the `kv` behaviours keep, and how they answer.

    SET key value  →  OK             (after the entry is safe, where the store has a file)
    GET key        →  key value      the newest entry of the key, or NONE
    SCAN n         →  key value      the n-th entry since the beginning, from 1, or END

Anything else is answered with ERR. A store with a file appends each entry and has the kernel put it on the disk (fsync)
before it answers; one without forgets everything with its process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec


def store_path(environ: Mapping[str, str]) -> Path:
    """Where the entries lie: in the host's temporary folder, and each run has a file of its own there."""
    header = msgspec.json.decode(environ.get("MIDSESSION_HEADER", "{}"), type=dict[str, object])
    of_run = "-".join(str(header[key]) for key in ("run", "host") if key in header)
    return Path(tempfile.gettempdir(), f"midsession-kv{'-' + of_run if of_run else ''}.log")


class Store:
    """Entries in the order in which they were set. `path` None: in memory alone. Raises OSError for the disk."""

    def __init__(self, path: Path | None) -> None:
        self._entries: list[bytes] = []
        self._newest: dict[bytes, bytes] = {}
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._load(self._file)

    def hear(self, line: bytes) -> bytes:
        """Carry out one line and return its answer."""
        verb, _, rest = line.partition(b" ")
        if verb == b"SET" and b" " in rest.strip():
            self._keep(rest)
            return b"OK"
        if verb == b"GET" and rest:
            return self._newest.get(rest, b"NONE")
        if verb == b"SCAN" and rest.isdigit():
            number = int(rest)
            return self._entries[number - 1] if 0 < number <= len(self._entries) else b"END"
        return b"ERR say SET key value, GET key or SCAN n"

    def _keep(self, entry: bytes) -> None:
        if self._file is not None:
            os.write(self._file, entry + b"\n")
            os.fsync(self._file)
        self._remember(entry)

    def _remember(self, entry: bytes) -> None:
        self._entries.append(entry)
        self._newest[entry.partition(b" ")[0]] = entry

    def _load(self, file: int) -> None:
        """Read what an earlier process kept. A last entry without its newline was never acknowledged: it goes."""
        with open(file, "rb", closefd=False) as kept:
            data = kept.read()
        whole = data.rpartition(b"\n")[0]
        os.ftruncate(file, len(whole) + 1 if b"\n" in data else 0)
        for entry in whole.split(b"\n") if whole else ():
            self._remember(entry)
