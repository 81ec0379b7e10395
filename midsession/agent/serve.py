"""Run an agent on a pair of descriptors until their other end is gone: `serve`."""

from __future__ import annotations

import os
import signal
import stat
import traceback

from midsession.agent.agent import Agent
from midsession.agent.answer import LogBroken
from midsession.agent.channel import Channel
from midsession.agent.loop import Loop
from midsession.agent.say import say
from midsession.agent.spawn import Spawn, execute
from midsession.agent.verbs import VERBS

WRONG_CALL = 2
LOG_BROKEN, BROKEN = 3, 4
"""The exit status of an agent whose log could not be written, and of one that has met a mistake of ours."""


def serve(
    in_fd: int,
    out_fd: int,
    service: str = "",
    token: str = "",
    spawn: Spawn = execute,
    packets_are_cut: bool = False,
) -> int:
    """Be the agent of this host for the conductor at the other end of two descriptors, which are closed at the end.

    Returns the exit status: 0 after `shutdown`, when the conductor is gone, or after SIGTERM; 3 when a log could not
    be written; 4 after a mistake of ours. `spawn` is how programs are started, `packets_are_cut` as in `Agent`. Needs
    the process's main thread and its signal handlers; meant for a process of its own, such as a child that was forked
    for a namespace. SIGINT is ignored: the conductor decides how a run is interrupted.
    """
    loop = Loop()
    agent = Agent(loop, VERBS, service, spawn=spawn, packets_are_cut=packets_are_cut)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.signals(
        {
            signal.SIGCHLD: agent.supervisor.reap,
            signal.SIGTERM: agent.terminate,
        }
    )

    def gone(_why: str) -> None:
        agent.abandon_run()
        agent.supervisor.end(lambda: agent.leave(0))

    agent.attach(Channel(loop, in_fd, out_fd), token, gone)
    return run_to_the_end(loop, agent)


def run_to_the_end(loop: Loop, agent: Agent) -> int:
    """Go round until the agent leaves, and leave nothing behind. What ends it before its time is told."""
    try:
        return loop.run()
    except LogBroken as broken:
        agent.say_farewell(str(broken))
        return LOG_BROKEN
    except Exception as mistake:  # noqa: BLE001 - the top of the agent: told in full here, and to the conductor
        for line in traceback.format_exc().splitlines():
            say(line)
        agent.say_farewell(f"a mistake of ours: {type(mistake).__name__}: {mistake}")
        return BROKEN
    finally:
        agent.clean_up()
        loop.close()


def serve_stdio(service: str = "", token: str = "") -> int:
    """The same on standard input and output; whatever else is printed goes to standard error."""
    if not all(_is_stream(fd) for fd in (0, 1)):
        say("--stdio needs pipes or sockets as standard input and output: it is for testbeds, not for people")
        return WRONG_CALL
    in_fd, out_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return serve(in_fd, out_fd, service, token)


def _is_stream(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
