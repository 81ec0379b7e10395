"""Reaps every child, and knows the one program that runs.

The agent is the parent of all that its program leaves behind: as PID 1, or as a child subreaper. A program is gone
when its leader is dead and so is everything that it left: whatever lives on is killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from midsession.agent import procfs
from midsession.agent.blow import Blow
from midsession.agent.loop import Loop, Timer
from midsession.agent.program import Program
from midsession.agent.say import say

_STUCK_S = 2.0
"""A process that SIGKILL does not end in that time is in an uninterruptible sleep."""


class Supervisor:
    """The host's children. `reap` is to be called on every SIGCHLD."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.program: Program | None = None
        self.last: Program | None = None
        self._stuck: Timer | None = None

    def adopt(self, program: Program) -> None:
        """It has just been started."""
        assert self.program is None
        self.program = self.last = program

    def end(self, then: Callable[[], None]) -> None:
        """Kill what runs; call back once it is gone (at once when nothing runs)."""
        if self.program is None:
            then()
            return
        self.program.on_gone.append(then)
        self.kill()

    def kill(self, step: str = "") -> None:
        """SIGKILL the program's group, whatever it does now, for a step or for none; no record says so but `exited`."""
        if self.program is not None and self.program.status is None:
            self.program.blows.append(Blow("KILL", step))
            _kill_group(self.program.pid)

    def reap(self) -> None:
        """Take in every child that is dead. When the program's leader is among them, kill what it left behind."""
        while (dead := _next_dead()) is not None:
            if self.program is not None and dead == self.program.pid:
                # Before the leader is reaped its number cannot have been given to another group.
                _kill_group(dead)
                self.program.status = os.waitpid(dead, 0)[1]
            else:
                os.waitpid(dead, 0)
        if self.program is not None and self.program.status is not None:
            self._bury()

    def _bury(self) -> None:
        left = self._leftovers()
        if not left:
            self._gone(0)
            return
        for pid in left:
            _kill(pid)
        if self._stuck is None:
            self._stuck = self._loop.later(_STUCK_S, self._give_up)

    def _leftovers(self) -> list[int]:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []  # the usual case, without a look at /proc
        return procfs.children()

    def _give_up(self) -> None:
        self._stuck = None
        if self.program is not None and self.program.status is not None:
            left = self._leftovers()
            say(f"{len(left)} processes of the program do not die of SIGKILL")
            self._gone(len(left))

    def _gone(self, left: int) -> None:
        assert self.program is not None
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        program, self.program = self.program, None
        program.end(left)


def _next_dead() -> int | None:
    """The pid of a dead child, which stays a zombie; None when there is none."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return info.si_pid if info is not None else None


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # only zombies are left of it


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
