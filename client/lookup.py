"""Names looked up by the system's resolver, each in a thread of its own.

getaddrinfo(3) blocks, for seconds where the resolver says nothing, and cannot be broken off. What event loops bring for
it are few threads (libuv, under uvloop, gives lookups two of its four), so that one client's lookup would wait for
those of others and come to its end late for no fault of the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from midsession.core.pulse import LATE_NS
from midsession.errors import HarnessError

AT_ONCE = 400
"""How many lookups may be under way: a container of the docker testbed may hold 512 threads and processes. A lookup
whose client gave it up counts until the resolver has ended it."""

Found = list[tuple[int, Any]]
"""Families and socket addresses, in the resolver's order."""


class Lookups:
    """The lookups of one event loop. `late` is told for how many ns one had to wait until fewer were under way."""

    def __init__(self, late: Callable[[int], None], at_once: int = AT_ONCE) -> None:
        self._late, self._free = late, asyncio.Semaphore(at_once)

    async def find(self, host: str, port: int) -> Found:
        """Where a TCP connection to that name may go. Raises OSError, HarnessError where there can be no thread."""
        await self._turn()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found] = loop.create_future()
        # A daemon: a fleet that is over does not wait for a resolver that says nothing.
        thread = threading.Thread(target=self._ask, args=(loop, answer, host, port), name="lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._free.release()
            raise HarnessError(f"{host} cannot be looked up: {error}") from error
        return await answer

    async def _turn(self) -> None:
        began_ns = time.monotonic_ns()
        try:
            await self._free.acquire()
        finally:
            if (waited_ns := time.monotonic_ns() - began_ns) >= LATE_NS:
                self._late(waited_ns)

    def _ask(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Found], host: str, port: int) -> None:
        """In the thread."""
        found: Found | Exception
        try:
            found = [(entry[0], entry[4]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except UnicodeError:  # of the codec for names: a label that is empty, or longer than 63 characters
            found = socket.gaierror(socket.EAI_NONAME, "no host can have that name")
        except Exception as error:  # noqa: BLE001 - it goes to the one who asked, whatever it is
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody asks any more
            loop.call_soon_threadsafe(self._give, answer, found)

    def _give(self, answer: asyncio.Future[Found], found: Found | Exception) -> None:
        self._free.release()
        if answer.done():
            return  # it was given up
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)
