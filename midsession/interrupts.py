"""Interrupts (SIGINT, SIGTERM): who hears of them, and what becomes of those that nobody obeys.

Blocks that hear of them lie in each other: a batch, and in it one run after the other. An interrupt is heard by the
innermost. Between two blocks none is lost: one that came before a block began, and that nobody has obeyed, is heard
there, and one that a block did not obey is heard by the block around it, or by whoever it was before (Python's own
handler, that of the program).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Heard:
    """The handler of a block. `pending` are the interrupts that nobody has obeyed yet."""

    def __init__(self, by: Callable[[], None]) -> None:
        self._by = by
        self.pending = 0

    def __call__(self, *_: object) -> None:
        """One more. Called between any two instructions of the main thread: must do little, and never raise."""
        self.pending += 1
        self._by()

    def obeyed(self) -> int:
        """All that have come until now are obeyed, or taken over by a block in this one; how many they were."""
        pending, self.pending = self.pending, 0
        return pending


@contextmanager
def heard(by: Callable[[], None] = lambda: None) -> Iterator[Heard]:
    """Have `by` called at each interrupt; without one they are only kept, for blocks in this one or until its end.

    Wakes the running event loop, if there is one. In a thread that is not the main one nothing is heard.
    """
    here = Heard(by)
    if threading.current_thread() is not threading.main_thread():
        yield here
        return
    with ExitStack() as stack:
        stack.callback(_hand_over, here)
        with suppress(RuntimeError):  # no loop runs
            stack.enter_context(_waking(asyncio.get_running_loop()))
        for number in NUMBERS:
            around = signal.signal(number, here)
            stack.callback(signal.signal, number, around)
        if isinstance(around, Heard):
            for _ in range(around.obeyed()):
                here()
        yield here


def _hand_over(ended: Heard) -> None:
    for _ in range(ended.obeyed()):
        signal.raise_signal(signal.SIGINT)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Python runs a handler between two instructions, and a loop that is about to wait would come to none: a byte that
    the kernel's handler writes ends its wait (signal.set_wakeup_fd)."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        loop.add_reader(ours, _drain, ours)
        before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            now = signal.set_wakeup_fd(-1)
            with suppress(OSError, ValueError):  # whose that was may be over already, where blocks overlap
                signal.set_wakeup_fd(before if now == theirs.fileno() else now)
            loop.remove_reader(ours)


def _drain(socket: socket.socket) -> None:
    with suppress(BlockingIOError):
        socket.recv(4096)
