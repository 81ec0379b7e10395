"""A run directory: what its files are called, and how a stored run is read and judged again.

Judging needs `plan.json` and `events/`; `run.json` adds the hosts that took part and what the harness itself knew to
have gone wrong. Nothing here runs anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import msgspec

from midsession.checks import always, build
from midsession.core.history import CONDUCTOR, History
from midsession.core.judge import judge
from midsession.core.logfile import LogFile, read_log
from midsession.core.plan import Plan
from midsession.core.record import Event
from midsession.core.verdict import Verdict
from midsession.core.wrong import Wrong
from midsession.errors import MidsessionError
from midsession.faults import FAULTS
from midsession.faults.base import Fault
from midsession.regular import read_regular

if TYPE_CHECKING:
    from midsession.core.audit import Audited

PLAN, RUN, VERDICT = "plan.json", "run.json", "verdict.json"
REPORT, JUNIT, SUMMARY = "report.html", "junit.xml", "summary.md"
EVENTS, LOGS = "events", "logs"

T = TypeVar("T")


class NotARun(MidsessionError):
    """A directory cannot be read as a run: says which file, what is wrong with it, and what to do."""

    exit_code = 4

    def __init__(self, path: Path, wrong: str, slug: str = "not-a-run") -> None:
        self.path, self.slug = path, slug
        super().__init__(f"{path}: {wrong}; name the directory of a run, as `run` prints it  [{slug}]")


def read_plan(directory: Path) -> Plan:
    """The plan of a run. Raises NotARun when it is missing or is none."""
    return _decoded(directory / PLAN, Plan.from_json)


class Facts(TypedDict, total=False):
    """What run.json may hold, see docs/run-directory.md; a run that was killed has less."""

    run: str
    name: str
    seed: int
    plan: str
    testbed: str
    runs: str
    started: str
    ended: str
    t0_ns: int
    why_ended: str
    hosts: dict[str, dict[str, str]]
    placement: dict[str, list[str]]
    unfired: list[dict[str, str]]
    problems: list[str]
    versions: dict[str, str]


def read_run(directory: Path) -> Facts:
    """The content of run.json; empty when there is none. Raises NotARun when it holds something else."""
    path = directory / RUN
    return _decoded(path, lambda data: msgspec.json.decode(data, type=Facts)) if path.exists() else {}


def read_files(directory: Path) -> dict[str, LogFile]:
    """Every event file by name, with what it proves. Raises NotARun when the directory has no events."""
    folder = directory / EVENTS
    if not folder.is_dir():
        raise NotARun(folder, "there is no such directory")
    return {_shown(path): read_log(_bytes(path)) for path in sorted(folder.glob("*.jsonl"))}


def read_history(directory: Path) -> History:
    """The history of a stored run. Raises NotARun; a cut, corrupt or missing log is no error but a gap in it."""
    run = read_run(directory)
    return History.of(read_plan(directory), read_files(directory), _hosts(run), run.get("run", ""))


def judge_run(directory: Path, history: History | None = None, problems: Sequence[str] = ()) -> Verdict:
    """Judge a stored run; the same run gives the same verdict, byte for byte. Raises NotARun.

    `history` spares reading it again; `problems` are those of the harness that a full disk may have kept from run.json.
    Those that the conductor's log has count too, whatever has become of run.json.
    """
    history = read_history(directory) if history is None else history
    noted = [str(r.fields.get("text")) for r in history.events(Event.NOTE).on(CONDUCTOR) if r.fields.get("problem")]
    stored = read_run(directory).get("problems", [])
    return judge_history(history, list(dict.fromkeys([*stored, *noted, *problems])))


def mending(plan: Plan) -> frozenset[str]:
    """The verbs of the plan's faults that break nothing."""
    return frozenset(verb for verb, fault in _faults(plan).items() if not fault.breaks)


def _faults(plan: Plan) -> dict[str, type[Fault]]:
    return {step.verb: FAULTS[step.verb] for step in plan.timeline if step.verb in FAULTS}


def judge_history(history: History, problems: list[str] | None = None) -> Verdict:
    """Judge a history with all the checks and faults that there are."""
    plan = history.plan
    healable = {verb for verb, fault in _faults(plan).items() if fault.healable}
    return judge(plan, history, build, always(plan), healable, problems or [], mending(plan))


def audit_run(directory: Path) -> list[Audited]:
    """Whether each check of a stored run can fail at all. Raises NotARun."""
    from midsession.core.audit import audit

    return audit(read_plan(directory), read_files(directory), _hosts(read_run(directory)), build)


def encode_verdict(verdict: Verdict) -> bytes:
    """The verdict's one byte form."""
    return msgspec.json.format(msgspec.json.encode(verdict, order="deterministic"), indent=2) + b"\n"


def write_verdict(directory: Path, verdict: Verdict) -> Path:
    """Write verdict.json, whole or not at all, and return its path. Raises OSError."""
    path = directory / VERDICT
    write_whole(path, encode_verdict(verdict))
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it: under another name first, then renamed. Raises OSError.

    There is no fsync: a power cut may cost a report, which `midsession report` makes anew from the records.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _shown(path: Path) -> str:
    """A file's name as text that can be written down: a byte that is no UTF-8 is spelt out."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _hosts(run: Facts) -> list[str]:
    return list(run.get("hosts", ()))


def _decoded(path: Path, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(_bytes(path))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotARun(path, f"it cannot be read: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise NotARun(path, error.strerror or str(error)) from error
    except Wrong as wrong:
        raise NotARun(path, wrong.message) from wrong
