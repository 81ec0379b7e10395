"""The server's life: listen, serve, end in order. The only place that waits."""

from __future__ import annotations

import asyncio
import signal
import socket
import traceback
from dataclasses import dataclass
from typing import Any

from midsession.core.record import Event
from midsession.errors import MidsessionError
from server.behaviours import BEHAVIOURS
from server.connection import Connection, Crowd
from server.doorway import Doorway
from server.journal import Records, Screen, complain

BACKLOG = 4096
"""Connections that the kernel may complete before they are accepted (capped by net.core.somaxconn)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for. `grace_s` bounds the wait for clients to end after SIGTERM or SIGINT."""

    host: str
    port: int
    behaviour: str
    grace_s: float


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. A restart on a port with old connections works at once (SO_REUSEADDR). Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)


async def serve(options: Options, listener: socket.socket, records: Records, screen: Screen) -> int:
    """Serve until SIGTERM or SIGINT, then end in order. The exit code: 0, or 3 when the server itself failed."""
    life = _Life()
    crowd = Crowd(BEHAVIOURS[options.behaviour].ready(), records, screen)
    doorway = Doorway(listener, lambda: Connection(crowd), crowd.has_no_room)
    doorway.open()
    address, port = listener.getsockname()[:2]
    records.add(Event.LISTENING, None, {"address": address, "port": port})
    screen.line(f"Listening on {address}:{port} ({options.behaviour}: {BEHAVIOURS[options.behaviour].about})")
    await life.wait_until_asked_to_stop()
    await doorway.close()
    if life.failure is None:
        screen.line(f"Stopping: {len(crowd)} clients connected, at most {options.grace_s:g} s for them to end")
        crowd.finish_all()
        await life.wait_for_the_end_of(crowd, options.grace_s)
    if life.failure is not None:
        _report(life.failure)
        return 3
    records.close()
    screen.line("Stopped")
    return 0


def _report(failure: BaseException) -> None:
    """A log that cannot be written is said in one line; anything else is our own mistake and shows its traceback."""
    if isinstance(failure, MidsessionError):
        complain(str(failure))
    else:
        traceback.print_exception(failure)


class _Life:
    """Signals and failures, as something to wait for. A second signal ends the grace."""

    def __init__(self) -> None:
        self._asked, self._hurried = asyncio.Event(), asyncio.Event()
        self.failure: BaseException | None = None
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_failure)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    async def wait_until_asked_to_stop(self) -> None:
        await self._asked.wait()

    async def wait_for_the_end_of(self, crowd: Crowd, grace_s: float) -> None:
        """Wait for all clients to end, at most for the grace; close those that are left."""
        empty = asyncio.create_task(crowd.wait_until_empty())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({empty, hurried}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        crowd.close_all()
        if self.failure is None:
            await empty

    def _on_signal(self) -> None:
        (self._hurried if self._asked.is_set() else self._asked).set()

    def _on_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Hear what escaped from a callback: what a socket could not do passes, anything else ends the server."""
        failure = context.get("exception")
        if failure is None or isinstance(failure, OSError):
            complain(f"{context.get('message')}: {failure}")
            return
        self.failure = self.failure or failure
        self._asked.set()
        self._hurried.set()
