"""How a service's program exits, or how the programs of a client group do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from signal import Signals
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.core.history import AGENT, CannotTell, History
from midsession.core.record import Event, Record
from midsession.core.refers import Programs, ServiceName, StepId
from midsession.core.verdict import Finding, Status
from midsession.core.wrong import Wrong, did_you_mean, quoted


@dataclass(frozen=True, slots=True)
class Exited:
    """Which exit: the first of the program of `service`, or of each client program of the group `clients`, at or after
    the step `since` where one is given."""

    service: ServiceName | None = None
    clients: Programs | None = None
    since: StepId | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `service` and `clients` is given."""
        words.refuse_no_subject(self.service, self.clients)

    def hosts(self, history: History) -> list[str]:
        """The hosts of the programs that are meant: of a group's, those that had not exited before `since`."""
        if self.clients is None:
            return words.hosts_of(history, self.service, None)
        since_ns = 0 if self.since is None else history.instant(self.since)
        hosts = words.hosts_of(history, None, self.clients)
        return [host for host in hosts if not history.was_over(host, since_ns)]


@dataclass(frozen=True, slots=True)
class Exit(Check):
    """The service's program exits with `code`, or by `signal` (a name without SIG); or each program of a client group.

    The first exit at or after `since` counts, be it the stop at the run's end; of a group, those programs are in scope
    that had not exited before `since`. A program that never exited, or an agent's log that is not whole, is
    inconclusive, unless another program's exit is a failure.
    """

    kind: ClassVar[str] = "exit"
    example: ClassVar[str] = """\
- exit: {service: server, since: crash}
  signal: KILL
- exit: {clients: drivers}
  code: 0
"""

    exit: Exited
    code: int | None = None
    signal: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `code` and `signal` is given, and Wrong for what is none."""
        if (self.code is None) == (self.signal is None):
            raise ValueError("say how it exits: either 'code' or 'signal'")
        if self.code is not None and not 0 <= self.code <= 255:
            raise Wrong("bad-value", f"no program exits with code {self.code}", "a code is from 0 to 255")
        if self.signal is not None and f"SIG{self.signal}" not in Signals.__members__:
            names = [name.removeprefix("SIG") for name in Signals.__members__]
            known = did_you_mean(self.signal.upper().removeprefix("SIG"), names)
            raise Wrong("bad-value", f"there is no signal {quoted(self.signal)}", known or "write it like KILL")

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        how = f"with code {self.code}" if self.signal is None else f"by SIG{self.signal}"
        subject = self.exit.service or f"each program of {self.exit.clients}"
        return f"{subject} exits {how}{f' after {self.exit.since}' if self.exit.since else ''}"

    def judge(self, history: History) -> Finding:
        """Look at each program's one exit."""
        origin_ns = words.origin_of(history, self.exit.since)
        exits = {host: _in_question(history, self.exit, host) for host in self.exit.hosts(history)}
        found = {host: record for host, record in exits.items() if record is not None}
        broken = [host for host, record in found.items() if not self._is_kept(record)]
        known = bool(exits) and len(found) == len(exits)
        return Finding(
            check=self.kind,
            status=Status.FAIL if broken else Status.PASS if known else Status.INCONCLUSIVE,
            promise=self.promise,
            seen=self._seen(history, exits, broken, origin_ns),
            support=len(found),
            witnesses=[found[host] for host in broken or found][: words.SHOWN],
            offenders=broken or [host for host, record in exits.items() if record is None],
        )

    def claims(self, history: History) -> list[Record]:
        """The one exit of a service's program that it looks at."""
        if self.exit.service is None:
            return []
        with suppress(CannotTell):  # its finding says so
            record = _in_question(history, self.exit, self.exit.service)
            return [record] if record else []
        return []

    def _is_kept(self, record: Record) -> bool:
        return (record.fields.get("code"), record.fields.get("signal")) == (self.code, self.signal)

    def _seen(
        self, history: History, exits: Mapping[str, Record | None], broken: list[str], origin_ns: int | None
    ) -> str:
        if not exits:
            return f"nothing in scope: no program of {self.exit.clients} was left at {self.exit.since}"
        shown = broken or [host for host, record in exits.items() if record is None] or list(exits)
        said = words.listing(self._told(history, host, exits[host], origin_ns, len(exits) > 1) for host in shown)
        kept = sum(record is not None and self._is_kept(record) for record in exits.values())
        return f"{kept} of {len(exits)} did; {said}" if len(exits) > 1 else said

    def _told(self, history: History, host: str, record: Record | None, origin_ns: int | None, named: bool) -> str:
        if record is None:
            gaps = history.gaps_of(host, AGENT)
            said = words.listing(map(str, gaps)) or "nothing in scope: its program never exited"
        else:
            said = f"{words.how_it_exited(record)} {words.offset(record.t_ns, origin_ns)}".strip()
        return f"{host}: {said}" if named else said


def _in_question(history: History, which: Exited, host: str) -> Record | None:
    """The `exited` record of a host that the check is about. Raises CannotTell for a `since` that never fired."""
    exits = history.events(Event.EXITED).on(host).by(AGENT)
    return (exits.since(which.since) if which.since else exits).first
