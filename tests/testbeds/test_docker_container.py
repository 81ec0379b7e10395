"""The program of a host that is a container of its own, in an engine that a test plays."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.agent.protocol import AwaitPort, Kill, Records, Reply, Request, Start, Subscribe
from midsession.errors import HarnessError
from midsession.testbeds.docker.container import ContainerHost
from tests.waiting import eventually_here

WITHIN_S = 20.0
START = Start(id=0, argv=[], ready_port=4000)


class FakeContainer:
    """An engine's API with one container. A start takes until `lets_start` is set, and fails where it `cannot` be.

    It says nothing, and runs until it is killed; as the real one does, the engine kills nobody while it starts him.
    """

    def __init__(self) -> None:
        self.lets_start, self.cannot = threading.Event(), False
        self.lets_start.set()
        self.starts = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ended.set()
        self._ends: list[socket.socket] = []
        self._sockets: list[socket.socket] = []

    def attach_socket(self, _container: str, params: dict[str, int]) -> socket.socket:
        assert not params["stdin"]
        here, there = socket.socketpair()
        self._ends.append(there)
        self._sockets += [here, there]
        return here

    def close(self) -> None:
        """Nothing runs any more, and nobody waits for it or hears it."""
        self._ended.set()
        for one in self._sockets:
            one.close()

    def start(self, _container: str) -> None:
        with self._lock:
            self.starts += 1
            assert self.lets_start.wait(WITHIN_S)
            if self.cannot:
                raise _refusal("no such command")
            self._ended.clear()

    def kill(self, _container: str, signal: str) -> None:
        assert signal == "SIGKILL"
        with self._lock:
            if self._ended.is_set():
                raise _refusal("it is not running")
            self._ended.set()
            self._ends.pop().close()

    def wait(self, _container: str, timeout: float | None) -> dict[str, int]:
        assert timeout is None
        assert self._ended.wait(WITHIN_S)
        return {"StatusCode": 137}

    def inspect_container(self, _container: str) -> dict[str, Any]:
        return {"Path": "db", "Args": [], "State": {"Pid": 7, "Running": not self._ended.is_set()}}


def _refusal(words: str) -> Exception:
    import docker.errors

    return docker.errors.APIError(words)


class FakeAgent:
    """The link to the agent, which sees who listens on `taken`; and the run, which hears `records`."""

    def __init__(self) -> None:
        self.inbox: Any = None
        self.taken: set[int] = set()
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.went: list[str] = []

    async def ask(self, request: Request) -> Reply:
        if isinstance(request, AwaitPort) and request.port not in self.taken:
            await asyncio.get_running_loop().create_future()  # nobody ever listens
        return Reply(id=0, value={"listening": [f"0.0.0.0:{port}" for port in self.taken]}, t_ns=0)

    def records(self, batch: Records) -> None:
        told = [msgspec.json.decode(line) for line in batch.records]
        self.said += [(one["event"], one.get("fields", {})) for one in told]

    @property
    def ends(self) -> list[dict[str, Any]]:
        """What `exited` says of each."""
        return [fields for event, fields in self.said if event == "exited"]

    async def hears_of_ends(self, count: int) -> None:
        """Wait until so many have ended."""
        await eventually_here(lambda: len(self.ends) == count, WITHIN_S, f"{count} ends were told")

    def gone(self, _host: str, why: str) -> None:
        self.went.append(why)


@asynccontextmanager
async def host(api: Any, agent: Any, folder: Path) -> AsyncIterator[ContainerHost]:
    """A host in a run that has begun."""
    for name in ("events", "logs"):
        (folder / name).mkdir()
    made = ContainerHost("db", "10.0.0.2", api, "c0", agent, agent)
    await made.configure("r", 1, "p", folder)
    await made.ask(Subscribe(id=0, events=["exited", "listening", "started"]))
    try:
        yield made
    finally:
        made.close()
        api.close()


def test_of_two_starts_at_once_one_is_refused(tmp_path: Path) -> None:
    """Also while the engine is still about the first; nothing is wrong with the host then."""
    api, agent = FakeContainer(), FakeAgent()
    api.lets_start.clear()

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), host(api, agent, tmp_path) as db:
            first, second = db.ask(START), db.ask(START)
            with pytest.raises(HarnessError, match="the program runs already"):
                await second
            api.lets_start.set()
            assert (await first).value == {"pid": 7, "incarnation": 1}

    asyncio.run(main())
    assert (api.starts, agent.went) == (1, [])


def test_a_start_that_fails_is_in_nobodys_way(tmp_path: Path) -> None:
    """The next one is another incarnation, with files of its own."""
    api, agent = FakeContainer(), FakeAgent()
    api.cannot = True

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), host(api, agent, tmp_path) as db:
            with pytest.raises(HarnessError, match="no such command"):
                await db.ask(START)
            api.cannot = False
            assert (await db.ask(START)).value["incarnation"] == 2

    asyncio.run(main())
    assert agent.went == []


def test_a_kill_meets_the_program_that_is_being_started(tmp_path: Path) -> None:
    """The engine kills it when it has started it: its end is that step's doing, not its own."""
    api, agent = FakeContainer(), FakeAgent()

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), host(api, agent, tmp_path) as db:
            await db.ask(START)
            await db.ask(Kill(id=0, fault="first"))
            await agent.hears_of_ends(1)
            api.lets_start.clear()
            again = db.ask(START)
            await eventually_here(lambda: api.starts == 2, WITHIN_S, "the engine was asked to start it again")
            kill = db.ask(Kill(id=0, fault="second"))
            api.lets_start.set()
            await asyncio.gather(again, kill)
            await agent.hears_of_ends(2)

    asyncio.run(main())
    assert [end.get("by") for end in agent.ends] == ["first", "second"]


def test_who_listens_before_the_program_is_not_taken_for_it(tmp_path: Path) -> None:
    """A neighbour in its network has taken the port while it was dead: it is not started, and nothing `listens`."""
    api, agent = FakeContainer(), FakeAgent()
    agent.taken.add(4000)

    async def main() -> None:
        async with asyncio.timeout(WITHIN_S), host(api, agent, tmp_path) as db:
            with pytest.raises(HarnessError, match="port 4000 is listened on in this host before its program"):
                await db.ask(START)
            await db.ask(Start(id=0, argv=[], ready_line="ready", ready_port=4000))  # its own line tells it

    asyncio.run(main())
    assert api.starts == 1
    assert [event for event, _ in agent.said] == ["started"]
