"""Run an agent that dials its conductor over TCP: the agent as PID 1 of a container.

The conductor's name may not resolve yet, and nobody may listen there yet: the agent tries again and again. When a
conductor that had accepted it is gone, it lingers a little: another may come; and where none does, or the agent was
dismissed, the conductor's container is the first of its project to be seen to exit, so that `--exit-code-from` reports
that one (docker/compose#5894).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from midsession.agent.agent import Agent
from midsession.agent.channel import Channel
from midsession.agent.loop import Loop, Timer
from midsession.agent.output import Mirror
from midsession.agent.say import say
from midsession.agent.serve import run_to_the_end
from midsession.agent.verbs import VERBS

_RETRY_S = 0.1
_TRY_S = 1.0
"""How long one look-up of the name, or one connect, may take."""


class Dial(msgspec.Struct, frozen=True):
    """Whom to dial, and how patiently. `token_file` is read anew at each try."""

    host: str
    port: int
    token_file: str
    first_within_s: float = 120.0
    linger_s: float = 2.0


class Dialler:
    """Tries until `deadline`: looks up the name, connects, and hands over the socket.

    The look-up runs in a child of ours: getaddrinfo can neither be interrupted nor bounded, and a SIGTERM must be
    heard meanwhile.
    """

    def __init__(self, loop: Loop, dial: Dial, on_connected: Callable[[int, str], None]) -> None:
        self._loop, self._dial, self._on_connected = loop, dial, on_connected
        self.why = "it was not tried yet"
        self._abandon: Callable[[], None] | None = None
        self._patience: Timer | None = None
        self._retry: Timer | None = None

    def attempt(self) -> None:
        """Try now, and every 100 ms until it works."""
        self._retry = None
        token = self._token()
        if token is None:
            self._again(f"there is no token in {self._dial.token_file}")
            return
        self._resolve(token)

    def cancel(self) -> None:
        """Try no more."""
        if self._retry is not None:
            self._retry.cancel()
        self._settle()

    def _token(self) -> str | None:
        try:
            with open(self._dial.token_file, encoding="utf-8") as file:
                return file.read().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    # --- one try ---------------------------------------------------------------------------------------------------

    def _resolve(self, token: str) -> None:
        answer, question = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _look_up(question, self._dial.host)
        os.close(question)

        def let_go() -> None:
            self._loop.forget(answer)
            os.close(answer)

        def abandon() -> None:
            let_go()
            os.kill(child, signal.SIGKILL)  # it has not answered, so it lives or is a zombie of ours

        def resolved() -> None:
            address = os.read(answer, 256).decode()
            let_go()
            self._abandon = None
            self._settle()
            if address:
                self._connect(address, token)
            else:
                self._again(f"the name {self._dial.host!r} is not known (yet)")

        self._loop.reader(answer, resolved)
        self._bound(abandon, f"the name {self._dial.host!r} was not looked up within {_TRY_S} s")

    def _connect(self, address: str, token: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        caller = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.connect_ex((address, self._dial.port))
        fd = caller.fileno()

        def abandon() -> None:
            self._loop.forget(fd)
            caller.close()

        def settled() -> None:
            error = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error or caller.getsockname() == caller.getpeername():
                # TCP can connect a port to itself, where nobody listens (RFC 9293, simultaneous open).
                self._settle()
                self._again(f"{self._dial.host}:{self._dial.port}: {os.strerror(error or errno.ECONNREFUSED)}")
                return
            self._loop.forget(fd)
            self._abandon = None
            self._settle()
            self._on_connected(caller.detach(), token)

        self._loop.writer(fd, settled)
        self._bound(abandon, f"{self._dial.host}:{self._dial.port} did not answer within {_TRY_S} s")

    def _bound(self, abandon: Callable[[], None], why: str) -> None:
        def over() -> None:
            self._settle()
            self._again(why)

        self._abandon = abandon
        self._patience = self._loop.later(_TRY_S, over)

    def _settle(self) -> None:
        """This part of the try is over, one way or the other."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        abandon, self._abandon = self._abandon, None
        if abandon is not None:
            abandon()

    def _again(self, why: str) -> None:
        self.why = why
        self._retry = self._loop.later(_RETRY_S, self.attempt)


class Caller:
    """An agent's conductors, one after the other."""

    def __init__(self, loop: Loop, agent: Agent, dial: Dial) -> None:
        self._loop, self._agent, self._dial = loop, agent, dial
        self._dialler = Dialler(loop, dial, self._connected)
        self._until_s = time.monotonic() + dial.first_within_s
        agent.linger_s = dial.linger_s
        self._deadline: Timer | None = None
        self._had_one = False

    def begin(self) -> None:
        """Look for the first one."""
        say(f"looking for the conductor at {self._dial.host}:{self._dial.port}")
        self._seek()

    def _seek(self) -> None:
        self._deadline = self._loop.later(max(self._until_s - time.monotonic(), 0), self._nobody)
        self._dialler.attempt()

    def _connected(self, fd: int, token: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._agent.attach(Channel(self._loop, fd, fd), token, self._lost)

    def _lost(self, why: str) -> None:
        if self._agent.dismissed:
            return
        if self._agent.heard:
            say(f"{why}; lingering for {self._dial.linger_s} s")
            self._had_one = True
            self._until_s = time.monotonic() + self._dial.linger_s
        else:
            say(f"{why} before it asked for anything: was our token refused?")
        self._agent.abandon_run()
        self._loop.later(_RETRY_S, self._seek)

    def _nobody(self) -> None:
        self._dialler.cancel()
        if self._had_one:
            self._agent.leave(0)
            return
        say(f"no conductor within {self._dial.first_within_s} s: {self._dialler.why}")
        self._agent.leave(1)


def serve_dialling(dial: Dial, service: str) -> int:
    """Be the agent of this host for the conductor that answers there; what the program prints is mirrored to ours.

    Returns the exit status: 0 after `shutdown`, after SIGTERM or SIGINT, and when a conductor has come and gone; 1
    when none ever came; 3 when a log could not be written; 4 after a mistake of ours.
    """
    loop = Loop()
    agent = Agent(loop, VERBS, service, (Mirror(loop, 1), Mirror(loop, 2)))
    loop.signals(
        {
            signal.SIGCHLD: agent.supervisor.reap,
            signal.SIGTERM: agent.terminate,
            signal.SIGINT: agent.terminate,
        }
    )
    Caller(loop, agent, dial).begin()
    return run_to_the_end(loop, agent)


def _look_up(question: int, host: str) -> NoReturn:
    """In the child: write the address, and be gone without any of the parent's clean-up."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        os.write(question, str(found[0][4][0]).encode())
    finally:
        os._exit(0)
