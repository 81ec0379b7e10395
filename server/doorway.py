"""How clients come in, and how they wait where no descriptor is left for another one: in the kernel's backlog.

The loops' own servers will not do. libuv takes such a client in only to close it, and nobody hears of it
(`uv__emfile_trick`, joyent/libuv#315); asyncio complains as often as its backlog is long, and doubles its retries
(python/cpython#151615).
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from typing import Any

RETRY_S = 0.1
"""How soon a full server looks again whether a descriptor has become free."""

_AT_ONCE = 256  # clients that are taken in before those that are in conversation get their turn

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# A client that was gone, or whose network was, before it was taken in (accept(2)).
_GONE = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET),
    }
)


class Doorway:
    """Takes in the clients of a listening socket. `exhausted` is told once, until nobody has to wait any more."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        exhausted: Callable[[OSError], None],
    ) -> None:
        self._listener, self._protocol, self._exhausted = listener, protocol, exhausted
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[Any]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._crowded = False  # somebody waits for a descriptor, and that was said
        listener.setblocking(False)

    def open(self) -> None:
        """Take in who is there and who comes."""
        self._loop.add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Take in nobody any more. Those who have just been accepted are in when it returns."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._entering:
            await asyncio.wait(self._entering)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                endpoint, _ = self._listener.accept()
            except BlockingIOError:
                self._crowded = False
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    if self._somebody_waits():
                        self._wait(error)
                    else:
                        self._crowded = False
                    return
                if error.errno not in _GONE:
                    raise
            else:
                self._enter(endpoint)

    def _somebody_waits(self) -> bool:
        """The kernel looks for a descriptor before it looks for a client, so that a full server is no crowded one."""
        look = select.poll()
        look.register(self._listener, select.POLLIN)
        return bool(look.poll(0))

    def _wait(self, error: OSError) -> None:
        self._loop.remove_reader(self._listener)
        self._retry = self._loop.call_later(RETRY_S, self.open)
        if not self._crowded:
            self._crowded = True
            self._exhausted(error)

    def _enter(self, endpoint: socket.socket) -> None:
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, endpoint))
        self._entering.add(task)
        task.add_done_callback(self._entered)

    def _entered(self, task: asyncio.Task[Any]) -> None:
        self._entering.discard(task)
        if not task.cancelled() and (error := task.exception()):
            raise error
