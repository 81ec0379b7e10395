"""Lookups: at once as far as there may be threads, and what had to wait is told."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from client.lookup import Found, Lookups
from midsession.core.pulse import LATE_NS
from midsession.errors import HarnessError
from tests.waiting import stays_so

FOUND: Found = [(socket.AF_INET, ("10.0.0.2", 4000))]


class Resolver:
    """Takes the place of getaddrinfo(3): every call is counted, and answered once `open` is set."""

    def __init__(self) -> None:
        self.open, self.calls = threading.Event(), threading.Semaphore(0)

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.calls.release()
        assert self.open.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """In the place of the system's; nothing waits for it when the test is over."""
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.open.set()


async def wait_until_asked(resolver: Resolver, times: int) -> None:
    """Until the resolver has been asked that often more."""
    for _ in range(times):
        assert await asyncio.to_thread(resolver.calls.acquire, timeout=10)


def test_a_lookup_that_had_to_wait_is_told_as_late(resolver: Resolver) -> None:
    """Two may be under way: the third waits for one of them, and says for how long."""
    late: list[int] = []

    async def look() -> list[Found]:
        lookups = Lookups(late.append, at_once=2)
        asking = [asyncio.ensure_future(lookups.find("server", 4000)) for _ in range(3)]
        await wait_until_asked(resolver, 2)
        asyncio.get_running_loop().call_later(2 * LATE_NS / 1e9, resolver.open.set)
        return await asyncio.gather(*asking)

    assert asyncio.run(look()) == [FOUND] * 3
    (waited_ns,) = late
    assert waited_ns >= LATE_NS


def test_a_lookup_that_was_given_up_while_it_waited_is_told_too(resolver: Resolver) -> None:
    """Its client's time ran out in our queue; and whoever comes when there is room does not wait."""
    late: list[int] = []

    async def look() -> Found:
        lookups = Lookups(late.append, at_once=1)
        first = asyncio.ensure_future(lookups.find("server", 4000))
        await wait_until_asked(resolver, 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2 * LATE_NS / 1e9):
                await lookups.find("server", 4000)
        resolver.open.set()
        await first
        return await lookups.find("server", 4000)

    assert asyncio.run(look()) == FOUND
    (waited_ns,) = late
    assert waited_ns >= LATE_NS


def test_a_lookup_whose_client_is_gone_counts_until_the_resolver_ends_it(resolver: Resolver) -> None:
    """Threads are what there may be few of, and that one lives on."""

    async def look() -> None:
        lookups = Lookups(lambda _: None, at_once=1)
        first, second = (asyncio.ensure_future(lookups.find("server", 4000)) for _ in range(2))
        await wait_until_asked(resolver, 1)
        first.cancel()
        await stays_so(lambda: not resolver.calls.acquire(blocking=False), 0.05, "no second lookup")
        resolver.open.set()
        assert await second == FOUND

    asyncio.run(look())


def test_what_the_resolver_raises_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is the client's own loss; and there is room for the next one."""

    def no(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no)

    async def look() -> None:
        lookups = Lookups(lambda _: None, at_once=1)
        for _ in range(3):
            with pytest.raises(socket.gaierror):
                await lookups.find("server", 4000)

    asyncio.run(look())


def test_no_thread_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of the system (`ulimit -u`) is the fleet's failure, not a client's loss of its server."""

    def no(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no)
    with pytest.raises(HarnessError, match="server cannot be looked up: can't start new thread"):
        asyncio.run(Lookups(lambda _: None).find("server", 4000))
