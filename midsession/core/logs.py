"""What the writers' files prove together: which are whole, which are cut, which are missing.

A file is whole when it is COMPLETE, or when it was cut by its writer's death and is as long as the agent measured it
after that death (`event_bytes` of the `exited` record): then nothing that the writer had acknowledged is missing.
Everything else is a gap, and a gap is never a pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from midsession.core.logfile import LogFile, LogState
from midsession.core.plan import Plan, ReferenceService
from midsession.core.record import Event, Record, event_file_name

CONDUCTOR, AGENT, PROGRAM = "conductor", "agent", "program"
"""The three writers. The conductor's host has the same name as its writer."""

Writer = tuple[str, str, int]
"""Host, writer and incarnation: what names a file."""


class Gap(msgspec.Struct, frozen=True):
    """A file whose silence proves nothing, and why. `host` and `writer` are those of its name."""

    file: str
    why: str
    host: str
    writer: str

    def __str__(self) -> str:
        return f"{self.file}: {self.why}"


def find_gaps(plan: Plan, files: Mapping[str, LogFile], hosts: Collection[str] = (), run: str = "") -> list[Gap]:
    """Every file that is not whole or not there, in the order of their names.

    `hosts` are further hosts that are known to have taken part (from `run.json`); the plan's services, its client
    programs and the hosts that the files themselves name are always expected to have an agent's file, and the run to
    have a conductor's. `run` is the run's name (from `run.json`); empty: the conductor's file says which run this is.
    """
    exits = _exits(files)
    gaps = {name: gap for name, file in files.items() if (gap := _gap(name, file, exits))}
    gaps |= {gap.file: gap for gap in _missing(plan, files, hosts, exits)}
    gaps |= {gap.file: gap for gap in _strangers(plan, files, run)}
    return [gaps[name] for name in sorted(gaps)]


def _exits(files: Mapping[str, LogFile]) -> dict[Writer, Record]:
    return {
        (r.host, PROGRAM, r.fields.get("incarnation", 0)): r
        for file in files.values()
        if file.header and file.header.writer == AGENT
        for r in file.records
        if r.event == Event.EXITED
    }


def _gap(name: str, file: LogFile, exits: Mapping[Writer, Record]) -> Gap | None:
    host, writer, incarnation = _named(name, file)
    if file.header is None:
        return Gap(name, file.why or "no header", host, writer)
    if name != event_file_name(host, writer, incarnation):
        return Gap(name, f"its header says that it is {event_file_name(host, writer, incarnation)}", host, writer)
    if file.state is LogState.COMPLETE:
        return None
    if file.state is LogState.CUT and _ends_at_death(file, exits.get((host, writer, incarnation))):
        return None
    return Gap(name, f"{file.state}: {file.why}", host, writer)


def _named(name: str, file: LogFile) -> Writer:
    if file.header:
        return file.header.host, file.header.writer, file.header.incarnation
    host, _, rest = name.partition(".")
    return host, rest.partition(".")[0], 0


def _ends_at_death(file: LogFile, exited: Record | None) -> bool:
    return exited is not None and exited.fields.get("event_bytes") == file.size_bytes


def _missing(
    plan: Plan, files: Mapping[str, LogFile], hosts: Collection[str], exits: Mapping[Writer, Record]
) -> Iterator[Gap]:
    if not any(f.header and f.header.writer == CONDUCTOR for f in files.values()):
        yield Gap(event_file_name(CONDUCTOR, CONDUCTOR, 1), "missing", CONDUCTOR, CONDUCTOR)
    seen = {f.header.host for f in files.values() if f.header} - {CONDUCTOR}
    with_agent = {f.header.host for f in files.values() if f.header and f.header.writer == AGENT}
    planned = {*(s.name for s in plan.services), *plan.foreign_clients}
    for host in sorted((seen | planned | set(hosts)) - with_agent):
        yield Gap(event_file_name(host, AGENT, 1), "missing", host, AGENT)
    foreign = {s.name for s in plan.services if not isinstance(s, ReferenceService)} | set(plan.foreign_clients)
    for host, writer, incarnation in _started(files):
        name = event_file_name(host, writer, incarnation)
        if host not in foreign and name not in files and not _wrote_nothing(exits.get((host, writer, incarnation))):
            yield Gap(name, "missing, though its program was started", host, writer)


def _started(files: Mapping[str, LogFile]) -> Iterator[Writer]:
    for file in files.values():
        if file.header and file.header.writer == AGENT:
            for r in file.records:
                if r.event == Event.STARTED:
                    yield r.host, PROGRAM, r.fields.get("incarnation", 0)


def _wrote_nothing(exited: Record | None) -> bool:
    return exited is not None and not exited.fields.get("event_bytes")


def _strangers(plan: Plan, files: Mapping[str, LogFile], run: str) -> Iterator[Gap]:
    """Files of another run, seed or plan."""
    headers = [(name, f.header) for name, f in sorted(files.items()) if f.header]
    if not headers:
        return
    _, first = next(((name, h) for name, h in headers if h.writer == CONDUCTOR), headers[0])
    run, own = run or first.run, plan.hash
    for name, h in headers:
        if h.plan != own:
            yield Gap(name, f"belongs to the plan {h.plan}, not to {own}", h.host, h.writer)
        elif h.run != run:
            yield Gap(name, f"belongs to the run {h.run}, not to {run}", h.host, h.writer)
        elif h.seed != plan.seed:
            yield Gap(name, f"says the seed {h.seed}, and the plan {plan.seed}", h.host, h.writer)
