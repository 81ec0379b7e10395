"""The agent itself: takes frames from one conductor, carries them out by the table of verbs, and ends in order.

It is handed that table (`midsession.agent.verbs`), and knows nothing of what a verb does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from midsession.agent import libc, procfs
from midsession.agent.answer import Answer, Refused
from midsession.agent.channel import Channel
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop
from midsession.agent.network.addresses import own_addresses
from midsession.agent.output import Mirror
from midsession.agent.protocol import Farewell, Hello, Reply, decode_request, encode
from midsession.agent.say import say
from midsession.agent.spawn import Spawn, execute
from midsession.agent.supervisor import Supervisor

Handler = Callable[["Agent", Any, Answer], dict[str, Any] | None]
"""Carries out a request. Returns the reply's value, or None when the answer is given later. Raises Refused, OSError."""

_TERM_GRACE_S = 0.3
_TERM_WITHIN_S = 0.7
_FLUSH_S = 0.2
_FLUSH_POLL_S = 0.002


class _Id(msgspec.Struct):
    """What can be made out of a frame that is no request."""

    id: int


_decode_id = msgspec.json.Decoder(_Id).decode


class Agent:
    """What lives in a host. One conductor at a time speaks to it, through the channel that `attach` was given."""

    def __init__(
        self,
        loop: Loop,
        verbs: Mapping[type[Any], Handler],
        service: str,
        mirrors: Sequence[Mirror] = (),
        spawn: Spawn = execute,
        packets_are_cut: bool = False,
    ) -> None:
        self.loop, self.service, self.mirrors, self.spawn = loop, service, mirrors, spawn
        self._verbs = verbs
        self.packets_are_cut = packets_are_cut
        """Packets come to this host as they would over a wire, none larger than the MTU: the testbed sees to it."""
        self.supervisor = Supervisor(loop)
        self.host: HostRun | None = None
        self.heard = False
        """A request of this channel was understood."""
        self.channel: Channel | None = None
        self.linger_s = 0.0
        """How long it stays after it was dismissed."""
        self.dismissed = False
        self.spoiled = False
        """A fault of some run could not be cured: no further run should use this host."""
        self._leaving = False
        procfs.check()
        if os.getpid() != 1:
            libc.become_subreaper()

    # --- the conductor ---------------------------------------------------------------------------------------------

    def attach(self, channel: Channel, token: str, on_gone: Callable[[str], None]) -> None:
        """Speak with a conductor from now on: says hello, and calls back when it is gone."""
        self.channel, self.heard = channel, False
        channel.on_frame = self._frame
        channel.on_room = self._room
        channel.on_gone = lambda why: self._gone(why, on_gone)
        channel.begin()
        channel.send(encode(self._hello(token)))

    def _hello(self, token: str) -> Hello:
        return Hello(
            token=token,
            service=self.service,
            hostname=socket.gethostname(),
            addresses=own_addresses(),
            clock=procfs.own_clock(),
            pid=os.getpid(),
        )

    def _room(self) -> None:
        if self.host is not None:
            self.host.tail.pump()

    def _gone(self, why: str, on_gone: Callable[[str], None]) -> None:
        self.channel = None
        on_gone(why)

    # --- requests --------------------------------------------------------------------------------------------------

    def _frame(self, frame: bytes) -> None:
        try:
            request = decode_request(frame)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._misunderstood(frame, error)
            return
        self.heard = True
        assert self.channel is not None
        answer = Answer(request.id, self.channel.send)
        try:
            value = self._verbs[type(request)](self, request, answer)
            if value is not None:
                answer.give(value)
        except Refused as refused:
            answer.refuse(str(refused))
        except (OSError, ValueError, OverflowError) as error:
            answer.refuse(f"{type(error).__name__}: {error}")

    def _misunderstood(self, frame: bytes, error: Exception) -> None:
        """Answer under the frame's id if it has one, else under 0, which no request bears.

        Who begins with such a frame is no conductor: it could be an echo of ourselves, for ever.
        """
        assert self.channel is not None
        say(f"a frame of {len(frame)} bytes is no request: {error}")
        if not self.heard:
            self.channel.end("it does not speak our protocol")
            return
        try:
            request_id = _decode_id(frame).id
        except (msgspec.MsgspecError, ValueError, RecursionError):
            request_id = 0
        self.channel.send(encode(Reply(id=request_id, t_ns=procfs.now_ns(), error=f"no request: {error}")))

    # --- the run ---------------------------------------------------------------------------------------------------

    def any_run(self) -> HostRun:
        """The run, finished or not; raises Refused when there is none."""
        if self.host is None:
            raise Refused("no run was configured")
        return self.host

    def run_under_way(self) -> HostRun:
        """The run, not finished yet; raises Refused."""
        host = self.any_run()
        if host.finished:
            raise Refused("the run is finished")
        return host

    def finish_run(self) -> None:
        """Heal what is still broken and close the book of a run whose program is gone."""
        if self.host is not None and not self.host.finished:
            self.host.heal_all()
            self.host.finish()

    def abandon_run(self) -> None:
        """The conductor is gone: kill what runs, and close the book behind it."""
        if self.host is not None:
            self.host.tail.close()
        self.supervisor.end(self.finish_run)

    def forget_run(self) -> None:
        """Let go of a run whose program is gone."""
        if self.host is not None:
            self.host.remove()
            self.spoiled = self.spoiled or self.host.incurable
            self.host = None
            self.supervisor.last = None

    # --- its end ---------------------------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Stop the program, then leave with status 0: in less than a second, whatever the program does."""
        if self._leaving:
            return
        self.loop.later(_TERM_WITHIN_S, lambda: self.loop.stop(0))
        program = self.supervisor.program
        if program is None:
            self.leave(0)
            return
        program.on_gone.append(lambda: self.leave(0))
        if program.status is None:
            program.terminate()
        self.loop.later(_TERM_GRACE_S, self.supervisor.kill)

    def dismiss(self) -> None:
        """The conductor needs us no more: leave with status 0, after `linger_s`."""
        self.dismissed = True
        self.loop.later(self.linger_s, lambda: self.leave(0))

    def leave(self, status: int) -> None:
        """End the loop once what was sent is on its way, but soon."""
        if not self._leaving:
            self._leaving = True
            self._flush(status, procfs.now_ns() + int(_FLUSH_S * 1e9))

    def _flush(self, status: int, until_ns: int) -> None:
        if self.channel is None or self.channel.idle or procfs.now_ns() > until_ns:
            self.loop.stop(status)
        else:
            self.loop.later(_FLUSH_POLL_S, lambda: self._flush(status, until_ns))

    def say_farewell(self, why: str) -> None:
        """It cannot go on: say why, in our own account and to the conductor, to whom the stream's end says nothing."""
        say(why)
        if self.channel is not None:
            self.channel.send(encode(Farewell(why=why)))
            self.channel.drain(_FLUSH_S)

    def clean_up(self) -> None:
        """Whatever happened: nothing that we started lives on, and no directory of our own stays."""
        self.supervisor.kill()
        if self.channel is not None:
            self.channel.close()
        try:
            self.forget_run()
        except Exception as error:  # noqa: BLE001 - the last thing that is done: it is told, and the rest was done
            say(f"cannot clean up: {type(error).__name__}: {error}")
