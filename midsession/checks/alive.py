"""Whether every service lived until something was done to it: a crash is never silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import build, words
from midsession.checks.base import Check
from midsession.core.history import AGENT, History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Alive(Check):
    """No service's program exits by itself, whatever its exit code: a step of the timeline ends it, or the run's end.

    It is a step's doing when the program ended by the step's signal: it died of it, or caught it and exited with a
    code. Where nobody knows whether it did (see [`kill`](faults.md#kill)), this is inconclusive. Death by a signal that
    it was not sent is a crash, also on the way out. A service that is meant to exit by itself says so with an `exit`
    check: the one exit that such a check looks at is that check's business alone. A service whose agent's log is not
    whole is inconclusive.
    """

    kind: ClassVar[str] = "alive"

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return "no service exits by itself"

    def judge(self, history: History) -> Finding:
        """Look at every exit of every service's program, also in the last moment of the run."""
        services = [service.name for service in history.plan.services]
        exits = [record for service in services for record in _own_exits(history, service)]
        deaths = [record for record in exits if record.fields.get("maybe") not in history.steps]
        unknown = [record for record in exits if record not in deaths]
        gaps = [gap for service in services for gap in history.gaps_of(service, AGENT)]
        return Finding(
            check=self.kind,
            status=Status.FAIL if deaths else Status.INCONCLUSIVE if gaps or unknown else Status.PASS,
            promise=self.promise,
            seen=words.listing(_death(history, record) for record in deaths)
            or words.listing([*map(str, gaps), *(_perhaps(history, record) for record in unknown)])
            or f"{words.plural(len(services), 'service')}, none of which ended but by a step or with the run",
            support=len(services),
            witnesses=(deaths or unknown)[: words.SHOWN],
            offenders=sorted({record.host for record in deaths or unknown}),
        )


def _own_exits(history: History, service: str) -> list[Record]:
    exits = history.events(Event.EXITED).on(service).by(AGENT)
    own = [r for r in exits if r.fields.get("by") not in history.steps and not r.fields.get("stopped")]
    claimed = [r for check in history.plan.checks for r in build(check.kind, check.args).claims(history)] if own else []
    return [r for r in own if r not in claimed]


def _perhaps(history: History, record: Record) -> str:
    at = words.offset(record.t_ns, words.origin_of(history, None))
    return f"{record.host} {words.how_it_exited(record)} {at}: by itself, or late by {record.fields['maybe']}"


def _death(history: History, record: Record) -> str:
    at = words.offset(record.t_ns, words.origin_of(history, None))
    text = f"{record.host} {words.how_it_exited(record)} by itself {at}".strip()
    said = history.events(Event.LINE).on(record.host).where(incarnation=record.fields.get("incarnation")).last
    return f"{text}; its last line: {str(said.fields.get('text'))[:200]!r}" if said else text
