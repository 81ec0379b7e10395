"""A host whose program is a container of its own: an image of the user's, or a service of their Compose file.

Its agent owns the network namespace and does not start the program; so what an agent does for other programs is done
here, through the Docker API, and written in the agent's place: the same records, into the file of writer `agent`. What
concerns the network is asked of the agent, and its records of that go into the same file.

What differs from a program under an agent, because the engine knows a container only as a whole:
- a signal other than KILL goes to the container's first process alone (`docker kill`); KILL ends all of them;
- `pause` freezes the whole container (the cgroup freezer), so it needs no SIGSTOP; its records carry no `pids`;
- an exit code of 137 after our SIGKILL is that signal; any other code above 128 stays a code, since a first process may
  give it by itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from midsession.agent.blow import Blow, Exit, blame
from midsession.agent.output import Lines, OnLine, line_fields
from midsession.agent.procfs import own_clock
from midsession.agent.protocol import (
    NOTHING_TO_HEAL,
    AwaitPort,
    Configure,
    Finish,
    Freeze,
    Kill,
    Records,
    Reply,
    Request,
    Start,
    Status,
    Stop,
    Subscribe,
    Tell,
    Thaw,
)
from midsession.core.record import Event, Header, Log, decode_line, event_file_name
from midsession.errors import HarnessError
from midsession.testbeds import Inbox
from midsession.testbeds.docker.archive import LOGS, unpack_logs
from midsession.testbeds.docker.attached import STDERR, Outputs, attach_socket, open_outputs
from midsession.testbeds.docker.engine import errors, explain, in_thread, not_found
from midsession.testbeds.link import AgentLink

if TYPE_CHECKING:
    import docker

_KILLED = 128 + 9
_LAST_WORDS_S = 2.0
_READY_WITHIN_S = 3600.0
"""Readiness is bounded by the runner; the agent gives up looking some time after that."""
_STREAMS = {STDERR: "stderr"}


class ContainerHost:
    """A `Host` (see `midsession.testbeds`) whose program is the container `container`. `link` leads to its agent.

    It serves one run: the next has another one. `keeps_logs`: the container has a directory for files of the program's
    own. `is_finished`: the run has come to an orderly end here, and the program does not run any more.
    """

    def __init__(
        self,
        name: str,
        address: str,
        api: docker.APIClient,
        container: str,
        link: AgentLink,
        inbox: Inbox,
        keeps_logs: bool = False,
        spare_address: str | None = None,
    ) -> None:
        self.name, self.address, self.container, self.link = name, address, container, link
        self.clock = own_clock()
        self.python: Sequence[str] = ["python"]
        self.programs: str | None = None
        self.spare_address = spare_address
        self._api, self._inbox, self._keeps_logs = api, inbox, keeps_logs
        self._book: _Book | None = None
        self._program: _Program | None = None
        self._starting: _Program | None = None
        """The one that the engine was asked to start, until it has answered."""
        self._incarnations = 0
        self.is_finished = False
        self._froze: set[str] = set()
        self._unhealed: list[str] = []
        self._frost = asyncio.Lock()
        """Whoever freezes or thaws has it, in the order in which they were asked."""
        self._directory = Path()
        link.inbox = self
        self._tasks: set[asyncio.Task[Any]] = set()

    async def configure(self, run: str, seed: int, plan: str, directory: Path, client: str | None = None) -> None:
        """Begin a run: open the log in the run directory, and have the agent tell what it does. Raises OSError.

        `client`: the program is this client of the run, and every record of the host bears its name.
        """
        self._directory = directory
        header = Header(
            run=run, host=self.name, writer="agent", incarnation=1,
            pid=os.getpid(), clock=self.clock, seed=seed, plan=plan,
        )  # fmt: skip
        self._book = _Book(directory / "events", header, self._inbox, client)
        await self.link.ask(Configure(id=0, run=run, host=self.name, seed=seed, plan=plan))
        await self.link.ask(Subscribe(id=0, events=sorted(Event)))

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Do what the agent would, see `Host.ask`. The call to the engine is under way when this returns."""
        match request:
            case Kill(signal=signal):
                blow = self._signal(signal)
                return self._reply(self._kill(request, blow))
            case Freeze():
                return self._reply(self._in_turn(self._freeze(request, self._pause())))
            case Stop():
                return self._reply(self._stop(request, self._signal(request.first_signal)))
            case Start():
                return self._reply(self._start(request))
            case Thaw():
                return self._reply(self._in_turn(self._thaw(request)))
            case Subscribe(events=events):
                return self._reply(self._subscribe(events))
            case Status():
                return self._reply(self._status())
            case Finish():
                return self._reply(self._finish())
            case Tell():
                return self._reply(self._refuse("a program in a container has no standard input"))
            case _:
                return self.link.ask(request)

    def records(self, batch: Records) -> None:
        """The agent did something to the network (it is our link's `Inbox`): it goes into the one file of the host."""
        for line in batch.records:
            record = decode_line(bytes(line), batch.host, batch.writer, batch.incarnation)
            self._open_book().append(Event(record.event), record.fields, record.t_ns)

    def gone(self, host: str, why: str) -> None:
        """The agent cannot be reached any more."""
        self._inbox.gone(host, why)

    async def collect(self, directory: Path) -> None:
        """Bring the program's own files. Everything else of this host is written in the run directory already."""
        if self._keeps_logs:
            await self._call(lambda: self._bring_logs(directory / "logs" / self.name))

    def _bring_logs(self, directory: Path) -> None:
        with suppress(not_found()):  # a program may do away with its directory for logs
            chunks, _ = self._api.get_archive(self.container, LOGS)
            unpack_logs(chunks, directory)

    def close(self) -> None:
        """Let go of the run; the container is somebody else's to remove, and the link to close."""
        for task in self._tasks:
            task.cancel()
        if self._program is not None:
            self._program.close()
        if self._book is not None:
            self._book.close()

    # --- the verbs -------------------------------------------------------------------------------------------------

    async def _start(self, ask: Start) -> dict[str, Any]:
        """Nothing is awaited between the look at what runs and the claim: of two starts at once, one is refused."""
        book = self._open_book()
        if self._starting is not None or (self._program is not None and self._program.runs):
            raise _refused("the program runs already")
        self._incarnations = incarnation = self._incarnations + 1
        program = self._starting = _Program(self, ask, incarnation)
        try:
            if ask.ready_line is None and ask.ready_port is not None:
                await self._require_free(ask.ready_port)
            await self._settle(program.attach(self._api, self.container))
            began_ns, t_ns = await self._timed(lambda: self._api.start(self.container))
        except BaseException:
            program.ends({})
            raise
        finally:
            self._starting = None
        self._program = program
        seen = await self._call(lambda: self._api.inspect_container(self.container))
        if ask.fault:
            book.injected(ask.fault, "start", began_ns, t_ns)
        argv = [seen["Path"], *seen["Args"]]
        book.append(Event.STARTED, {"pid": seen["State"]["Pid"], "incarnation": incarnation, "argv": argv}, t_ns)
        program.begin(seen["State"]["Pid"])
        self._spawn(self._watch(program))
        if ask.ready_line is None and ask.ready_port is not None:
            self._spawn(self._look_for_port(program, ask.ready_port))
        return {"pid": program.pid, "incarnation": incarnation}

    async def _kill(self, ask: Kill, blow: Awaitable[tuple[int, int]]) -> dict[str, Any]:
        began_ns, t_ns = await self._struck(blow, ask.signal, ask.fault)
        if ask.fault:
            self._open_book().injected(ask.fault, "kill", began_ns, t_ns, signal=ask.signal)
        return {"began_ns": began_ns, "t_ns": t_ns}

    async def _stop(self, ask: Stop, blow: Awaitable[tuple[int, int]]) -> dict[str, Any]:
        program = self._latest
        began_ns, t_ns = await self._struck(blow, ask.first_signal, ask.fault, is_last=True)
        if program is None:
            raise _refused("no program runs")
        if ask.fault:
            self._open_book().injected(ask.fault, "stop", began_ns, t_ns, grace_s=ask.grace_s)
        if ask.grace_s > 0:
            await asyncio.wait({program.gone}, timeout=ask.grace_s)
            if not program.gone.done():
                await self._end_now(ask.fault)
        return {"began_ns": began_ns, "t_ns": time.monotonic_ns(), **(await program.gone)}

    async def _in_turn(self, doing: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        async with self._frost:
            return await doing

    async def _freeze(self, ask: Freeze, blow: Awaitable[tuple[int, int]]) -> dict[str, Any]:
        began_ns, t_ns = await blow
        book = self._open_book()
        if ask.fault:
            book.injected(ask.fault, "freeze", began_ns, t_ns)
            self._unhealed.append(ask.fault)
            self._froze.add(ask.fault)
        await self._prove(paused=True)
        book.append(Event.FROZEN, _named(ask.fault))
        return {"began_ns": began_ns, "t_ns": time.monotonic_ns()}

    async def _thaw(self, ask: Thaw) -> dict[str, Any]:
        book = self._open_book()
        if ask.cure and ask.fault not in self._unhealed:
            return {} if ask.fault in self._froze else NOTHING_TO_HEAL
        if self._program is None or not self._program.runs:
            if ask.fault not in self._unhealed:
                raise _refused("no program runs")
            self._heal(book)
            return {}
        if ask.fault in self._unhealed and len(self._unhealed) > 1:  # others keep it frozen
            self._heal(book, ask.fault)
            return {}
        began_ns, t_ns = await self._unpause()
        if ask.fault and ask.fault not in self._unhealed:
            book.injected(ask.fault, "thaw", began_ns, t_ns)
        await self._prove(paused=False)
        book.append(Event.THAWED, _named(ask.fault))
        self._heal(book)
        return {"began_ns": began_ns, "t_ns": time.monotonic_ns()}

    async def _subscribe(self, events: Sequence[str]) -> dict[str, Any]:
        self._open_book().subscribe(frozenset(events))
        return {}

    async def _status(self) -> dict[str, Any]:
        program = self._program
        running = program is not None and program.runs
        ended = program.gone.result() if program is not None and program.gone.done() else None
        life = {"running": running, "pid": program and program.pid, "incarnation": self._incarnations, "exit": ended}
        return {**(await self.link.ask(Status(id=0))).value, **life}  # what is listened on is the agent's to see

    async def _finish(self) -> dict[str, Any]:
        program, book = self._program, self._open_book()
        if program is not None and program.runs:
            await self._end_now()
            await program.gone
        self._heal(book)
        await self.link.ask(Finish(id=0))  # it heals what is still broken, and has told of it when it answers
        book.close()
        self.is_finished = True
        return {}

    async def _refuse(self, why: str) -> dict[str, Any]:
        raise _refused(why)

    # --- the program's life ----------------------------------------------------------------------------------------

    async def _watch(self, program: _Program) -> None:
        """Its end: the container has stopped, and everything that it said was heard."""
        seen = await self._call(lambda: (self._api.wait(self.container, timeout=None), time.monotonic_ns()))
        code, t_ns = seen[0]["StatusCode"], seen[1]
        await program.silent(_LAST_WORDS_S)
        await program.settled()
        state = (await self._call(lambda: self._api.inspect_container(self.container)))["State"]
        sent = any(blow.signal == "KILL" for blow in program.blows)
        killed = code == _KILLED and (sent or state.get("OOMKilled", False))
        exit_: dict[str, Any] = {"code": None if killed else code, "signal": "KILL" if killed else None}
        fields = {**exit_, "pid": program.pid, "incarnation": program.incarnation}
        fields |= blame(program.blows, Exit(exit_["code"], exit_["signal"], t_ns))
        book = self._open_book()
        book.append(Event.EXITED, fields | {"event_bytes": 0, "event_file": None}, t_ns)
        program.ends(exit_)

    async def _require_free(self, port: int) -> None:
        """Who listens there already would be taken for the program."""
        listening = (await self.link.ask(Status(id=0))).value["listening"]
        if any(place.endswith(f":{port}") for place in listening):
            raise _refused(f"port {port} is listened on in this host before its program has started")

    async def _look_for_port(self, program: _Program, port: int) -> None:
        """The agent sees the port in the namespace that they share. A program that dies meanwhile says so itself."""
        looking = asyncio.ensure_future(self.link.ask(AwaitPort(id=0, port=port, within_s=_READY_WITHIN_S)))
        waiting: set[asyncio.Future[Any]] = {looking, program.gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if looking.done() and looking.exception() is None and program.runs:
            self.listens(program, "port")

    def loses(self, why: HarnessError) -> None:
        """What the program says cannot be followed any more, so what is not in its log proves nothing."""
        self._inbox.gone(self.name, f"its program cannot be heard any more: {why}")

    def listens(self, program: _Program, by: str) -> None:
        """Write that the program is up."""
        fields = {"port": program.ask.ready_port, "by": by, "incarnation": program.incarnation}
        self._open_book().append(Event.LISTENING, fields)

    def hears(self, fields: dict[str, Any]) -> None:
        """Write a line of the program's."""
        self._open_book().append(Event.LINE, fields)

    def log(self, incarnation: int, stream: str) -> int:
        """A fresh file for what a program says on one stream."""
        path = self._directory / "logs" / f"{self.name}.program.{incarnation}.{stream}.log"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _heal(self, book: _Book, *faults: str) -> None:
        """Write `healed` for these faults; for all that froze the program, when none is named."""
        for fault in faults or tuple(self._unhealed):
            self._unhealed.remove(fault)
            book.append(Event.HEALED, {"fault": fault})

    def _pause(self) -> Awaitable[tuple[int, int]]:
        return self._unless_paused(self._timed(lambda: self._api.pause(self.container)))

    async def _unless_paused(self, pausing: Awaitable[tuple[int, int]]) -> tuple[int, int]:
        """Like SIGSTOP, it does no harm to a program that is frozen already."""
        began_ns = time.monotonic_ns()
        try:
            return await pausing
        except HarnessError:
            await self._prove(paused=True)
            return began_ns, time.monotonic_ns()

    async def _unpause(self) -> tuple[int, int]:
        """Like SIGCONT, it does no harm to a program that runs: another thaw may have been quicker."""
        began_ns = time.monotonic_ns()
        try:
            return await self._timed(lambda: self._api.unpause(self.container))
        except HarnessError:
            await self._prove(paused=False)
            return began_ns, time.monotonic_ns()

    async def _prove(self, *, paused: bool) -> None:
        state = (await self._call(lambda: self._api.inspect_container(self.container)))["State"]
        if state["Paused"] is not paused or not state["Running"]:
            raise _refused(f"the engine says that the container is {state['Status']}")

    # --- small things ----------------------------------------------------------------------------------------------

    def _signal(self, signal: str) -> Awaitable[tuple[int, int]]:
        return self._timed(lambda: self._api.kill(self.container, signal=f"SIG{signal}"))

    async def _struck(
        self, blow: Awaitable[tuple[int, int]], signal: str, fault: str, *, is_last: bool = False
    ) -> tuple[int, int]:
        """Await a blow. The program's end is told only after it: the step that struck stands in `exited`.

        `is_last`: SIGKILL follows, unless it ends by this one.
        """
        program = self._latest
        if program is None:
            return await blow
        struck = program.strikes(Blow(signal, fault, None if is_last else time.monotonic_ns()))
        try:
            return await blow
        except HarnessError:
            program.blows.remove(struck)
            raise
        finally:
            asyncio.get_running_loop().call_soon(program.struck)  # after the caller's own record

    async def _end_now(self, fault: str = "") -> None:
        """SIGKILL for a program that runs as far as we know: it may just have ended by itself, which is as good."""
        try:
            await self._struck(self._signal("KILL"), "KILL", fault)
        except HarnessError:
            state = (await self._call(lambda: self._api.inspect_container(self.container)))["State"]
            if state["Running"]:
                raise

    def _timed(self, function: Any) -> Awaitable[tuple[int, int]]:
        """Begin a call now; the instants just before and just after it."""

        def timed() -> tuple[int, int]:
            began_ns = time.monotonic_ns()
            function()
            return began_ns, time.monotonic_ns()

        return self._settle(in_thread(timed))

    def _call(self, function: Any) -> Awaitable[Any]:
        return self._settle(in_thread(function))

    async def _settle(self, doing: Awaitable[Any]) -> Any:
        try:
            return await doing
        except errors() as error:
            raise _refused(explain(error)) from error

    def _open_book(self) -> _Book:
        assert self._book is not None
        return self._book

    @property
    def _latest(self) -> _Program | None:
        """Whom a signal meets: the engine sends none before it is done with a start."""
        return self._starting or self._program

    def _reply(self, doing: Coroutine[Any, Any, dict[str, Any]]) -> Awaitable[Reply]:
        async def answered() -> Reply:
            return Reply(id=0, value=await doing, t_ns=time.monotonic_ns())

        return self._spawn(answered())

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HarnessError):
            self._inbox.gone(self.name, f"its container cannot be followed: {error!r}")


class _Program:
    """One incarnation of the program."""

    def __init__(self, host: ContainerHost, ask: Start, incarnation: int) -> None:
        self.ask, self.incarnation, self.pid = ask, incarnation, 0
        self._host = host
        self.blows: list[Blow] = []
        self._falling = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self.gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._early: list[tuple[str, str, bool]] | None = []
        self._ready = ask.ready_line is None
        self._logs = {name: host.log(incarnation, name) for name in ("stdout", "stderr")}
        self._lines = {name: Lines(self._liner(name)) for name in self._logs}
        self._outputs: Outputs | None = None

    @property
    def runs(self) -> bool:
        return not self.gone.done()

    async def attach(self, api: docker.APIClient, container: str) -> None:
        attached = await in_thread(lambda: attach_socket(api, container, stdin=False))
        self._outputs = await open_outputs(attached, self._says, self._host.loses)

    def begin(self, pid: int) -> None:
        """It was started, and `started` is written: what it has said since then may follow."""
        self.pid = pid
        early, self._early = self._early or [], None
        for line in early:
            self._line(*line)

    def strikes(self, blow: Blow) -> Blow:
        self.blows.append(blow)
        self._falling += 1
        self._calm.clear()
        return blow

    def struck(self) -> None:
        self._falling -= 1
        if not self._falling:
            self._calm.set()

    async def settled(self) -> None:
        await self._calm.wait()

    async def silent(self, within_s: float) -> None:
        assert self._outputs is not None
        await asyncio.wait({self._outputs.ended}, timeout=within_s)
        for lines in self._lines.values():
            lines.end()

    def ends(self, exit_: dict[str, Any]) -> None:
        self.gone.set_result(exit_)
        self.close()

    def close(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        for fd in self._logs.values():
            os.close(fd)
        self._logs = {}

    def _says(self, stream: int, data: bytes) -> None:
        name = _STREAMS.get(stream, "stdout")
        if self._logs:
            os.write(self._logs[name], data)
            self._lines[name].receive(data)

    def _liner(self, stream: str) -> OnLine:
        return lambda text, is_cut: self._line(stream, text, is_cut)

    def _line(self, stream: str, text: str, is_cut: bool) -> None:
        if self._early is not None:
            self._early.append((stream, text, is_cut))
            return
        self._host.hears(line_fields(stream, text, is_cut, self.incarnation))
        if not self._ready and self.ask.ready_line is not None and self.ask.ready_line in text:
            self._ready = True
            self._host.listens(self, "line")


class _Book:
    """The log of writer `agent`, written by us; what was subscribed is pushed as it is written.

    `client` stands in every record.
    """

    def __init__(self, folder: Path, header: Header, inbox: Inbox, client: str | None) -> None:
        self._header, self._inbox, self._client = header, inbox, client
        path = folder / event_file_name(header.host, header.writer, header.incarnation)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._events: frozenset[str] = frozenset()
        self._last = b""
        self._log = Log(header, self._write, time.monotonic_ns)
        self._closed = False

    def append(self, event: Event, fields: dict[str, Any], t_ns: int | None = None) -> None:
        """Write one record. One that comes after the end of the run is nobody's any more."""
        if self._closed:
            return
        self._log.append(event, self._client, fields=fields, t_ns=t_ns)
        if event in self._events:
            self._push([self._last])

    def injected(self, fault: str, verb: str, began_ns: int, t_ns: int, **more: Any) -> None:
        self.append(Event.INJECTED, {"fault": fault, "verb": verb, "began_ns": began_ns, **more}, t_ns)

    def subscribe(self, events: frozenset[str]) -> None:
        """Push these from now on, and those of them that were written while they were not subscribed."""
        fresh = tuple(b'{"event":"%b"' % event.encode() for event in sorted(events - self._events))
        self._events = events
        written = os.pread(self._fd, os.fstat(self._fd).st_size, 0).split(b"\n")
        if fresh and (lines := [line for line in written if line.startswith(fresh)]):
            self._push(lines)

    def close(self) -> None:
        """Write the trailer."""
        if not self._closed:
            self._closed = True
            self._log.close()
            os.close(self._fd)

    def _write(self, line: bytes) -> int:
        self._last = line.rstrip(b"\n")
        return os.write(self._fd, line)

    def _push(self, lines: list[bytes]) -> None:
        header = self._header
        self._inbox.records(
            Records(
                host=header.host,
                writer=header.writer,
                incarnation=header.incarnation,
                records=[msgspec.Raw(line) for line in lines],
            )
        )


def _refused(why: str) -> HarnessError:
    return HarnessError(f"the container's engine refused: {why}", "agent-refused")


def _named(fault: str) -> dict[str, Any]:
    return {"fault": fault} if fault else {}
