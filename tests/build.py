"""A small builder of histories: say what each writer saw and when, get the files that such a run would have left.

    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").connects(at=0.1).loses(at=1.01, how="eof").ends(at=1.02, outcome="lost")
    w.history().events("lost").since("crash")

Times are seconds since the beginning of the run. Everything that is not said is in order: every log is whole, the
programs were started and stopped, the run ended `done`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from midsession.core.history import History
from midsession.core.logfile import LogFile, read_log
from midsession.core.plan import (
    At,
    CheckPlan,
    ClientPlan,
    End,
    GroupPlan,
    Plan,
    Program,
    ReferenceService,
    Service,
    Step,
)
from midsession.core.record import Header, Log, event_file_name
from midsession.core.verdict import Verdict
from midsession.rundir import VERDICT

EPOCH_NS = 5_000_000_000_000
CLOCK = "boot/time:[1]"


def stored_verdict(directory: Path) -> Verdict:
    """What the `verdict.json` of a run directory says."""
    return msgspec.json.decode((directory / VERDICT).read_bytes(), type=Verdict)


def ns(at: float) -> int:
    """The instant of `at` seconds after the beginning of the run."""
    return EPOCH_NS + round(at * 1e9)


class Client:
    """One client's records; every method adds one (or a usual sequence) and returns the client."""

    def __init__(self, world: World, name: str, fleet: str) -> None:
        self._world, self.name, self.fleet, self._connection = world, name, fleet, 0

    def says(self, event: str, at: float, connection: int | None = None, **fields: Any) -> Client:
        """Any record, on the current connection unless one is named."""
        number = self._connection if connection is None else connection
        self._world.writer(self.fleet, "program").append((at, event, self.name, number or None, fields))
        return self

    def connects(self, at: float, to: str = "server:4000") -> Client:
        """A new connection is made."""
        self._connection += 1
        self.says("connecting", at, to=to)
        return self.says("connected", at, local=f"10.0.0.2:{40000 + self._connection}", peer="10.0.0.1:4000", took_ns=1)

    def is_refused(self, at: float, how: str = "refused") -> Client:
        """A new connection is tried and fails."""
        self._connection += 1
        self.says("connecting", at, to="server:4000").says("error", at, how=how, errno="ECONNREFUSED", message="no")
        return self.says("lost", at, how=how).says("closed", at, had_error=True, bytes_in=0, bytes_out=0)

    def talks(self, at: float, n: int = 1) -> Client:
        """A message is sent and answered."""
        self.says("sent", at, n=n, bytes=3, text="Hi\n").says("received", at, bytes=3, text="Yo\n")
        return self.says("replied", at, n=n, text="Yo", rtt_ns=1000)

    def loses(self, at: float, how: str = "eof") -> Client:
        """The connection is lost and closed."""
        return self.says("lost", at, how=how).says("closed", at, had_error=how != "eof", bytes_in=0, bytes_out=0)

    def closes(self, at: float) -> Client:
        """The connection ends as its own script wanted."""
        return self.says("closed", at, had_error=False, bytes_in=0, bytes_out=0)

    def ends(self, at: float, outcome: str = "ok") -> Client:
        """The session is over."""
        self._world.writer(self.fleet, "program").append((at, "done", self.name, None, {"outcome": outcome}))
        return self


Entry = tuple[float, str, str | None, int | None, dict[str, Any]]


class World:
    """A plan with a server and client groups (`World(talkers=3)`), and what its writers saw."""

    def __init__(self, services: list[Service] | None = None, **groups: int) -> None:
        self.services: list[Service] = [ReferenceService(name="server", port=4000)] if services is None else services
        self.groups = [_group(name, count) for name, count in groups.items()]
        self.timeline: list[Step] = []
        self.checks: list[CheckPlan] = []
        self.begun = True
        self.why: str | None = "done"
        self.unfired: list[dict[str, Any]] = []
        self.ended_at = 10.0
        self.fleet = "client-1"
        self.clocks: dict[str, str] = {}
        self.cut: set[str] = set()
        self.removed: set[str] = set()
        self.altered: dict[str, bytes] = {}
        self._writers: dict[tuple[str, str, int], list[Entry]] = {}
        self._clients: dict[str, Client] = {}
        self._dies: dict[tuple[str, int], tuple[float, dict[str, Any]]] = {}
        self._starts: dict[tuple[str, int], float] = {}
        self._extra: dict[tuple[str, str, int], list[Entry]] = {}
        for service in self.services:
            self.starts(service.name, at=-0.5)
            if isinstance(service, ReferenceService):
                self.writer(service.name, "program").append((-0.4, "listening", None, None, {"port": service.port}))
        if self.groups:
            self.starts(self.fleet, at=-0.3)

    # --- what is said ---

    def writer(self, host: str, writer: str, incarnation: int = 1) -> list[Entry]:
        """The entries of one file."""
        return self._writers.setdefault((host, writer, incarnation), [])

    def client(self, name: str, fleet: str | None = None) -> Client:
        """A client of a group, played by `fleet`."""
        if name not in self._clients:
            self._clients[name] = Client(self, name, fleet or self.fleet)
        return self._clients[name]

    def starts(self, host: str, at: float, incarnation: int = 1) -> World:
        """A host's program is started."""
        self._starts[host, incarnation] = at
        self.writer(host, "program", incarnation)
        return self

    def dies(self, host: str, at: float, incarnation: int = 1, signal: str | None = "KILL", **fields: Any) -> World:
        """A host's program dies without closing its file."""
        self._dies[host, incarnation] = (at, {"code": None if signal else 1, "signal": signal, **fields})
        self.cut.add(event_file_name(host, "program", incarnation))
        return self

    def programs(self, group: str, count: int) -> World:
        """A client group of programs, which says nothing yet; see `program`."""
        clients = [ClientPlan(n + 1, 0.0, "00") for n in range(count)]
        self.groups.append(GroupPlan(group, "server", 4000, [], clients, program=Program(argv=["driver"])))
        for name in self.groups[-1].names:
            self.writer(name, "agent")
        return self

    def program(
        self, client: str, *said: tuple[float, str], exits: float | None = 5.0, code: int | None = 0, **how: Any
    ) -> World:
        """A client program lives from 0.0 on, says these lines, and exits."""
        entries = self.writer(client, "agent")
        entries.append((0.0, "started", client, None, {"pid": 9, "incarnation": 1, "argv": ["driver"]}))
        entries += [(at, "line", client, None, {"stream": "stdout", "text": text}) for at, text in said]
        if exits is not None:
            end = {"code": code, "signal": None, "by": None, "incarnation": 1, "event_bytes": 0, **how}
            entries.append((exits, "exited", client, None, end))
        return self

    def step(
        self,
        step: str,
        at: float | None,
        verb: str = "kill",
        effective: bool = True,
        for_s: float | None = None,
        target: str = "server",
    ) -> World:
        """A step of the timeline; `at` None: it never fired."""
        args = {"target": target} if verb not in ("signal", "note") else {"name": step}
        self.timeline.append(Step(step, At(at_s=at or 0.0), verb, args, for_s, place=f"x.scenario.yaml:9:{len(step)}"))
        if at is None:
            self.unfired.append({"step": step, "missing": "37 of 50 connected"})
            return self
        self.conducts("triggered", at, step=step, verb=verb, by=None, lag_ns=1000)
        if verb in ("signal", "note", "heal"):
            return self
        fields = {"fault": step, "verb": verb, "began_ns": ns(at)}
        self.writer("server", "agent").append((at + 0.001, "injected", None, None, fields))
        if effective:
            witness = {"host": "server", "writer": "agent", "incarnation": 1, "seq": 1}
            self.conducts("effective", at + 0.002, step=step, witness=witness, after_ns=1_000_000)
        return self

    def heals(self, step: str, at: float, **fields: Any) -> World:
        """A fault is healed."""
        self.writer("server", "agent").append((at, "healed", None, None, {"fault": step, **fields}))
        return self

    def stalls(self, until: float, for_s: float, host: str = "client-1", writer: str = "program") -> World:
        """A writer was not run for so long, up to that instant."""
        entry: Entry = (until, "stalled", None, None, {"for_ns": round(for_s * 1e9)})
        self.writer(host, writer).append(entry)
        return self

    def conducts(self, event: str, at: float, **fields: Any) -> World:
        """A record of the conductor's."""
        self.writer("conductor", "conductor").append((at, event, None, None, fields))
        return self

    def agent(self, host: str, event: str, at: float, **fields: Any) -> World:
        """A record of an agent's."""
        self.writer(host, "agent").append((at, event, None, None, fields))
        return self

    def serves(
        self, event: str, at: float, connection: int | None = None, incarnation: int = 1, **fields: Any
    ) -> World:
        """A record of the server's."""
        self.writer("server", "program", incarnation).append((at, event, None, connection, fields))
        return self

    def check(self, kind: str, **args: Any) -> World:
        """A check of the plan."""
        self.checks.append(CheckPlan(kind, args, place=f"x.scenario.yaml:{20 + len(self.checks)}:5"))
        return self

    # --- what comes of it ---

    @property
    def plan(self) -> Plan:
        """The plan."""
        return Plan("a world", "x.scenario.yaml", 7, 60.0, self.services, self.groups, self.timeline, self.checks)

    def encoded(self) -> dict[str, bytes]:
        """The files of `events/`, as bytes."""
        programs = {k: self._encode(k, v) for k, v in self._writers.items() if k[1] == "program"}
        written = {event_file_name(*key): data for key, data in programs.items()}
        for (host, incarnation), at in self._starts.items():
            self._supervise(host, incarnation, at, written)
        others = {k: self._encode(k, v) for k, v in self._all_entries().items() if k[1] != "program"}
        written |= {event_file_name(*key): data for key, data in others.items()}
        return {name: data for name, data in (written | self.altered).items() if name not in self.removed}

    def files(self) -> dict[str, LogFile]:
        """The files, read back."""
        return {name: read_log(data) for name, data in self.encoded().items()}

    def history(self) -> History:
        """The history of this run."""
        return History.of(self.plan, self.files())

    def _supervise(self, host: str, incarnation: int, at: float, written: dict[str, bytes]) -> None:
        name = event_file_name(host, "program", incarnation)
        default = (self.ended_at + 0.5, {"code": 0, "signal": None, "by": None, "stopped": True})
        exited_at, fields = self._dies.get((host, incarnation), default)
        size = {"incarnation": incarnation, "event_bytes": len(written[name]), "event_file": name}
        self._tail(host).append((at, "started", None, None, {"pid": 9, "incarnation": incarnation, "argv": []}))
        self._tail(host).append((exited_at, "exited", None, None, {**size, **fields}))

    def _tail(self, host: str) -> list[Entry]:
        return self._extra.setdefault((host, "agent", 1), [])

    def _all_entries(self) -> dict[tuple[str, str, int], list[Entry]]:
        begun: Entry = (0.0, "begun", None, None, {"plan": "", "seed": 7, "name": "a world"})
        conductor: list[Entry] = [begun] if self.begun else []
        if self.why is not None:
            conductor.append((self.ended_at, "ended", None, None, {"why": self.why, "unfired": self.unfired}))
        extra, self._extra = {("conductor", "conductor", 1): conductor, **self._extra}, {}
        keys = [*self._writers, *(k for k in extra if k not in self._writers)]
        return {k: [*self._writers.get(k, []), *extra.get(k, [])] for k in keys}

    def _encode(self, key: tuple[str, str, int], entries: list[Entry]) -> bytes:
        host, writer, incarnation = key
        clock = self.clocks.get(host, CLOCK)
        header = Header(
            run="run-1",
            host=host,
            writer=writer,
            incarnation=incarnation,
            pid=1,
            clock=clock,
            seed=7,
            plan=self.plan.hash,
        )
        out = bytearray()

        def write(line: bytes) -> int:
            out.extend(line)
            return len(line)

        log = Log(header, write, lambda: 0)
        for at, event, client, connection, fields in sorted(entries, key=lambda e: e[0]):
            log.append(event, client, connection, fields, ns(at))
        if event_file_name(*key) not in self.cut:
            log.close()
        return bytes(out)


def _group(name: str, count: int) -> GroupPlan:
    clients = [ClientPlan(n + 1, 0.0, "00") for n in range(count)]
    return GroupPlan(name, "server", 4000, [End()], clients)
