"""The conductor's end of an agent's stream: with a real agent in a forked child, and with hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from midsession.agent.protocol import (
    PROTOCOL_VERSION,
    Configure,
    Farewell,
    Finish,
    Hello,
    Kill,
    Records,
    Reply,
    Shutdown,
    Start,
    Status,
    Stop,
    Subscribe,
    Tell,
    encode,
)
from midsession.core.logfile import LogState, read_log
from midsession.core.record import decode_line
from midsession.errors import HarnessError
from midsession.testbeds.link import AgentLink, fetch_files, receive_hello

HELLO = Hello(token="t", service="server", hostname="h", addresses={}, clock="c", pid=1)
PATIENCE_S = 15
FORKED = """
import os, sys
from midsession.agent.serve import serve
child = os.fork()
if child == 0:
    fd = int(sys.argv[1])
    os._exit(serve(fd, os.dup(fd), "server", "t"))
os.close(int(sys.argv[1]))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class Box:
    """An inbox that keeps what it gets; `wait` waits for an event."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def records(self, batch: Records) -> None:
        self.events += [
            decode_line(bytes(raw), batch.host, batch.writer, batch.incarnation).event for raw in batch.records
        ]
        self._changed.set()

    def gone(self, host: str, why: str) -> None:
        self.lost.append((host, why))
        self._changed.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def run(test: Awaitable[None]) -> None:
    """Run one asyncio test, bounded; what asyncio complains of fails it."""
    complaints: list[object] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with asyncio.timeout(PATIENCE_S * 2):
            await test
        gc.collect()

    asyncio.run(bounded())
    assert complaints == []


@contextlib.asynccontextmanager
async def real_agent() -> AsyncIterator[tuple[AgentLink, Box]]:
    """An agent that is `serve` in a forked child of a process that had imported it, as a testbed does it."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", FORKED, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    box = Box()
    link = AgentLink(reader, writer, await receive_hello(reader, PATIENCE_S), box, "server")
    try:
        yield link, box
    finally:
        await link.close()
        assert process.wait(PATIENCE_S) == 0


@contextlib.asynccontextmanager
async def sham_agent(
    first: bytes = encode(HELLO) + b"\n",
) -> AsyncIterator[tuple[asyncio.StreamReader, AgentLink, Box, socket.socket]]:
    """A link whose agent is a socket that the test writes to."""
    ours, theirs = socket.socketpair()
    theirs.sendall(first)
    reader, writer = await asyncio.open_connection(sock=ours)
    box = Box()
    try:
        link = AgentLink(reader, writer, await receive_hello(reader, PATIENCE_S), box)
        yield reader, link, box, theirs
        await link.close()
    finally:
        theirs.close()
        writer.close()


async def stream_ended(link: AgentLink) -> None:
    """Until no request is answered any more."""
    with contextlib.suppress(HarnessError):
        while True:
            await link.ask(Status(id=0))
    assert link.is_gone


def test_whole_run_over_a_link(tmp_path: Path) -> None:
    """Configure, start, kill, records, finish, fetch, shutdown: what comes back is what happened."""

    async def test() -> None:
        async with real_agent() as (link, box):
            assert link.hello.token == "t"
            await link.ask(Configure(id=0, run="r", host="server", seed=1, plan="p"))
            await link.ask(Subscribe(id=0, events=["started", "line", "injected", "exited"]))
            await link.ask(Start(id=0, argv=["python", "-c", "print('up', flush=True); input()"]))
            await box.wait(lambda: "line" in box.events)
            reply = await link.ask(Kill(id=0, fault="crash"))
            assert reply.value["began_ns"] <= reply.value["t_ns"] <= reply.t_ns
            await box.wait(lambda: "exited" in box.events)
            await link.ask(Finish(id=0))
            await fetch_files(link, tmp_path)
            await fetch_files(link, tmp_path)
            await link.ask(Shutdown(id=0))
            await stream_ended(link)
            assert box.events == ["started", "line", "injected", "exited"]
            assert box.lost == []

    run(test())
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == [
        "events/server.agent.1.jsonl",
        "logs/server.program.1.stderr.log",
        "logs/server.program.1.stdout.log",
    ]
    assert (tmp_path / names[2]).read_bytes() == b"up\n"
    log = read_log((tmp_path / names[0]).read_bytes())
    assert log.state is LogState.COMPLETE
    assert len(log.records) == 4


def test_requests_are_concurrent() -> None:
    """Many open requests, answered out of order, each get their own answer."""

    async def test() -> None:
        async with real_agent() as (link, box):
            await link.ask(Configure(id=0, run="r", host="server", seed=1, plan="p"))
            await link.ask(Subscribe(id=0, events=["line"]))
            code = (
                "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
            )
            await link.ask(Start(id=0, argv=["python", "-c", code]))
            await box.wait(lambda: bool(box.events))
            stop = asyncio.ensure_future(link.ask(Stop(id=0, grace_s=600)))
            states = await asyncio.gather(*(link.ask(Status(id=0)) for _ in range(100)))
            assert [state.value["running"] for state in states] == [True] * 100
            assert not stop.done()
            await link.ask(Kill(id=0))
            assert (await stop).value["signal"] == "KILL"

    run(test())


def test_refusal_carries_the_agents_text() -> None:
    """What the agent refuses is a HarnessError with its reason; one that nobody awaits harms nobody."""

    async def test() -> None:
        async with real_agent() as (link, box):
            link.ask(Tell(id=0, line="nobody waits for this"))
            with pytest.raises(HarnessError, match="no run was configured") as caught:
                await link.ask(Start(id=0, argv=["true"]))
            assert caught.value.slug == "agent-refused"
            assert box.lost == []

    run(test())


def test_request_is_on_its_way_when_ask_returns() -> None:
    """`ask` is a plain function: the bytes are in the kernel before anything else runs."""

    async def test() -> None:
        async with sham_agent() as (_, link, _, agent):
            agent.setblocking(False)
            waiting = link.ask(Kill(id=0, fault="crash"))
            assert agent.recv(1000) == b'{"m":"kill","id":1,"fault":"crash"}\n'
            agent.sendall(encode(Reply(id=1, t_ns=5)) + b"\n")
            assert (await waiting).t_ns == 5

    run(test())


def test_death_of_the_agent_is_told_once() -> None:
    """An agent that dies: its inbox hears `gone`, open requests fail, later ones too."""

    async def test() -> None:
        async with sham_agent() as (_, link, box, agent):
            waiting = link.ask(Status(id=0))
            agent.close()
            with pytest.raises(HarnessError, match="is gone") as caught:
                await waiting
            assert caught.value.slug == "agent-gone"
            with pytest.raises(HarnessError, match="is gone"):
                await link.ask(Status(id=0))
            assert link.is_gone
            assert [host for host, _ in box.lost] == ["h"]

    run(test())


def test_an_agents_farewell_is_why_it_is_gone() -> None:
    """What it says last is told, once, in place of the stream's end."""

    async def test() -> None:
        async with sham_agent() as (_, link, box, agent):
            waiting = link.ask(Status(id=0))
            agent.sendall(encode(Farewell(why="the disk is full")) + b"\n")
            agent.close()
            with pytest.raises(HarnessError, match=r"is gone \(the disk is full\)"):
                await waiting
            await box.wait(lambda: bool(box.lost))
            assert box.lost == [("h", "the disk is full")]

    run(test())


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"",
        encode(HELLO),
        encode(Reply(id=77, t_ns=0)),
        b'{"m":"status","id":1}',
        b'{"m":"records","host":"h","writer":"w","incarnation":1,"records":[{]}',
        b"\xff" * 50,
    ],
)
def test_garbled_agent_is_gone(line: bytes) -> None:
    """An agent that says what it cannot mean is not trusted any further."""

    async def test() -> None:
        async with sham_agent() as (_, link, box, agent):
            waiting = link.ask(Status(id=0))
            agent.sendall(line + b"\n")
            with pytest.raises(HarnessError, match="is gone"):
                await waiting
            assert len(box.lost) == 1

    run(test())


def test_orderly_close_is_no_death() -> None:
    """Who hangs up himself is not told of it."""

    async def test() -> None:
        async with sham_agent() as (_, link, box, _):
            await link.close()
            assert box.lost == []
            with pytest.raises(HarnessError, match="closed by us"):
                await link.ask(Status(id=0))

    run(test())


@pytest.mark.parametrize(
    ("first", "slug"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "agent-garbled"),
        (encode(Reply(id=1, t_ns=0)) + b"\n", "agent-garbled"),
        (encode(HELLO).replace(b'"pid":1', b'"pid":1,"version":%d' % (PROTOCOL_VERSION + 1)) + b"\n", "agent-version"),
        (b"x" * 100_000 + b"\n", "agent-gone"),
    ],
)
def test_hello_must_be_one(first: bytes, slug: str) -> None:
    """A first line that is no hello of our version is an error with a name."""

    async def test() -> None:
        with pytest.raises(HarnessError) as caught:
            async with sham_agent(first):
                pass
        assert caught.value.slug == slug

    run(test())


def test_hello_is_waited_for_with_a_bound() -> None:
    """A silent agent is an error in time."""

    async def test() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        with pytest.raises(HarnessError, match=r"within 0\.05 s") as caught:
            await receive_hello(reader, 0.05)
        assert caught.value.slug == "agent-silent"
        writer.close()
        theirs.close()

    run(test())


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "events/../../x", "events/.x", "other/x", "events", "events/a/b", "logs/a\0"]
)
def test_agent_cannot_write_outside_the_run_directory(tmp_path: Path, name: str) -> None:
    """A hostile agent's file names lead nowhere."""

    async def test() -> None:
        async with sham_agent() as (_, link, _, agent):
            agent.sendall(encode(Reply(id=1, t_ns=0, value={"files": {name: 1}})) + b"\n")
            agent.sendall(encode(Reply(id=2, t_ns=0, value={"data": "eA==", "eof": True})) + b"\n")
            with pytest.raises(HarnessError, match="cannot be its own"):
                await fetch_files(link, tmp_path / "run")

    run(test())
    assert list(tmp_path.rglob("*")) == []
