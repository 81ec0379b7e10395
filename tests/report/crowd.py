"""A made-up run to draw: some talkers in conversation when their server is killed; it comes back, and so do they."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from midsession.core.history import History
from midsession.core.logfile import LogFile, read_log
from midsession.core.plan import (
    After,
    CheckPlan,
    ClientPlan,
    End,
    GroupPlan,
    OnEvent,
    Plan,
    ReferenceService,
    Step,
    substream,
)
from midsession.core.record import Event, Header, Log, event_file_name
from midsession.core.verdict import Finding, Status, Verdict

MS = 1_000_000
ZERO_NS = 5_000_000_000
INFO = {
    "run": "k3v9",
    "testbed": "compose",
    "hosts": {"server": {"address": "172.30.0.2"}, "client-1": {"address": "172.30.0.3"}},
    "versions": {"midsession": "0.1.0", "python": "3.11.2"},
}


def plan_for(clients: int, name: str = "The server is killed mid-session") -> Plan:
    people = [ClientPlan(n, n * 0.01, substream(7, "client", f"talkers-{n}")) for n in range(1, clients + 1)]
    return Plan(
        name=name,
        about="Everybody is in conversation when the server dies.",
        source="scenarios/kill/server-dies-mid-session.scenario.yaml",
        seed=7,
        timeout_s=60.0,
        services=[ReferenceService(name="server", port=4000)],
        groups=[GroupPlan("talkers", "server", 4000, [End()], people)],
        timeline=[
            Step("crash", OnEvent(event="replied", of="talkers", count=20), "kill", {"target": "server"}),
            Step("return", After(step="crash", wait_s=2.0), "start", {"target": "server"}),
        ],
        checks=[CheckPlan("every", {"group": "talkers", "meets": "lost"}, "every: talkers", "x.scenario.yaml:40:5")],
    )


class Scribe:
    """A writer's file in memory, with a clock that is set by hand."""

    def __init__(self, plan: Plan, host: str, writer: str, incarnation: int = 1) -> None:
        self.name = event_file_name(host, writer, incarnation)
        self.data = bytearray()
        self.now_ns = ZERO_NS
        header = Header(
            run="k3v9", host=host, writer=writer, incarnation=incarnation, pid=9, clock="boot/time:[1]", seed=7,
            plan=plan.hash,
        )  # fmt: skip
        self._log = Log(header, self._write, lambda: self.now_ns)

    def _write(self, line: bytes) -> int:
        self.data += line
        return len(line)

    def at(self, t_ns: int, event: Event, client: str | None = None, connection: int | None = None, **f: Any) -> Scribe:
        self._log.append(event, client, connection, f, t_ns=ZERO_NS + t_ns)
        return self

    def close(self) -> tuple[str, LogFile]:
        self._log.close()
        return self.name, read_log(bytes(self.data))


CRASH, RETURN, OVER = 1500 * MS, 3500 * MS, 5000 * MS


def crowd(clients: int = 50, said: str = "Hi 👋", return_too: bool = True) -> History:
    """The history. `said` is what each client says, and the server's last line of output."""
    plan = plan_for(clients)
    files = [_conductor(plan).close(), _agent(plan, said, return_too).close(), _fleet(plan, said, return_too).close()]
    return History.of(plan, dict(files))


def _conductor(plan: Plan) -> Scribe:
    log = Scribe(plan, "conductor", "conductor").at(0, Event.BEGUN, plan=plan.hash, seed=7, name=plan.name)
    by = {"host": "client-1", "writer": "program", "incarnation": 1, "seq": 40, "event": "replied"}
    by |= {"client": "talkers-2", "t_ns": ZERO_NS + CRASH - 400_000}
    log.at(CRASH, Event.TRIGGERED, step="crash", verb="kill", by=by, lag_ns=400_000)
    gone = {"host": "server", "writer": "agent", "incarnation": 1, "seq": 4, "event": "exited", "t_ns": ZERO_NS + CRASH}
    log.at(CRASH + 3 * MS, Event.EFFECTIVE, step="crash", witness=gone, after_ns=1_200_000)
    log.at(RETURN, Event.TRIGGERED, step="return", verb="start", by=None, lag_ns=0)
    return log.at(OVER, Event.ENDED, why="done", unfired=[])


def _agent(plan: Plan, said: str, return_too: bool) -> Scribe:
    log = Scribe(plan, "server", "agent").at(-80 * MS, Event.STARTED, pid=11, incarnation=1, argv=["python", "-m", "s"])
    log.at(-20 * MS, Event.LISTENING, port=4000, by="line")
    log.at(10 * MS, Event.LINE, stream="stdout", text=f"talkers-1 says {said}", incarnation=1)
    log.at(CRASH + MS, Event.INJECTED, fault="crash", verb="kill", began_ns=ZERO_NS + CRASH + 200_000)
    log.at(CRASH + 2 * MS, Event.EXITED, code=None, signal="KILL", pid=11, incarnation=1, by="crash")
    if return_too:
        log.at(RETURN + MS, Event.INJECTED, fault="return", verb="start", began_ns=ZERO_NS + RETURN + 100_000)
        log.at(RETURN + 2 * MS, Event.STARTED, pid=12, incarnation=2, argv=["python", "-m", "s"])
        log.at(RETURN + 90 * MS, Event.LISTENING, port=4000, by="line")
    return log


def _fleet(plan: Plan, said: str, return_too: bool) -> Scribe:
    log = Scribe(plan, "client-1", "program")
    moments = sorted(
        (m for c in plan.groups[0].clients for m in _session(c.number, said, return_too)), key=lambda m: m[0]
    )
    for t_ns, event, client, connection, fields in moments:
        log.at(t_ns, event, client, connection, **fields)
    return log


Moment = tuple[int, Event, str, int, dict[str, Any]]


def _session(number: int, said: str, return_too: bool) -> Iterator[Moment]:
    who, chance = f"talkers-{number}", random.Random(number)
    t, n, connection = number * 10 * MS, 0, 1

    def talk(until: int) -> Iterator[Moment]:
        nonlocal t, n
        while t < until - 60 * MS:
            n += 1
            rtt = chance.randint(200_000, 900_000)
            yield t, Event.SENT, who, connection, {"n": n, "bytes": len(said), "text": said}
            yield t + rtt, Event.REPLIED, who, connection, {"n": n, "text": "Got it ✅", "rtt_ns": rtt}
            t += chance.randint(10, 60) * MS

    def connect() -> Iterator[Moment]:
        nonlocal t
        yield t, Event.CONNECTING, who, connection, {"to": "server:4000"}
        t += 300_000
        local = f"172.30.0.3:{40000 + number}"
        yield t, Event.CONNECTED, who, connection, {"local": local, "peer": "172.30.0.2:4000", "took_ns": 300_000}

    yield from connect()
    yield from talk(CRASH)
    t = CRASH + 2 * MS + number * 10_000
    yield t, Event.LOST, who, connection, {"how": "eof" if number % 7 else "reset"}
    yield t, Event.CLOSED, who, connection, {"had_error": number % 7 == 0, "bytes_in": 9, "bytes_out": 9}
    delay = 100 * MS
    attempt = 0
    back = RETURN + 90 * MS if return_too else OVER
    while t + delay < OVER and t <= back:
        attempt += 1
        yield t, Event.RECONNECTING, who, connection, {"attempt": attempt, "delay_s": delay / 1e9}
        t += round(delay * chance.uniform(0.8, 1.2))
        delay = min(delay * 2, 1000 * MS)
        connection += 1
        if t > back:
            break
        yield t, Event.CONNECTING, who, connection, {"to": "server:4000"}
        t += 200_000
        yield t, Event.ERROR, who, connection, {"how": "refused", "errno": "ECONNREFUSED", "message": "refused"}
        yield t, Event.LOST, who, connection, {"how": "refused"}
        yield t, Event.CLOSED, who, connection, {"had_error": True, "bytes_in": 0, "bytes_out": 0}
    if t > back:
        yield from connect()
        yield from talk(OVER - 100 * MS - number * MS)
        yield t, Event.CLOSED, who, connection, {"had_error": False, "bytes_in": 99, "bytes_out": 99}
    yield t, Event.DONE, who, connection, {"outcome": "ok" if t > back else "gave_up"}


def verdict_on(history: History, said: str = "") -> Verdict:
    """Four findings, one of each status, with witnesses."""
    losses = list(history.events("lost"))
    return Verdict.of(
        [
            Finding(
                check="every",
                status=Status.PASS,
                promise="every talkers meets lost within 1 s since crash",
                seen=f"50 of 50 within 3.1 ms (median 2.3 ms) {said}",
                support=50,
                witnesses=losses[:1],
                place="x.scenario.yaml:40:5",
                measures={"slowest_s": 0.0031},
            ),
            Finding(
                check="every",
                status=Status.FAIL,
                promise="every talkers meets connected within 0.1 s since return",
                seen=f"48 of 50; 2 did not: talkers-3, talkers-4 {said}",
                support=50,
                witnesses=losses[1:2],
                offenders=["talkers-3", "talkers-4"],
                place="x.scenario.yaml:45:5",
            ),
            Finding(
                check="never",
                status=Status.INCONCLUSIVE,
                promise=f"never protocol_error {said}",
                seen="client-1.program.1.jsonl: no trailer",
                place="x.scenario.yaml:50:5",
            ),
        ]
    )
