"""One client's session: a state machine that runs a program over one or more connections.

Inputs are method calls (`data`, `eof`, `closed`, `timer`, …); outputs are calls on `Effects`. It knows no socket, no
loop and no clock of its own, and it waits nowhere: a step that cannot go on leaves the machine in the state that says
what it waits for, and the input that brings it runs the following steps in the same call. So a driver needs no future
and no task per reply (BENCH: that is what keeps raw speed at ten thousand sessions).

What each state does with each input is `TABLE`; a test proves that it is total. The rules of a loss:

* What the peer sent before its FIN or RST still satisfies expects; only then is the loss judged.
* A FIN is a loss unless the script may still `expect: eof` on this connection, or is ending it. An RST likewise with
  `expect: reset`. A FIN that is no loss leaves the other direction open: sends after it are legal (RFC 9293, 3.6).
* Every attempt to connect is a connection of its own number and ends with exactly one `closed`; every session ends with
  exactly one `done`, and nothing follows it.

Its parts are layers, each a module: `base`, `connecting`, `expecting`, `steps`, and here the inputs and the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from midsession.core.session.states import Effects, Input, State
from midsession.core.session.steps import Stepping

__all__ = ["TABLE", "Effects", "Input", "Session", "State"]


class Session(Stepping):
    """A client's session. `clock` gives CLOCK_MONOTONIC in nanoseconds; `signals` is shared, and only ever grows.

    Each input is one row of the table, then everything recorded goes to the kernel.
    """

    __slots__ = ()

    def begin(self) -> None:
        """The client arrives."""
        TABLE[self.state][Input.BEGIN](self)
        self._fx.flush()

    def connected(self, local: str, peer: str) -> None:
        """The connection stands, between these `ip:port`."""
        TABLE[self.state][Input.CONNECTED](self, local, peer)
        self._fx.flush()

    def failed(self, how: str, errno: int | None, message: str) -> None:
        """The attempt to connect failed."""
        TABLE[self.state][Input.FAILED](self, how, errno, message)
        self._fx.flush()

    def data(self, data: bytes) -> None:
        """The peer's bytes, never empty."""
        _ON_DATA[self.state](self, data)
        self._fx.flush()

    def eof(self) -> None:
        """The peer's FIN."""
        TABLE[self.state][Input.EOF](self)
        self._fx.flush()

    def closed(self, how: str | None = None, errno: int | None = None, message: str = "") -> None:
        """The connection is gone: `how` None after a close of our own that went well, else what destroyed it."""
        TABLE[self.state][Input.CLOSED](self, how, errno, message)
        self._fx.flush()

    def timer(self) -> None:
        """The instant of the last `wake_at` has come. Deadlines that moved meanwhile are waited for anew."""
        self._wake = 0
        if not self._deadline:
            return
        if self._clock() < self._deadline:
            self._wake_by(self._deadline)
            return
        self._deadline = 0
        TABLE[self.state][Input.TIMER](self)
        self._fx.flush()

    def drained(self) -> None:
        """The write buffer has room again."""
        self._write_full = False
        TABLE[self.state][Input.DRAINED](self)
        self._fx.flush()

    def signal(self, name: str) -> None:
        """The timeline raised `name` (it is in `signals` already)."""
        TABLE[self.state][Input.SIGNAL](self, name)
        self._fx.flush()

    def release(self, name: str) -> None:
        """The barrier `name` opened."""
        TABLE[self.state][Input.RELEASE](self, name)
        self._fx.flush()

    def stop(self) -> None:
        """End gracefully, wherever it is."""
        TABLE[self.state][Input.STOP](self)
        self._fx.flush()


Handler = Callable[..., Any]


def _row(
    *,
    begin: Handler = Session._never,
    connected: Handler = Session._never,
    failed: Handler = Session._never,
    data: Handler = Session._never,
    eof: Handler = Session._never,
    closed: Handler = Session._never,
    timer: Handler = Session._never,
    drained: Handler = Session._ignore,
    signal: Handler = Session._ignore,
    release: Handler = Session._ignore,
    stop: Handler = Session._stop_here,
) -> tuple[Handler, ...]:
    return (begin, connected, failed, data, eof, closed, timer, drained, signal, release, stop)


_HEARING: dict[str, Handler] = {
    "data": Session._hear,
    "eof": Session._hear_end,
    "closed": Session._destroyed,
}
_SENDING: dict[str, Handler] = {**_HEARING, "closed": Session._destroyed_sending}

TABLE: dict[State, tuple[Handler, ...]] = {
    State.NEW: _row(begin=Session._start),
    State.CONNECTING: _row(connected=Session._made, failed=Session._refused, stop=Session._stop_connecting),
    State.EXPECTING: _row(
        data=Session._hear_expected,
        eof=Session._hear_expected_end,
        closed=Session._destroyed_expecting,
        timer=Session._expect_late,
    ),
    State.PAUSING: _row(**_HEARING, timer=Session._run),
    State.AWAITING: _row(**_HEARING, signal=Session._signalled),
    State.AT_BARRIER: _row(**_HEARING, release=Session._released),
    State.SLICING: _row(**_SENDING, timer=Session._next_slice, drained=Session._next_slice),
    State.FLUSHING: _row(**_SENDING, drained=Session._run),
    State.YIELDED: _row(**_HEARING, timer=Session._run),
    State.ENDING: _row(
        data=Session._heard, eof=Session._hear_final_end, closed=Session._destroyed_ending, timer=Session._end_late
    ),
    State.CLOSING: _row(
        data=Session._ignore,
        eof=Session._ignore,
        closed=Session._closed_by_us,
        timer=Session._abort_close,
        stop=Session._stop_closing,
    ),
    State.BACKOFF: _row(timer=Session._reconnect),
    State.DONE: _row(stop=Session._ignore),
}
"""What each state does with each input, in the order of `Input`."""

_ON_DATA = tuple(TABLE[state][Input.DATA] for state in State)
