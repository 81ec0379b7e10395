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
"""

from __future__ import annotations

import errno as codes
import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Protocol

from midsession.core import match
from midsession.core import program as ops
from midsession.core.plan import draw
from midsession.core.program import Program, nanoseconds
from midsession.core.reconnect import delay_s
from midsession.core.template import Names
from midsession.core.wire import LINE_LIMIT_BYTES, Inbox, LineTooLong, describe, preview

STOP_GRACE_NS = 1_000_000_000
"""How long a stopped session waits for the peer's FIN."""

CLOSE_GUARD_NS = 1_000_000_000
"""How long a close may take to hand over what is still unwritten; then the connection is aborted."""

STEPS_PER_TURN = 1000
"""A script that never waits gives way to the other sessions after that many steps."""


class Effects(Protocol):
    """What a session asks of its driver. No call may come back into the session before it returns.

    After `connect` comes exactly one of `connected` and `failed`, unless `close` comes first; a connection that was
    made, and an attempt that was closed, end with exactly one `closed`. After `abort` that comes at once.
    """

    def connect(self, target: ops.Connect) -> None:
        """Begin to connect."""

    def write(self, data: bytes) -> bool:
        """Write; True when the buffer is over its high-water mark, and `drained` will follow."""

    def shutdown_write(self) -> None:
        """Send FIN after what is still buffered; go on reading."""

    def close(self) -> None:
        """Close in order, after what is still buffered; or give up an attempt to connect."""

    def abort(self, reset: bool) -> None:
        """Close at once; `reset` with an RST (SO_LINGER 0)."""

    def read(self, policy: str, bytes_per_s: int | None) -> None:
        """How to read from here on: `normal`, `slow` or `never`."""

    def wake_at(self, t_ns: int) -> None:
        """Call `timer` at this instant, instead of any instant asked for before."""

    def emit(self, event: str, client: str, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Write a record; it may be held back until `flush`."""

    def flush(self) -> None:
        """Hand every record that was held back to the kernel."""

    def done(self, outcome: str) -> None:
        """The session is over."""


class State(IntEnum):
    """What a session waits for."""

    NEW = 0  # its arrival
    CONNECTING = 1
    EXPECTING = 2  # the peer's message, for an `expect`
    PAUSING = 3  # time
    AWAITING = 4  # a signal
    AT_BARRIER = 5
    SLICING = 6  # the next slice of a send
    FLUSHING = 7  # room in the write buffer
    YIELDED = 8  # its next turn
    ENDING = 9  # the peer's FIN, after its own
    CLOSING = 10  # the connection's `closed`
    BACKOFF = 11  # the next attempt
    DONE = 12  # nothing


class Input(IntEnum):
    """What can happen to a session."""

    BEGIN = 0
    CONNECTED = 1
    FAILED = 2
    DATA = 3
    EOF = 4
    CLOSED = 5
    TIMER = 6
    DRAINED = 7
    SIGNAL = 8
    RELEASE = 9
    STOP = 10


class Link(IntEnum):
    """The session's connection."""

    NONE = 0
    OPEN = 1
    DEAD = 2  # destroyed, but what it delivered is still being used: not judged yet


NONE, OPEN, DEAD = Link
EXPECTING, CLOSING = State.EXPECTING, State.CLOSING


class Session:
    """A client's session. `clock` gives CLOCK_MONOTONIC in nanoseconds; `signals` is shared, and only ever grows."""

    __slots__ = (
        "_attempt",
        "_bytes_in",
        "_bytes_out",
        "_choked",
        "_clock",
        "_counted",
        "_deadline",
        "_draws",
        "_emit",
        "_eof",
        "_fin_sent",
        "_frames",
        "_fx",
        "_heard_ns",
        "_inbox",
        "_key",
        "_link",
        "_loss",
        "_n",
        "_name",
        "_names",
        "_op",
        "_outcome",
        "_pc",
        "_pending",
        "_program",
        "_read",
        "_rest",
        "_sent_ns",
        "_signals",
        "_target",
        "_wake",
        "_write_full",
        "connection",
        "state",
    )

    def __init__(
        self, program: Program, names: Names, key: str, effects: Effects, clock: Callable[[], int], signals: set[str]
    ) -> None:
        self._program, self._names, self._key = program, names, key
        self._name = names.session
        self._fx, self._emit, self._clock, self._signals = effects, effects.emit, clock, signals
        self.state = State.NEW
        self.connection = 0
        self._target = program.target
        self._pc = 0
        self._op: Any = None  # the step that waits
        self._frames: list[tuple[int, int, int]] = []  # of the repeats it is in: address, rounds done, deadline
        self._link = NONE
        self._eof = False  # the peer's FIN was seen
        self._fin_sent = False
        self._pending: str | None = None  # a loss that is not judged yet
        self._loss: str | None = None  # a loss that was judged, while the connection closes
        self._outcome: str | None = None  # what the session ends with once the connection is closed
        self._inbox = Inbox()
        self._counted = 0  # bytes already counted by an `expect: bytes`
        self._choked = False  # reading was stopped because too much was heard ahead
        self._write_full = False
        self._read: ops.Read | None = None
        self._rest = b""  # of a send in slices
        self._n = 0
        self._sent_ns = 0  # of the last send on this connection; 0: none
        self._heard_ns = 0
        self._bytes_in = self._bytes_out = 0
        self._attempt = 0
        self._draws = 0
        self._deadline = self._wake = 0

    # --- inputs: each is one row of the table, then everything recorded goes to the kernel ---------------------------

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

    # --- connecting ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        first = self._program.ops[0]
        address = 0
        while isinstance(first, ops.Loop):
            address += 1
            first = self._program.ops[address]
        if isinstance(first, ops.Connect):
            self._run()
        else:
            self._connect(self._target)

    def _connect(self, target: ops.Connect) -> None:
        self.connection += 1
        self._target = target
        self._eof = self._fin_sent = self._choked = self._write_full = False
        self._sent_ns = self._bytes_in = self._bytes_out = self._counted = 0
        self._inbox.clear()
        self._pending = self._loss = None
        self.state = State.CONNECTING
        self._heard_ns = self._tell("connecting", {"to": f"{target.host}:{target.port}"})
        self._fx.flush()
        self._fx.connect(target)

    def _made(self, local: str, peer: str) -> None:
        now = self._clock()
        fields = {"local": local, "peer": peer, "took_ns": now - self._heard_ns}
        self._emit("connected", self._name, self.connection, fields, now)
        self._link = OPEN
        self._attempt = 0
        if self._read is not None:
            self._fx.read(self._read.policy, self._read.bytes_per_s)
        self._run()

    def _refused(self, how: str, errno: int | None, message: str) -> None:
        self._tell("error", {"how": how, "errno": errno, "message": message})
        self._tell("lost", {"how": how})
        self._tell_closed(True)
        self._after_loss(how)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _heard(self, data: bytes) -> None:
        self._bytes_in += len(data)
        self._heard_ns = now = self._clock()
        self._emit("received", self._name, self.connection, describe(data), now)

    def _hear(self, data: bytes) -> None:
        """Bytes that no expect waits for now: kept as far as one still will, and never without bound."""
        self._heard(data)
        if not self._program.data_ahead[self._pc - 1]:
            return
        self._inbox.feed(data)
        if len(self._inbox) > LINE_LIMIT_BYTES and not self._choked:
            self._choked = True
            self._fx.read("never", None)

    def _hear_expected(self, data: bytes) -> None:
        self._heard(data)
        op = self._op
        if op.takes_line and not self._inbox.held and data.find(b"\n") == len(data) - 1:
            self._hear_one_line(op, data)
            return
        self._inbox.feed(data)
        met = _ATTEMPTS[type(op.matcher)](self, op)
        if met:
            self._deadline = 0
            self._run()

    def _hear_one_line(self, op: ops.Expect, data: bytes) -> None:
        """The common case, without the inbox: the read is the line that is waited for, no more and no less."""
        line = data[:-2] if data.endswith(b"\r\n") else data[:-1]
        matcher: match.Lines = op.matcher  # type: ignore[assignment]
        if matcher.test(line, self._names, self._n):
            self._met(op, line)
            self._deadline = 0
            self._run()
        else:
            self._violate(op, line)

    def _hear_end(self) -> None:
        """The peer's FIN while the script waits for something else."""
        self._take_fin()
        if not self._remembered():
            self._lose("eof")

    def _hear_expected_end(self) -> None:
        self._take_fin()
        self._retry_expect()

    def _hear_final_end(self) -> None:
        self._take_fin()
        self._close()

    def _take_fin(self) -> None:
        self._eof = True
        self._pending = "eof"
        self._tell("end", {})

    def _retry_expect(self) -> None:
        """No more bytes will come: an unfinished line is a line now, and what is not met can be hopeless."""
        op = self._op
        met = _ATTEMPTS[type(op.matcher)](self, op)
        if met:
            self._deadline = 0
            self._run()
        elif met is None and self._hopeless(op):
            self._lose(self._pending or "eof")

    def _hopeless(self, op: ops.Expect) -> bool:
        """Whether an expect that is not met cannot be met any more, or the loss must be judged before it is."""
        if isinstance(op.matcher, match.Lines | match.Exact | match.Count):
            return self._eof or self._link is not OPEN
        return self._pending is not None and not self._remembered()

    def _remembered(self) -> bool:
        """Whether a pending loss may still be what the script expects, or has brought bytes that it does."""
        at = self._pc - 1
        program = self._program
        if self._pending == "eof" and program.eof_ahead[at]:
            return True
        if self._pending == "reset" and program.reset_ahead[at]:
            return True
        return len(self._inbox) > 0 and program.data_ahead[at]

    # --- losing -------------------------------------------------------------------------------------------------------

    def _destroyed(self, how: str | None, errno: int | None, message: str) -> None:
        """The connection died under a step that waits for something else."""
        self._take_death(how, errno, message)
        if not self._remembered():
            self._lose(str(self._pending))

    def _destroyed_sending(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        if self._remembered():
            self._rest = b""
            self._deadline = 0
            self._run()
        else:
            self._lose(str(self._pending))

    def _destroyed_expecting(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        self._retry_expect()

    def _destroyed_ending(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        self._lose(str(self._pending))

    def _take_death(self, how: str | None, errno: int | None, message: str) -> None:
        if errno == codes.EPIPE and self._eof:
            how = "eof"  # the peer had ended before: this is only where we notice that nobody reads
        self._link = DEAD
        self._pending = how or "aborted"
        self._tell("error", {"how": self._pending, "errno": errno, "message": message})

    def _lose(self, how: str) -> None:
        self._deadline = 0
        self._tell("lost", {"how": how})
        if self._outcome != "stopped":
            self._outcome = None
        self._loss = how
        if self._link is OPEN:
            self._close()
        else:
            self._tell_closed(True)
            self._closed_next()

    def _after_loss(self, how: str) -> None:
        policy = self._program.on_loss
        if policy is None:
            self._done("lost")
            return
        self._attempt += 1
        delay = delay_s(policy, self._attempt, self._key)
        if delay is None:
            self._tell_own("gave_up", {"attempts": policy.attempts})
            self._done("gave_up")
            return
        now = self._tell_own("reconnecting", {"attempt": self._attempt, "delay_s": delay})
        self.state = State.BACKOFF
        self._wait_until(now + nanoseconds(delay))

    def _reconnect(self) -> None:
        """Connect again, and go on from the start of the innermost repeat's body, or of the script."""
        self._pc = self._frames[-1][0] + 1 if self._frames else 0
        first = self._program.ops[self._pc]
        if isinstance(first, ops.Connect):
            self._pc += 1
            self._target = first
        self._connect(self._target)

    # --- closing ------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        self.state = CLOSING
        self._fx.flush()
        self._fx.close()
        self._wait_until(self._clock() + CLOSE_GUARD_NS)

    def _abort_close(self) -> None:
        self._fx.abort(False)

    def _closed_by_us(self, how: str | None, errno: int | None, message: str) -> None:
        self._deadline = 0
        if how is not None:
            self._tell("error", {"how": how, "errno": errno, "message": message})
        self._tell_closed(how is not None)
        self._closed_next()

    def _closed_next(self) -> None:
        loss, self._loss = self._loss, None
        if self._outcome is not None:
            self._done(self._outcome)
        elif loss is not None:
            self._after_loss(loss)
        else:
            self._run()

    def _tell_closed(self, had_error: bool) -> None:
        self._link = NONE
        self._pending = None
        self._tell("closed", {"had_error": had_error, "bytes_in": self._bytes_in, "bytes_out": self._bytes_out})

    def _done(self, outcome: str) -> None:
        self.state = State.DONE
        self._deadline = 0
        self._tell_own("done", {"outcome": outcome})
        self._fx.flush()
        self._fx.done(outcome)

    def _stop_here(self) -> None:
        self._outcome = "stopped"
        self._rest = b""
        if self._link is OPEN:
            self._end_within(STOP_GRACE_NS)
        elif self._link is DEAD:
            self._lose(str(self._pending))
        else:
            self._done("stopped")

    def _stop_connecting(self) -> None:
        self._outcome = "stopped"
        self._close()

    def _stop_closing(self) -> None:
        self._outcome = self._outcome or "stopped"

    def _end_within(self, within_ns: int) -> None:
        if self._choked:
            self._unchoke()
        self.state = State.ENDING
        self._fx.flush()
        if not self._fin_sent:
            self._fin_sent = True
            self._fx.shutdown_write()
        if self._eof:
            self._close()
        else:
            self._wait_until(self._clock() + within_ns)

    # --- steps: True when the next may run at once --------------------------------------------------------------------

    def _run(self) -> None:
        program = self._program.ops
        for _ in range(STEPS_PER_TURN):
            op = program[self._pc]
            self._pc += 1
            if not _STEPS[type(op)](self, op):
                return
        self.state = State.YIELDED
        self._wait_until(self._clock())

    def _step_connect(self, op: ops.Connect) -> bool:
        if self._link is OPEN:
            self._pc -= 1
            self._close()
        elif self._link is DEAD:
            self._lose(str(self._pending))
        else:
            self._connect(op)
        return False

    def _connect_first(self) -> bool:
        """A step that needs a connection, where none is: make one, then run the step."""
        self._pc -= 1
        self._connect(self._target)
        return False

    def _step_send(self, op: ops.Send) -> bool:
        if self._link is not OPEN or self._pending is not None:
            if self._link is NONE:
                return self._connect_first()
            if not self._remembered():
                self._lose(str(self._pending))
                return False
        if self._fin_sent:
            return self._send_after_fin()
        self._n = n = self._n + 1
        payload = op.constant
        if payload is None:
            payload = self._payload(op, n)
        fields = {"n": n, **(op.told or describe(payload))}
        if op.as_ is not None:
            fields["as"] = op.as_
        self._sent_ns = now = self._clock()
        self._emit("sent", self._name, self.connection, fields, now)
        if self._link is DEAD:
            return True  # the kernel would take nothing; the intent stands, and what is expected decides
        if op.slice_bytes is not None:
            self._op, self._rest = op, payload
            return self._slice()
        return self._write(payload)

    def _payload(self, op: ops.Send, n: int) -> bytes:
        if op.template is not None:
            return op.template.expand(self._names, n).encode()
        return hashlib.shake_256(f"{self._key}/payload/{n}".encode()).digest(op.random_bytes)

    def _write(self, payload: bytes) -> bool:
        self._bytes_out += len(payload)
        self._fx.flush()
        if self._fx.write(payload):
            self._write_full = True
            self.state = State.FLUSHING
            return False
        return True

    def _slice(self) -> bool:
        op: ops.Send = self._op
        assert op.slice_bytes
        piece, self._rest = self._rest[: op.slice_bytes], self._rest[op.slice_bytes :]
        if not self._rest:
            return self._write(piece)
        self._write(piece)
        self.state = State.SLICING
        self._wait_until(self._clock() + op.pause_ns)
        return False

    def _next_slice(self) -> None:
        """The pause is over, or there is room again; both are needed."""
        if not self._deadline and not self._write_full and self._slice():
            self._run()

    def _send_after_fin(self) -> bool:
        message = "a send after this client's own FIN"
        self._tell("error", {"how": "aborted", "errno": codes.EPIPE, "message": message})
        self._lose("aborted")
        return False

    def _step_expect(self, op: ops.Expect) -> bool:
        if self._link is NONE and isinstance(op.matcher, match.Lines | match.Exact | match.Count):
            return self._connect_first()
        if self._inbox.held or self._pending is not None or self._link is not OPEN:
            met = _ATTEMPTS[type(op.matcher)](self, op)
            if met is not None:
                return met
            if self._hopeless(op):
                self._lose(self._pending or "eof")
                return False
            if self._link is NONE and not isinstance(op.matcher, match.Nothing):
                return self._violate(op, None)
        if self._choked:
            self._unchoke()
        self._op = op
        self.state = EXPECTING
        self._deadline = deadline = self._clock() + op.within_ns
        if not self._wake or deadline < self._wake:
            self._wake_by(deadline)
        return False

    def _unchoke(self) -> None:
        self._choked = False
        read = self._read
        self._fx.read(read.policy if read else "normal", read.bytes_per_s if read else None)

    def _attempt_line(self, op: ops.Expect) -> bool | None:
        try:
            line = self._inbox.line()
        except LineTooLong:
            return self._violate(op, self._inbox.peek())
        if line is None:
            if not len(self._inbox) or (self._link is OPEN and not self._eof):
                return None
            line = self._inbox.rest()
        matcher: match.Lines = op.matcher  # type: ignore[assignment]
        if matcher.test(line, self._names, self._n):
            return self._met(op, line)
        return self._violate(op, line)

    def _attempt_exact(self, op: ops.Expect) -> bool | None:
        matcher: match.Exact = op.matcher  # type: ignore[assignment]
        if matcher.differs(self._inbox, self._names, self._n):
            return self._violate(op, self._inbox.peek())
        taken = self._inbox.take(len(matcher.expected(self._names, self._n)))
        return None if taken is None else self._met(op, taken)

    def _attempt_count(self, op: ops.Expect) -> bool | None:
        matcher: match.Count = op.matcher  # type: ignore[assignment]
        head = self._inbox.peek()[: matcher.count - self._counted]
        self._counted += self._inbox.drop(matcher.count - self._counted)
        if self._counted < matcher.count:
            return None
        self._counted = 0
        return self._met(op, head)

    def _attempt_eof(self, op: ops.Expect) -> bool | None:
        self._inbox.clear()
        if not self._eof:
            return None
        if self._pending == "eof" and self._link is DEAD:
            self._tell_closed(True)
        elif self._pending == "eof":
            self._pending = None
        return True

    def _attempt_reset(self, op: ops.Expect) -> bool | None:
        self._inbox.clear()
        if self._pending != "reset":
            return None
        self._tell_closed(True)
        return True

    def _attempt_nothing(self, op: ops.Expect) -> bool | None:
        return self._violate(op, self._inbox.peek()) if len(self._inbox) else None

    def _met(self, op: ops.Expect, message: bytes) -> bool:
        if self._sent_ns:
            rtt = max(0, self._heard_ns - self._sent_ns)
            fields = {"n": self._n, "text": preview(message), "rtt_ns": rtt}
            if op.ok is not None:
                fields["ok"] = op.ok
            self._tell("replied", fields)
        return True

    def _violate(self, op: ops.Expect, got: bytes | None) -> bool:
        """The expect failed: the session ends here. `got` None: nothing came. Returns False, for the steps."""
        self._deadline = 0
        wanted = op.matcher.wanted(self._names, self._n)
        shown = None if got is None else preview(got)
        self._tell_own("protocol_error", {"expected": wanted, "got": shown, "within_s": op.within_s})
        self._outcome = "protocol_error"
        if self._link is OPEN:
            self._close()
        else:
            if self._link is DEAD:
                self._tell_closed(True)
            self._done("protocol_error")
        return False

    def _expect_late(self) -> None:
        op: ops.Expect = self._op
        if isinstance(op.matcher, match.Nothing):
            self._run()
        else:
            self._violate(op, self._inbox.peek() or None)

    def _judged(self) -> bool:
        """Before a step that waits: a loss that nothing ahead can use is judged now."""
        if self._pending is None or self._remembered():
            return False
        self._lose(self._pending)
        return True

    def _step_pause(self, op: ops.Pause) -> bool:
        if self._judged():
            return False
        low, high = op.span.low_s, op.span.high_s
        self._draws += 1
        wait = low if low == high else low + (high - low) * draw(f"{self._key}/wait", self._draws)
        self.state = State.PAUSING
        self._wait_until(self._clock() + nanoseconds(wait))
        return False

    def _step_await(self, op: ops.Await) -> bool:
        if op.signal in self._signals:
            return True
        if not self._judged():
            self._op = op
            self.state = State.AWAITING
        return False

    def _signalled(self, name: str) -> None:
        if name == self._op.signal:
            self._run()

    def _step_barrier(self, op: ops.Barrier) -> bool:
        if not self._judged():
            self._op = op
            self.state = State.AT_BARRIER
            self._tell_own("mark", {"name": op.name, "barrier": True})
        return False

    def _released(self, name: str) -> None:
        if name == self._op.name:
            self._run()

    def _step_half_close(self, op: ops.HalfClose) -> bool:
        if self._link is NONE:
            return self._connect_first()
        if self._link is OPEN and not self._fin_sent:
            self._fin_sent = True
            self._fx.flush()
            self._fx.shutdown_write()
        return True

    def _step_end(self, op: ops.End) -> bool:
        if self._link is NONE:
            return True
        if self._link is DEAD:
            self._lose(str(self._pending))
        else:
            self._end_within(op.within_ns)
        return False

    def _step_abort(self, op: ops.Abort) -> bool:
        if self._link is NONE:
            return True
        if self._link is DEAD:
            self._lose(str(self._pending))
            return False
        self.state = CLOSING
        self._fx.flush()
        self._fx.abort(True)
        return False

    def _step_read(self, op: ops.Read) -> bool:
        self._read = op
        if self._link is OPEN and not self._choked:
            self._fx.read(op.policy, op.bytes_per_s)
        return True

    def _step_mark(self, op: ops.Mark) -> bool:
        self._tell_own("mark", {"name": op.name})
        return True

    def _step_loop(self, op: ops.Loop) -> bool:
        deadline = 0 if op.for_ns is None else self._clock() + op.for_ns
        if self._over(op, 0, deadline):
            self._pc = op.exit
        else:
            self._frames.append((self._pc - 1, 0, deadline))
        return True

    def _step_again(self, op: ops.Again) -> bool:
        head, rounds, deadline = self._frames[-1]
        rounds += 1
        if self._over(op.loop, rounds, deadline):
            self._frames.pop()
        else:
            self._frames[-1] = (head, rounds, deadline)
            self._pc = head + 1
        return True

    def _over(self, loop: ops.Loop, rounds: int, deadline: int) -> bool:
        if loop.times is not None and rounds >= loop.times:
            return True
        if loop.until is not None and loop.until in self._signals:
            return True
        return loop.for_ns is not None and self._clock() >= deadline

    def _step_finish(self, op: ops.Finish) -> bool:
        if self._link is NONE:
            self._done("ok")
            return False
        self._outcome = "ok"
        return self._step_end(op.end)

    # --- small things -------------------------------------------------------------------------------------------------

    def _tell(self, event: str, fields: dict[str, Any]) -> int:
        """Record what happens to the connection, be it only an attempt."""
        now = self._clock()
        self._emit(event, self._name, self.connection, fields, now)
        return now

    def _tell_own(self, event: str, fields: dict[str, Any]) -> int:
        """Record what the session does by itself: with its connection where there is one."""
        now = self._clock()
        connection = None if self._link is NONE else self.connection
        self._emit(event, self._name, connection, fields, now)
        return now

    def _wait_until(self, t_ns: int) -> None:
        self._deadline = t_ns
        if not self._wake or t_ns < self._wake:
            self._wake_by(t_ns)

    def _wake_by(self, t_ns: int) -> None:
        self._wake = t_ns
        self._fx.wake_at(t_ns)

    # --- cells of the table -------------------------------------------------------------------------------------------

    def _ignore(self, *_: Any) -> None:
        """This input changes nothing in this state."""

    def _never(self, *what: Any) -> None:
        """The driver's contract rules this out: a mistake of ours, never caught."""
        raise AssertionError(f"a session in state {self.state.name} got an input it cannot get: {what}")


Handler = Callable[..., Any]

_STEPS: dict[type[Any], Callable[[Session, Any], bool]] = {
    ops.Connect: Session._step_connect,
    ops.Send: Session._step_send,
    ops.Expect: Session._step_expect,
    ops.Pause: Session._step_pause,
    ops.Await: Session._step_await,
    ops.HalfClose: Session._step_half_close,
    ops.End: Session._step_end,
    ops.Abort: Session._step_abort,
    ops.Read: Session._step_read,
    ops.Barrier: Session._step_barrier,
    ops.Mark: Session._step_mark,
    ops.Loop: Session._step_loop,
    ops.Again: Session._step_again,
    ops.Finish: Session._step_finish,
}

_ATTEMPTS: dict[type[match.Matcher], Callable[[Session, ops.Expect], bool | None]] = {
    match.Line: Session._attempt_line,
    match.Contains: Session._attempt_line,
    match.Glob: Session._attempt_line,
    match.Regex: Session._attempt_line,
    match.Exact: Session._attempt_exact,
    match.Count: Session._attempt_count,
    match.Eof: Session._attempt_eof,
    match.Reset: Session._attempt_reset,
    match.Nothing: Session._attempt_nothing,
}


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
        data=Session._heard, eof=Session._hear_final_end, closed=Session._destroyed_ending, timer=Session._close
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
