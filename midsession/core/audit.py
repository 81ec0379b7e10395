"""The audit: can this check fail at all? Each check that passed is judged again over the same run, spoilt.

A history is spoilt in small, whole ways: all records of one event are gone, or come a day late, or say something else,
or there are more of them than there were. Its logs stay whole, so that nothing is inconclusive only for a missing log.
A check that fails over none of these histories, and is not even in doubt about its own events, promises nothing that
this run could have broken (PROMISES: a check that cannot fail is found). Spoiling knows no check: what a check looks
for is read from its fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from midsession.core.history import AGENT, FOREVER, PROGRAM, History
from midsession.core.judge import Build, judge_check
from midsession.core.logfile import LogFile
from midsession.core.plan import CheckPlan, Plan
from midsession.core.record import Event, Record
from midsession.core.reliance import named
from midsession.core.verdict import Finding, Status
from midsession.core.whose import OF_AGENTS, OF_CLIENTS, OF_SERVERS

DAY_NS = 86_400 * 10**9
MOST_COPIES = 20_000
Files = Mapping[str, LogFile]
Change = Callable[[Sequence[Record]], Sequence[Record]]
Spoil = tuple[str, Callable[[], Files]]

_OWN = frozenset({Event.BEGUN, Event.TRIGGERED, Event.INJECTED, Event.EFFECTIVE, Event.ENDED})
"""What tells when the steps were and when the run ended: spoiling that would only move the ground under a check."""
_OF_CLIENTS = OF_CLIENTS - {Event.DONE}


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit found about one check: whether it can fail, how (`spoilt`), and what it then said (`seen`).

    `over_nothing` is what it says of a run without any record, which may not be a pass.
    """

    check: str
    promise: str
    place: str
    passed: bool
    can_fail: bool
    spoilt: str
    seen: str
    tried: int
    over_nothing: Status


def audit(plan: Plan, files: Files, hosts: Collection[str], build: Build) -> list[Audited]:
    """Audit every check of the plan over its run, in the plan's order."""
    run = _Run(History.of(plan, files, hosts), files, hosts, build)
    return [_audit_one(check, run) for check in plan.checks]


@dataclass(frozen=True, slots=True)
class _Run:
    """The run as it was, and how to judge a check over it with other files."""

    history: History
    files: Files
    hosts: Collection[str]
    build: Build

    def judge(self, check: CheckPlan, files: Files | None = None) -> Finding:
        spoilt = self.history if files is None else History.of(self.history.plan, files, self.hosts)
        return judge_check(check, spoilt, self.build)


def _audit_one(check: CheckPlan, run: _Run) -> Audited:
    as_it_was = run.judge(check)
    spoilt, seen, tried = _toothed(check, run, as_it_was)
    over_nothing = run.judge(check, {}).status
    if over_nothing is Status.PASS:
        spoilt, seen = "", "it passes over no record at all"
    return Audited(
        check=as_it_was.check,
        promise=as_it_was.promise,
        place=as_it_was.place,
        passed=as_it_was.status is Status.PASS,
        can_fail=bool(spoilt),
        spoilt=spoilt,
        seen=seen,
        tried=tried,
        over_nothing=over_nothing,
    )


def _toothed(check: CheckPlan, run: _Run, as_it_was: Finding) -> tuple[str, str, int]:
    """How the check was brought to fail (empty: not at all), what it then said, and how many spoilt runs it took."""
    if as_it_was.status in (Status.FAIL, Status.ERROR):
        return "in this run as it is", as_it_was.seen, 1
    tried = 0
    for spoilt, spoil in _spoils(check, run.history, run.files):
        tried += 1
        finding = run.judge(check, spoil())
        if finding.status is Status.FAIL:
            return spoilt, finding.seen, tried
    said = "passes" if as_it_was.status is Status.PASS else f"is {as_it_was.status} in this run and fails"
    in_ = "all" if as_it_was.status is Status.PASS else "none"
    return "", f"it {said} in {in_} of {tried} spoilt runs", tried


# --- spoiling ------------------------------------------------------------------------------------------------------


def _spoils(check: CheckPlan, history: History, files: Files) -> Iterator[Spoil]:
    """The ways to spoil a run, those with the events that the check names first."""
    meant = [Event(word) for word in _words(check.args) if word in _EVENTS]
    there = [Event(name) for name in dict.fromkeys(r.event for r in history) if name not in _OWN]
    copies, fields = min(MOST_COPIES, 1 + max(_numbers(check.args), default=0)), _fields(check.args)
    for event in dict.fromkeys([*meant, *there]):
        yield f"without any {event}", partial(_each, files, event, _gone)
        yield f"every {event} a day late", partial(_each, files, event, _late)
        yield f"every {event} says something else", partial(_each, files, event, _altered)
        yield f"without every other {event}", partial(_of_each_client, files, event, lambda found: found[::2])
        yield f"every {event} twice", partial(_of_each_client, files, event, _twice)
        yield f"what {event} says in reverse order", partial(_of_each_client, files, event, _reversed)
        yield f"{event} again and again", partial(_more, history, files, event, fields, copies)
    for step, t_ns in _ends(check.args, history):
        for event in dict.fromkeys(meant):
            yield f"{event} just before {step}", partial(_more, history, files, event, fields, copies, t_ns)
    for event in dict.fromkeys(meant):
        yield f"without any {event}, and the end a day late", partial(_endless, files, event)


_EVENTS = frozenset(event.value for event in Event) - {event.value for event in _OWN}


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in _inner(value):
        yield from _words(inner)


def _ends(args: object, history: History) -> Iterator[tuple[str, int]]:
    """The steps before which the check counts, with the last instant before each."""
    for step in dict.fromkeys(named(args, "until")):
        story = history.steps.get(step)
        if story is not None and story.instant_ns is not None:
            yield step, story.instant_ns - 1


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    for inner in _inner(value):
        yield from _numbers(inner)


def _inner(value: object) -> Collection[object]:
    return list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()


def _fields(args: object) -> dict[str, Any]:
    """The fields of a record that a check with these fields means."""
    found: dict[str, Any] = {}
    for inner in [args, *_inner(args)]:
        if isinstance(inner, Mapping):
            found |= inner.get("where", {})
            found |= {"how": inner["as_"]} if inner.get("as_") else {}
            found |= _text(inner)
            found |= _fields(list(_inner(inner))) if inner is not args else {}
    return found


def _text(args: Mapping[str, Any]) -> dict[str, Any]:
    """A line that a `contains` or `matches` finds; of an expression, where it is a simple one."""
    contains, matches = args.get("contains"), args.get("matches")
    if isinstance(contains, str):
        return {"text": contains}
    return {"text": _matched(matches)} if isinstance(matches, str) else {}


_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": " ", "S": "a", "b": "", "B": "", "A": "", "z": ""}
_PART = re.compile(
    r"\\(?P<escaped>.)|\[(?P<set>[^^\]\\])[^\]]*\]|(?P<not>\[\^[^\]]*\])|\|[^()|]*|(?P<any>\.)|\(\?:|\{[0-9,]*\}|[\^$?*+()]"
)


def _matched(expression: str) -> str:
    """What a simple expression matches: its plain characters, one for a class or a set, of branches the first.

    `^ERROR \\d+$` gives `ERROR 0`.
    """

    def plain(part: re.Match[str]) -> str:
        if part["escaped"]:
            return _CLASSES.get(part["escaped"], part["escaped"])
        return part["set"] or ("a" if part["any"] or part["not"] else "")

    return _PART.sub(plain, expression)


def _each(files: Files, event: str, change: Callable[[Record], Record | None]) -> Files:
    """The files with each record of the event changed, or gone (None)."""

    def spoilt(records: Sequence[Record]) -> Sequence[Record]:
        changed = (change(r) if r.event == event else r for r in records)
        return [r for r in changed if r is not None]

    return {name: _with(file, spoilt(file.records)) for name, file in files.items()}


_ENDS = frozenset({Event.DONE, Event.EXITED, Event.ENDED})


def _endless(files: Files, event: str) -> Files:
    """The files without the event, of a run that waited for it: what ended the run, or somebody in it, came later."""
    return {
        name: _with(file, [_late(r) if r.event in _ENDS else r for r in file.records if r.event != event])
        for name, file in files.items()
    }


def _of_each_client(files: Files, event: str, change: Change) -> Files:
    """The files with the records of the event changed together, client by client; they keep their places."""
    return {name: _with(file, _changed(file.records, event, change)) for name, file in files.items()}


def _changed(records: Sequence[Record], event: str, change: Change) -> Sequence[Record]:
    of_client: dict[str | None, list[Record]] = {}
    for r in records:
        if r.event == event:
            of_client.setdefault(r.client, []).append(r)
    others = [r for r in records if r.event != event]
    # By instant, and what shares an instant by the place where it stood: a copy stands behind its original.
    return sorted([*others, *(r for found in of_client.values() for r in change(found))], key=lambda r: (r.t_ns, r.seq))


def _twice(found: Sequence[Record]) -> Sequence[Record]:
    return [r for r in found for _ in range(2)]


def _reversed(found: Sequence[Record]) -> Sequence[Record]:
    said = [r.fields for r in reversed(found)]
    return [msgspec.structs.replace(r, fields=fields) for r, fields in zip(found, said, strict=True)]


def _with(file: LogFile, records: Sequence[Record]) -> LogFile:
    numbered = [r if r.seq == n else msgspec.structs.replace(r, seq=n) for n, r in enumerate(records, 1)]
    return msgspec.structs.replace(file, records=numbered)


def _gone(_: Record) -> None:
    return None


def _late(record: Record) -> Record:
    return msgspec.structs.replace(record, t_ns=record.t_ns + DAY_NS)


def _altered(record: Record) -> Record:
    return msgspec.structs.replace(record, fields={key: _other(value) for key, value in record.fields.items()})


_OTHER_WORDS = {"ok": "lost", "lost": "ok", "eof": "reset", "reset": "eof", "refused": "timeout"}


def _other(value: object) -> object:
    """Another value of the same kind: numbers a thousand million times as large, words turned round."""
    if isinstance(value, str):
        return _OTHER_WORDS.get(value, f"{value[::-1]}…")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 10**9 + 1
    return value


def _more(
    history: History, files: Files, event: str, fields: dict[str, Any], copies: int, t_ns: int | None = None
) -> Files:
    """The files with so many more records of the event in each log whose writer could have written it: at that instant,
    else at the end."""
    return {name: _with(file, _longer(history, file, event, fields, copies, t_ns)) for name, file in files.items()}


def _longer(
    history: History, file: LogFile, event: str, fields: dict[str, Any], copies: int, t_ns: int | None
) -> Sequence[Record]:
    header, records = file.header, file.records
    if header is None:
        return records
    if header.writer == PROGRAM and event in _OF_CLIENTS and header.host in history.fleets:
        return _in_each_session(records, event, fields, copies, t_ns)
    service = header.writer == PROGRAM and header.host not in history.fleets and event in OF_SERVERS
    if not records or not (service or (header.writer == AGENT and event in OF_AGENTS)):
        return records
    last = records[-1]
    end_ns = min(last.t_ns, history.ended_ns) if history.ended_ns != FOREVER else last.t_ns
    extra = msgspec.structs.replace(
        last, event=event, connection=1, t_ns=end_ns if t_ns is None else t_ns, fields=fields
    )
    longer = [*records, *[extra] * copies]
    return longer if t_ns is None else sorted(longer, key=lambda r: r.t_ns)


def _in_each_session(
    records: Sequence[Record], event: str, fields: dict[str, Any], copies: int, t_ns: int | None
) -> Sequence[Record]:
    """At that instant, else before each client's `done`, as if its session had gone on."""
    longer: list[Record] = []
    for r in records:
        if r.event == Event.DONE:
            at_ns = r.t_ns if t_ns is None else t_ns
            how = {"how": "reset", **fields}
            longer += [msgspec.structs.replace(r, event=event, connection=1, t_ns=at_ns, fields=how)] * copies
        longer.append(r)
    return longer if t_ns is None else sorted(longer, key=lambda r: r.t_ns)
