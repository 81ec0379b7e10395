"""A simulated world: a clock that jumps, an event loop on it, and a testbed whose hosts are a few lines of Python.

The runner and the conductor under test are the real ones. What is simulated behaves as the real agents and programs do,
as far as the runner can see: every record comes through the inbox, every request is answered later, never at once.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from midsession.agent.protocol import (
    NOTHING_TO_HEAL,
    Destroy,
    Filter,
    Finish,
    Freeze,
    Kill,
    Link,
    Records,
    Relink,
    Reply,
    Request,
    Start,
    Status,
    Stop,
    Subscribe,
    Tell,
    Thaw,
    Unfilter,
)
from midsession.core.job import Go, Job, Signal, decode_job, decode_order
from midsession.core.plan import Plan
from midsession.core.record import Record
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds import Inbox

T = TypeVar("T")
SECOND = 1_000_000_000


class FakeClock:
    """CLOCK_MONOTONIC that stands still until it is moved."""

    def __init__(self, now_ns: int = 1000 * SECOND) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move on, rounded up to a nanosecond."""
        self.now_ns += math.ceil(seconds * SECOND)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: when nothing is ready, time moves on by as much as would have been waited."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise AssertionError("everything waits, and nothing can ever happen")
        if not ready and timeout:
            self._clock.advance(timeout)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on a `FakeClock`: a wait of an hour takes no time, and a wait without an end is an error."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._fake_clock = clock

    def time(self) -> float:
        return self._fake_clock.now_ns / SECOND


def run_on(clock: FakeClock, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a `JumpingLoop`."""
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(clock)) as runner:
        return runner.run(main)


class FakeHost:
    """A host whose agent and program are simulated. Programs start in `start_s`, and `obey` says what they do.

    A client program never listens, and exits with code 0 after `life_s`. A service says itself that it listens,
    unless `ready_by` says by what its agent sees it. `takes_s` is how long the answers to kinds of
    requests take. `deaf` names those that are never answered, `idle` those that are answered and not carried out,
    `sick` those that are refused, `failing` those whose answer is that error; to ask for one of `mistaken` raises
    ZeroDivisionError. `log` is every request, in order.
    """

    clock = "fake/time:[1]"
    python: Sequence[str] = ("python",)
    programs: str | None = None
    spare_address: str | None = None

    def __init__(self, name: str, address: str, world: FakeTestbed) -> None:
        self.name, self.address = name, address
        self.log: list[Request] = []
        self.deaf: set[type[Any]] = set()
        self.idle: set[type[Any]] = set()
        self.sick: set[type[Any]] = set()
        self.failing: dict[type[Any], Exception] = {}
        self.mistaken: set[type[Any]] = set()
        self.start_s = 0.2
        self.takes_s: dict[type[Any], float] = {}
        self.life_s: float | None = None
        self.ready_by = ""
        self.events: frozenset[str] = frozenset()
        self.running = self.listens = False
        self.incarnation = 0
        self._world = world
        self._seqs: dict[str, int] = {}

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Carry it out at once, answer in the loop's next round."""
        self.log.append(request)
        if type(request) in self.mistaken:
            raise ZeroDivisionError(f"ours, in {type(request).__name__}")
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda f: f.cancelled() or f.exception())
        if type(request) not in self.deaf:
            error = self.failing.get(type(request)) or self._refusal(request)
            if error is None and type(request) not in self.idle:
                self._carry_out(request)
            takes_s = self.takes_s.get(type(request), 0.0)
            asyncio.get_running_loop().call_later(takes_s, self._give, answer, error, self._value(request))
        return answer

    def says(self, event: str, writer: str = "agent", client: str | None = None, **fields: Any) -> None:
        """Write one record; it is pushed when it is subscribed."""
        self._seqs[writer] = self._seqs.get(writer, 0) + 1
        record = Record(event, self._seqs[writer], self._world.clock(), client, None, fields)
        if event in self.events:
            line = msgspec.Raw(msgspec.json.encode(record))
            incarnation = self.incarnation if writer == "program" else 1
            batch = Records(host=self.name, writer=writer, incarnation=incarnation, records=[line])
            self._world.inbox.records(batch)

    def tells(self, event: str, **fields: Any) -> None:
        """The agent writes one record; that of a client program's host names the client."""
        self.says(event, client=self.name if self.name in self._world.foreign else None, **fields)

    def exits(
        self, code: int | None = None, signal: str | None = None, by: str | None = None, stopped: bool = False
    ) -> None:
        """The program ends."""
        self.running = self.listens = False
        more = {"stopped": True} if stopped else {}
        self.tells("exited", code=code, signal=signal, incarnation=self.incarnation, by=by, **more)
        self._world.changed()

    def _refusal(self, request: Request) -> HarnessError | None:
        match request:
            case Start() if self.running:
                return self._refused("the program runs already")
            case Kill() | Stop() | Freeze() | Thaw(cure=False) | Tell() if not self.running:
                return self._refused("no program runs")
        return self._refused("it does not work here") if type(request) in self.sick else None

    def _refused(self, why: str) -> HarnessError:
        return HarnessError(f"the agent on {self.name} refused: {why}", "agent-refused")

    def _carry_out(self, request: Request) -> None:
        match request:
            case Subscribe(events=events):
                self.events = frozenset(events)
            case Start():
                self._start(request)
            case Kill(signal=signal, fault=fault):
                self._injected(fault, "kill")
                self.exits(signal=signal, by=fault)
            case Stop(fault=fault):
                self._injected(fault, "stop")
                self.exits(code=0, by=fault or None, stopped=not fault)
            case Freeze(fault=fault):
                self._injected(fault, "freeze")
                self.says("frozen", fault=fault, pids=1)
            case Thaw(fault=fault) if self.running:
                self.says("thawed", fault=fault, pids=1)
                self.says("healed", fault=fault)
            case Filter(fault=fault):  # no packet passes that a rule could hit
                self._injected(fault, "filter")
            case Unfilter(fault=fault):
                self.says("healed", fault=fault, packets=0, bytes=0)
            case Destroy(fault=fault):
                self._injected(fault, "destroy")
                self.says("witnessed", fault=fault, by="sockets", sockets=1)
            case Tell(line=line):
                self._world.told(self, line)

    def _start(self, request: Start) -> None:
        self.running = True
        self.incarnation += 1
        self._injected(request.fault, "start")
        self.tells("started", pid=1, incarnation=self.incarnation, argv=request.argv)
        if self.name not in self._world.foreign:
            asyncio.get_running_loop().call_later(self.start_s, self._listens, request)
        elif self.life_s is not None:
            asyncio.get_running_loop().call_later(self.life_s, self._ends_by_itself)

    def _ends_by_itself(self) -> None:
        if self.running:
            self.exits(code=0)

    def _listens(self, request: Start) -> None:
        if self.running:
            self.listens = True
            if self.ready_by:
                self.tells("listening", port=4000, by=self.ready_by, incarnation=self.incarnation)
            else:
                self.says("listening", "program", port=4000)
            self._world.changed()

    def _injected(self, fault: str, verb: str) -> None:
        if fault:
            self.tells("injected", fault=fault, verb=verb, began_ns=self._world.clock())

    def _value(self, request: Request) -> dict[str, Any]:
        if isinstance(request, Status):
            return {"listening": ["0.0.0.0:4000"] if self.listens else []}
        return NOTHING_TO_HEAL if self._has_nothing_to_heal(request) else {}

    def _has_nothing_to_heal(self, request: Request) -> bool:
        """It cures what was never asked for."""
        asked = {r.fault for r in self.log if isinstance(r, Freeze | Link)}
        return isinstance(request, Thaw | Relink) and request.fault not in asked

    def _give(self, answer: asyncio.Future[Reply], error: Exception | None, value: dict[str, Any]) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(Reply(id=0, t_ns=self._world.clock(), value=value))
        else:
            answer.set_exception(error)


class FakeClient:
    """A talker: replies every 100 ms while its server is up, is lost with it, comes back 50 ms after its return."""

    def __init__(self, name: str, host: FakeHost, world: FakeTestbed) -> None:
        self.name, self._host, self._world = name, host, world
        self._connected = False
        self._done = False

    def begin(self) -> None:
        """The session begins."""
        self.server_changed()
        self._talk()

    def server_changed(self) -> None:
        """The server came or went."""
        up = self._world.server_up
        if self._connected and not up:
            self._connected = False
            self._says("lost", how="eof")
        elif up and not self._connected and not self._done:
            asyncio.get_running_loop().call_later(0.05, self._connect)

    def ends(self, outcome: str = "ok") -> None:
        """The session is over."""
        if not self._done:
            self._done, self._connected = True, False
            self._says("done", outcome=outcome)

    def _connect(self) -> None:
        if self._world.server_up and not self._connected and not self._done:
            self._connected = True
            self._says("connected", local=f"{self._host.address}:40000", peer=self._world.peer)

    def _talk(self) -> None:
        if self._connected:
            self._says("replied")
        if not self._done and self._host.running:
            asyncio.get_running_loop().call_later(0.1, self._talk)

    def _says(self, event: str, **fields: Any) -> None:
        if self._host.running:
            self._host.says(event, "program", self.name, **fields)


class FakeTestbed:
    """A `Testbed` in memory, with the services of the plan and some fleets.

    `prepare` is called with the testbed when its hosts are there, for a test to change how they behave. `calls` tells
    what was asked of the testbed itself. `peer` is where clients are connected to.
    """

    name = "fake"
    doing = ""

    def __init__(
        self, clock: FakeClock, fleets: int = 1, prepare: Callable[[FakeTestbed], None] = lambda _: None
    ) -> None:
        self.clock = clock
        self.services: Mapping[str, FakeHost] = {}
        self.fleets: Sequence[FakeHost] = ()
        self.foreign: Mapping[str, FakeHost] = {}
        self.inbox: Inbox
        self.calls: list[str] = []
        self.clients: list[FakeClient] = []
        self.lacks: EnvironmentLacks | None = None
        self.unable: dict[str, str] = {}
        self.collect_error: Exception | None = None
        self.close_error: Exception | None = None
        self.open_takes_s = self.after_takes_s = self.collect_takes_s = self.close_takes_s = 0.0
        self.attended: list[str] = []
        """The services of which it was told that they are up."""
        self.peer = "10.0.0.2:4000"
        self._count, self._prepare = fleets, prepare

    @property
    def server_up(self) -> bool:
        """The service `server` listens."""
        return self.services["server"].listens

    def host(self, name: str) -> FakeHost:
        """A host by name."""
        return next(h for h in (*self.services.values(), *self.foreign.values(), *self.fleets) if h.name == name)

    def remedy_for(self, ability: str) -> str | None:
        """Nothing that a test has not taken away."""
        return self.unable.get(ability)

    async def open(self, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        """Make the hosts."""
        self.calls.append("open")
        if self.lacks is not None:
            raise self.lacks
        if self.open_takes_s:
            await _later(self.open_takes_s)
        self.inbox = inbox
        self.services = {s.name: FakeHost(s.name, f"10.0.0.{n + 2}", self) for n, s in enumerate(plan.services)}
        self.fleets = [FakeHost(f"client-{n + 1}", f"10.0.1.{n + 2}", self) for n in range(self._count)]
        self.foreign = {name: FakeHost(name, f"10.0.2.{n + 2}", self) for n, name in enumerate(plan.foreign_clients)}
        self._prepare(self)

    async def after_start(self, service: str) -> None:
        """Take as long as `after_takes_s` says, and note it."""
        if self.after_takes_s:
            await _later(self.after_takes_s)
        self.attended.append(service)

    async def collect(self, directory: Path) -> None:
        """Take as long as `collect_takes_s` says."""
        self.calls.append("collect")
        await _later(self.collect_takes_s)
        if self.collect_error is not None:
            raise self.collect_error

    async def close(self) -> None:
        """Take the hosts away, in as long as `close_takes_s` says."""
        self.calls.append("close")
        await _later(self.close_takes_s)
        if self.close_error is not None:
            raise self.close_error

    async def shut(self) -> None:
        """Nothing is left to let go of."""

    # --- what hosts ask of their world -----------------------------------------------------------------------------

    def told(self, host: FakeHost, line: str) -> None:
        """A fleet was told something."""
        match decode_order(line.encode()):
            case Go(t_ns=t_ns):
                delay_s = (t_ns - self.clock()) / SECOND
                self.clients += [FakeClient(name, host, self) for name in _clients(_job_of(host))]
                for client in self._clients_of(host):
                    asyncio.get_running_loop().call_later(delay_s, client.begin)
            case Signal(name="goodbye"):
                for client in self._clients_of(host):
                    client.ends()

    def changed(self) -> None:
        """A service came or went."""
        for client in self.clients:
            client.server_changed()

    def _clients_of(self, host: FakeHost) -> list[FakeClient]:
        return [client for client in self.clients if client._host is host]


def finished(host: FakeHost) -> bool:
    """The host's agent was asked to finish, and that was the last it was asked."""
    return isinstance(host.log[-1], Finish)


def _job_of(host: FakeHost) -> Job:
    start = next(r for r in host.log if isinstance(r, Start))
    return decode_job(start.files["job.json"].encode())


def _clients(job: Job) -> list[str]:
    return [f"{group.name}-{client.number}" for group in job.groups for client in group.clients]


async def _later(seconds: float) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, future.set_result, None)
    await future
