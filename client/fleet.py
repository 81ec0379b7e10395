"""Many clients in one process: begins their sessions, carries orders to them, and knows when all are done."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from client.journal import ACCOUNT_LINES, Account
from client.lookup import Lookups
from client.player import PacedPlayer, Player
from midsession.core.job import Begin, Go, Job, Order, Release, Signal
from midsession.core.plan import GroupPlan
from midsession.core.program import Program, compile_program
from midsession.core.record import Event


class Sink(Protocol):
    """Where records go (`midsession.core.record.Log`, or nowhere)."""

    def add(self, event: str, client: str | None, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Take one record."""

    def flush(self) -> None:
        """Make the records durable."""

    def close(self) -> None:
        """Write the trailer."""


class Fleet:
    """The clients of one job. Raises ValueError, with a text for people, for a script that cannot be played.

    `over` is done when every session is; its exception is a failure of the fleet itself. Sessions that nobody began
    are over once the fleet is stopped.
    """

    player: type[Player] = Player
    paced_player: type[Player] = PacedPlayer

    def __init__(self, job: Job, sink: Sink, account: Account) -> None:
        self.run, self.addresses = job.run, job.addresses
        self.signals: set[str] = set()
        self.lookups = Lookups(self.stalled)
        self.flush = sink.flush
        self._add, self._account, self._counts = sink.add, account, account.counts
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._failed)
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._groups = {group.name: group for group in job.groups}
        self._players = {group.name: self._crew(group) for group in job.groups}
        self._left = sum(map(len, self._players.values()))
        self._begun: set[str] = set()
        self.outcomes: dict[str, str] = {}

    def _crew(self, group: GroupPlan) -> list[Player]:
        program = compile_program(group)
        kind = self.paced_player if program.paced else self.player
        return [self._hire(kind, group, client, program) for client in group.clients]

    def _hire(self, kind: type[Player], group: GroupPlan, client: Any, program: Program) -> Player:
        return kind(self, group.name, client, program)

    @property
    def players(self) -> list[Player]:
        """All of them."""
        return [player for crew in self._players.values() for player in crew]

    # --- orders -------------------------------------------------------------------------------------------------------

    def obey(self, order: Order) -> None:
        """Carry out one order."""
        if isinstance(order, Go):
            for group in self._groups.values():
                if group.begin:
                    self._begin(group.name, order.t_ns)
        elif isinstance(order, Begin):
            self._begin(order.group, order.t_ns)
        elif isinstance(order, Signal):
            self.signals.add(order.name)
            for player in self.players:
                player.session.signal(order.name)
        elif isinstance(order, Release):
            for player in self._players.get(order.group, ()):
                player.session.release(order.name)

    def _begin(self, name: str, t_ns: int) -> None:
        if name in self._begun or name not in self._groups:
            return
        self._begun.add(name)
        for client, player in zip(self._groups[name].clients, self._players[name], strict=True):
            wait_s = (t_ns - time.monotonic_ns()) / 1e9 + client.arrive_s
            self._loop.call_later(max(0.0, wait_s), player.begin)

    def stop(self) -> None:
        """End every session gracefully."""
        for player in self.players:
            player.session.stop()

    # --- what players tell --------------------------------------------------------------------------------------------

    def emit(self, event: str, client: str, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Take one record of a client."""
        self._add(event, client, connection, fields, t_ns)
        self._counts[event] += 1
        if self._account.shown < ACCOUNT_LINES:
            self.flush()  # people read of nothing that a SIGKILL could still undo
            self._account.line(event, client, connection, fields)

    def stalled(self, for_ns: int) -> None:
        """Some client, or all of them, had to wait for us until now: what they saw late came in time perhaps."""
        self._add(Event.STALLED, None, None, {"for_ns": for_ns}, time.monotonic_ns())
        self.flush()

    def done(self, player: Player, outcome: str) -> None:
        """A client is done."""
        self.outcomes[player.name] = outcome
        self._left -= 1
        if not self._left and not self.over.done():
            self.over.set_result(None)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A failure of our own (a log that cannot be written, a mistake): the fleet is over, and says why."""
        error = context.get("exception")
        if not self.over.done():
            self.over.set_exception(error or RuntimeError(context["message"]))
