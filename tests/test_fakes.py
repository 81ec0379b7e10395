"""The simulated world keeps the rules that the runner relies on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from midsession.agent.protocol import Freeze, Kill, Records, Request, Start, Stop, Subscribe, Tell, Thaw
from midsession.core.plan import Plan, ReferenceService
from midsession.core.record import Record, decode_line
from midsession.errors import HarnessError
from tests.fakes import FakeClock, FakeHost, FakeTestbed, run_on
from tests.waiting import eventually_here

PLAN = Plan("p", "p.yaml", 1, 60.0, [ReferenceService(name="server", port=4000)], [], [], [])
START = Start(id=0, argv=["server"], fault="return")
EVERYTHING = Subscribe(id=0, events=["started", "listening", "exited", "injected", "frozen", "thawed", "healed"])


class Inbox:
    def __init__(self) -> None:
        self.heard: list[Record] = []

    def records(self, batch: Records) -> None:
        self.heard += [decode_line(bytes(r), batch.host, batch.writer, batch.incarnation) for r in batch.records]

    def gone(self, host: str, why: str) -> None:
        raise AssertionError(why)


def on_a_host(tmp_path: Path, play: Callable[[FakeHost, Inbox], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        inbox, testbed = Inbox(), FakeTestbed(clock)
        await testbed.open(PLAN, "r", tmp_path, inbox)
        await play(testbed.host("server"), inbox)

    clock = FakeClock()
    run_on(clock, main())


def test_an_hour_takes_no_time() -> None:
    """The loop's clock and the fake clock are one."""
    clock = FakeClock()

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time() - began

    assert run_on(clock, main()) == pytest.approx(3600)


def test_a_wait_without_an_end_is_found() -> None:
    """It would hang for ever in the real world."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="nothing can ever happen"):
        run_on(FakeClock(), main())


def test_a_program_lives_as_under_a_real_agent(tmp_path: Path) -> None:
    """injected before started before listening; injected before exited; a fault that is healed says so."""

    async def play(host: FakeHost, inbox: Inbox) -> None:
        await host.ask(EVERYTHING)
        await host.ask(START)
        await eventually_here(lambda: host.listens, 5, "the program listens")
        await host.ask(Freeze(id=0, fault="hang"))
        await host.ask(Thaw(id=0, fault="hang"))
        await host.ask(Kill(id=0, fault="crash"))
        assert [r.event for r in inbox.heard] == [
            *("injected", "started", "listening"),
            *("injected", "frozen", "thawed", "healed"),
            *("injected", "exited"),
        ]
        assert inbox.heard[-1].fields["signal"] == "KILL"

    on_a_host(tmp_path, play)


def test_what_needs_a_program_is_refused_without_one(tmp_path: Path) -> None:
    """As a real agent does, with the slug that the runner looks at."""

    async def play(host: FakeHost, inbox: Inbox) -> None:
        requests: list[Request] = [Kill(id=0), Stop(id=0, grace_s=1.0), Freeze(id=0), Thaw(id=0), Tell(id=0, line="x")]
        for request in requests:
            with pytest.raises(HarnessError, match="no program runs") as refused:
                await host.ask(request)
            assert refused.value.slug == "agent-refused"
        await host.ask(START)
        with pytest.raises(HarnessError, match="runs already"):
            await host.ask(START)

    on_a_host(tmp_path, play)


def test_only_what_is_subscribed_is_pushed(tmp_path: Path) -> None:
    """And nothing before."""

    async def play(host: FakeHost, inbox: Inbox) -> None:
        await host.ask(Subscribe(id=0, events=["exited"]))
        await host.ask(START)
        await host.ask(Kill(id=0, fault="crash"))
        assert [r.event for r in inbox.heard] == ["exited"]

    on_a_host(tmp_path, play)


def test_the_deaf_never_answer(tmp_path: Path) -> None:
    """A request to them is logged, and waits for ever."""

    async def play(host: FakeHost, inbox: Inbox) -> None:
        host.deaf = {Start}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await host.ask(START)
        assert host.log == [START]
        assert not host.running

    on_a_host(tmp_path, play)
