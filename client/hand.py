"""The fleet by hand, with no harness: plays the lesson in a terminal.

Connects, shows what it hears, writes each line that is typed, ends with Ctrl-D.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import time
from dataclasses import dataclass
from typing import Any, cast

from client.fleet import Fleet
from client.journal import Account, NoLog, say
from client.player import Player
from midsession.core import plan
from midsession.core.job import Go, Job, Signal
from midsession.core.session import State

BYE = "bye"
_END_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    host: str
    port: int
    clients: int
    say: tuple[str, ...]
    reconnect: bool
    timeout_s: float
    source_port: int | None


def job(wish: Wish) -> Job:
    """The session of the lesson as a job: connect, say, listen until Ctrl-D, end.

    Without `reconnect` the server's end is only heard, as in the lesson, and we can still write; with it, it is a loss.
    """
    script: list[plan.Instruction] = [plan.Connect(timeout_s=wish.timeout_s, source_port=wish.source_port)]
    for text in wish.say:
        script.append(plan.Send(plan.Payload(hex=(os.fsencode(text) + b"\n").hex())))
    script.append(plan.Wait(signal=BYE))
    if wish.reconnect:
        script.append(plan.End(within_s=_END_WITHIN_S))
    else:
        script += [plan.HalfClose(), plan.Expect(within_s=_END_WITHIN_S, eof=True, drain=True)]
    clients = [plan.ClientPlan(n, 0.0, plan.substream(0, "client", str(n))) for n in range(1, wish.clients + 1)]
    policy = plan.Reconnect(first_s=0.5, max_s=5.0, attempts=1_000_000) if wish.reconnect else None
    group = plan.GroupPlan("client", wish.host, wish.port, script, clients, policy, wish.timeout_s)
    return Job(run="by hand", groups=[group])


class HandPlayer(Player):
    """A client whose data is shown whole: a character that was cut in two reads is put together again."""

    __slots__ = ("_decoder", "_early")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._early: list[bytes] = []  # typed before there was a connection
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.data_received = self._hear

    def _hear(self, data: bytes) -> None:
        text = self._decoder.decode(data)
        for line in text.splitlines():
            self.show(f"data: {line}")
        self.session.data(data)

    def show(self, text: str) -> None:
        """A line about this client."""
        world: Any = self._world
        say(f"{self.name}: {text}" if world.crowd else text)

    def type(self, line: str) -> None:
        """Write a line that a person typed, where there is a connection."""
        data = line.encode() + b"\n"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
        elif self.session.state in (State.NEW, State.CONNECTING, State.BACKOFF):
            self._early.append(data)
        else:
            self.show("not connected: that line went nowhere")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: what was typed meanwhile is written first."""
        early, self._early = self._early, []
        cast("asyncio.Transport", transport).writelines(early)
        super().connection_made(transport)


class HandFleet(Fleet):
    """A fleet that tells people instead of a log."""

    player = HandPlayer

    def __init__(self, wish: Wish) -> None:
        super().__init__(job(wish), NoLog(), Account())
        self.crowd = wish.clients > 1
        self.mourned: set[str] = set()  # whose server is lost, said already

    def emit(self, event: str, client: str, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Show one record."""
        if event in _TELL:
            self._show(client, _TELL[event].format_map(fields))
        if event in ("error", "lost") and client not in self.mourned:
            self.mourned.add(client)
            self._show(client, f"Server Lost ({fields['how']})")
            player = next(player for player in self.players if player.name == client)
            self._loop.call_soon(player.session.signal, BYE)  # nobody is there to listen to any more
        elif event == "reconnecting" and BYE in self.signals:
            self._loop.call_soon(self._give_up)
        elif event == "connected":
            self.mourned.discard(client)

    def say_goodbye(self) -> None:
        """Nobody types any more: every client ends, and none comes back to a server that is absent or lost."""
        self.obey(Signal(BYE))
        self._give_up()

    def _give_up(self) -> None:
        for player in self.players:
            if player.name in self.mourned and player.session.state in (State.CONNECTING, State.BACKOFF):
                player.session.stop()

    def _show(self, client: str, text: str) -> None:
        say(f"{client}: {text}" if self.crowd else text)


_TELL = {
    "connecting": "connecting to {to}",
    "connected": "connected to {peer} from {local}",
    "end": "end: the server has ended its side",
    "error": "error: {message} ({how})",
    "closed": "closed",
    "reconnecting": "trying again in {delay_s:.1f} s",
    "protocol_error": "the server did not end within {within_s:g} s",
}
"""What people read of each event; the rest they typed themselves, or see as data."""


async def play(fleet: HandFleet) -> int:
    """Begin, and wait until all clients are done. The exit code: 0, or 1 when a server was lost or absent."""
    fleet.obey(Go(time.monotonic_ns()))
    await fleet.over
    return 1 if fleet.mourned or set(fleet.outcomes.values()) - {"ok", "stopped"} else 0
