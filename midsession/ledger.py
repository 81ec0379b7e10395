"""The runner's own part of a run directory: plan.json, the conductor's event file, run.json.

Knows files, no run: what goes in is decided by `midsession.runner`.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from midsession import __version__
from midsession.agent.procfs import own_clock
from midsession.core.plan import Plan
from midsession.core.record import Event, Header, Log, Record, event_file_name
from midsession.errors import HarnessError, MidsessionError, lacks_files

CONDUCTOR = "conductor"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run's name and directory. The directory is fresh: nobody else's run is in it."""

    run: str
    directory: Path

    @staticmethod
    def make(plan: Plan, runs_directory: Path) -> RunPlace:
        """Create `<runs>/<YYYYmmdd-HHMMSS>-<slug>-<id>/` with plan.json in it. Raises OSError."""
        slug = re.sub(r"[^a-z0-9]+", "-", plan.name.lower()).strip("-")[:40].strip("-") or "run"
        run = os.urandom(4).hex()
        directory = runs_directory / f"{datetime.now():%Y%m%d-%H%M%S}-{slug}-{run}"
        for folder in ("events", "logs"):
            (directory / folder).mkdir(parents=True)
        (directory / "plan.json").write_bytes(plan.to_json())
        return RunPlace(run, directory)

    def remove(self) -> None:
        """Take the directory away again. What cannot be removed stays."""
        shutil.rmtree(self.directory, ignore_errors=True)


_REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there, or name another folder with --runs")
_REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a writable folder with --runs")


def cannot_write(directory: Path, error: OSError) -> MidsessionError:
    """What is said when a run directory takes no more."""
    if (lacks := lacks_files(error)) is not None:
        return lacks
    remedy = _REMEDIES.get(error.errno or 0, "name another folder with --runs")
    return HarnessError(f"{directory} cannot be written: {error.strerror or error}; {remedy}", "run-directory")


class Ledger:
    """The conductor's records, on disk before `write` returns, and run.json.

    `failure` is why the log takes no more, once it does not: from then on records are on no disk, so the log is cut.
    """

    def __init__(self, place: RunPlace, plan: Plan) -> None:
        self._place = place
        header = Header(
            run=place.run,
            host=CONDUCTOR,
            writer=CONDUCTOR,
            incarnation=1,
            pid=os.getpid(),
            clock=own_clock(),
            seed=plan.seed,
            plan=plan.hash,
        )
        self.clock = header.clock
        self.failure: OSError | None = None
        path = place.directory / "events" / event_file_name(CONDUCTOR, CONDUCTOR, 1)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._log = Log(header, lambda line: os.write(self._fd, line), time.monotonic_ns)

    def write(self, event: Event, fields: dict[str, Any], t_ns: int) -> Record:
        """Append one record and return it as others see it, with host and writer."""
        record = Record(event, 0, t_ns, None, None, fields)
        if self.failure is None:
            try:
                record = self._log.append(event, fields=fields, t_ns=t_ns)
            except OSError as error:
                self.failure = error
        return msgspec.structs.replace(record, host=CONDUCTOR, writer=CONDUCTOR, incarnation=1)

    def close(self) -> None:
        """Write the trailer, unless the log is cut, and close the file."""
        if self.failure is None:
            try:
                self._log.close()
            except OSError as error:
                self.failure = error
        os.close(self._fd)

    def save_run(self, facts: dict[str, Any]) -> None:
        """Write run.json anew, whole or not at all. Raises OSError."""
        versions = {"midsession": __version__, "python": platform.python_version(), "kernel": platform.release()}
        data = msgspec.json.format(msgspec.json.encode({**facts, "versions": versions}), indent=2)
        fresh = self._place.directory / "run.json.new"
        try:
            fresh.write_bytes(data + b"\n")
            fresh.replace(self._place.directory / "run.json")
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def wall_clock() -> str:
    """The time of day, in UTC, for people."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def reference(record: Record) -> dict[str, Any]:
    """How a record is named in another one's fields."""
    named = {
        "host": record.host,
        "writer": record.writer,
        "incarnation": record.incarnation,
        "seq": record.seq,
        "event": record.event,
        "client": record.client,
        "t_ns": record.t_ns,
    }
    is_line = record.event == Event.LISTENING and record.fields.get("by") == "line"
    return named | {"by": "line"} if is_line else named
