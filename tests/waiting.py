"""The one place of the tests that polls and lets time pass: a condition is looked at, with a bound and a name.

Only for what nothing can be waited on: the state of an engine, of a process, of another's memory. Whatever can tell by
itself (a pipe, a pidfd, inotify, an event, a future) is waited on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T | None], within_s: float, what: str, pause_s: float = 0.02) -> T:
    """What `look` returns, once that is true. Says what did not come, and what was seen last."""
    deadline_s = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline_s, f"{what}: not within {within_s:g} s; last seen {seen!r}"
        time.sleep(pause_s)
    return seen


async def eventually_here(look: Callable[[], T | None], within_s: float, what: str, pause_s: float = 0.02) -> T:
    """The same on a running event loop, by its clock."""
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + within_s
    while not (seen := look()):
        assert clock() < deadline_s, f"{what}: not within {within_s:g} s; last seen {seen!r}"
        await asyncio.sleep(pause_s)
    return seen


async def stays_so(holds: Callable[[], bool], for_s: float, what: str, pause_s: float = 0.01) -> None:
    """See that something holds for so long on a running event loop: what does not come can only be given time."""
    clock = asyncio.get_running_loop().time
    over_s = clock() + for_s
    while clock() < over_s:
        assert holds(), f"{what}: not for {for_s:g} s"
        await asyncio.sleep(pause_s)
    assert holds(), f"{what}: not for {for_s:g} s"


def stand_still(pid: int, seconds: float) -> None:
    """Do not let a process run for so long: here time is the condition."""
    os.kill(pid, signal.SIGSTOP)
    over_s = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= over_s, 2 * seconds + 60, f"{seconds:g} s are over")
    os.kill(pid, signal.SIGCONT)
