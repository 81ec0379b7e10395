"""The agent's event loop: descriptors, timers and signals on one epoll, in one thread.

Why not asyncio: an agent starts in every host of every run, asyncio costs it 40 ms of import and a kill some 50 µs of
tasks and futures. Timers are exact below a millisecond, which epoll alone is not. This module knows nothing of agents.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable, Mapping

Callback = Callable[[], None]

_LONGEST_S = 60.0
_FINE_S = 0.002
_MOST_FOR_SELECT = 1024  # FD_SETSIZE


class Timer:
    """A callback that is due once, unless cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Never call it; does nothing when it was called already."""
        self.callback = None


class Loop:
    """Call back what is ready until `stop`. What a callback raises ends `run`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._wake: tuple[int, int] | None = None
        self._status: int | None = None

    # --- what to wait for ------------------------------------------------------------------------------------------

    def reader(self, fd: int, callback: Callback | None) -> None:
        """Call back whenever `fd` can be read (or its peer is gone); None ends that."""
        self._set(self._readers, fd, callback)

    def writer(self, fd: int, callback: Callback | None) -> None:
        """Call back whenever `fd` can be written; None ends that."""
        self._set(self._writers, fd, callback)

    def forget(self, fd: int) -> None:
        """Neither read nor write; to be called before `fd` is closed."""
        self.reader(fd, None)
        self.writer(fd, None)

    def later(self, delay_s: float, callback: Callback) -> Timer:
        """Call back once, that much later; 0 is the next round."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), timer))
        return timer

    def signals(self, callbacks: Mapping[int, Callback]) -> None:
        """Call back, in a round of the loop, when these signals came. Needs the main thread; to be called once."""
        assert self._wake is None
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signals.update(callbacks)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in callbacks:
            signal.signal(number, _nothing)
        self.reader(self._wake[0], self._signalled)

    # --- waiting ---------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Go round until `stop`; returns its status."""
        self._status = None
        while self._status is None:
            self._round()
        return self._status

    def stop(self, status: int = 0) -> None:
        """End `run` after this callback."""
        self._status = status

    def close(self) -> None:
        """Let go of the descriptors and of the signals."""
        if self._wake is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._wake[0])
            os.close(self._wake[1])
            self._wake = None
        self._epoll.close()

    def _round(self) -> None:
        for fd, events in self._poll(self._patience()):
            if events & ~select.EPOLLOUT and (callback := self._readers.get(fd)):
                callback()
            if events & ~select.EPOLLIN and (callback := self._writers.get(fd)):
                callback()
            if self._status is not None:
                return
        self._fire()

    def _poll(self, patience_s: float) -> list[tuple[int, int]]:
        if 0 < patience_s < _FINE_S and self._epoll.fileno() < _MOST_FOR_SELECT:
            # epoll rounds up to whole milliseconds; select waits by the microsecond.
            select.select((self._epoll,), (), (), patience_s)
            patience_s = 0
        return self._epoll.poll(patience_s)

    def _patience(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return _LONGEST_S
        return min(max(self._timers[0][0] - time.monotonic(), 0), _LONGEST_S)

    def _fire(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        due = []
        while self._timers and self._timers[0][0] <= now:
            due.append(heapq.heappop(self._timers)[2])
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None and self._status is None:
                callback()

    def _signalled(self) -> None:
        assert self._wake is not None
        for number in set(os.read(self._wake[0], 4096)):
            if callback := self._signals.get(number):
                callback()

    def _set(self, callbacks: dict[int, Callback], fd: int, callback: Callback | None) -> None:
        known = fd in self._readers or fd in self._writers
        if callback is None:
            callbacks.pop(fd, None)
        else:
            callbacks[fd] = callback
        events = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        if not known and events:
            self._epoll.register(fd, events)
        elif known and events:
            self._epoll.modify(fd, events)
        elif known:
            self._epoll.unregister(fd)


def _nothing(_number: int, _frame: object) -> None:
    """The wakeup descriptor does the work; without a Python handler it would not be written to."""
