"""How a session comes to a connection, loses it, and closes it.

A loss is judged in two steps: first the connection dies (`_pending` says how), then, once nothing ahead in the script
can use what it brought, it counts as lost.
"""

from __future__ import annotations

import errno as codes

from midsession.core import program as ops
from midsession.core.program import nanoseconds
from midsession.core.reconnect import delay_s
from midsession.core.session.base import DEAD, NONE, OPEN, Base
from midsession.core.session.states import State

STOP_GRACE_NS = 1_000_000_000
"""How long a stopped session waits for the peer's FIN."""

CLOSE_GUARD_NS = 1_000_000_000
"""How long a close may take to hand over what is still unwritten; then the connection is aborted."""


class Connecting(Base):
    """Connects, notices a loss and reconnects, closes."""

    __slots__ = ()

    # --- connecting ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._go_on_at(0, self._program.target)

    def _go_on_at(self, address: int, target: ops.Connect) -> None:
        """Run the script from there, on a connection to the target, where there is none: see `_connects`."""
        self._pc = address
        if self._connects(address):
            self._run()
        else:
            self._connect(target)

    def _connects(self, address: int) -> bool:
        """Whether the first step there, in however many repeats, makes the connection itself."""
        program = self._program.ops
        while isinstance(program[address], ops.Loop):
            address += 1
        return isinstance(program[address], ops.Connect)

    def _connect(self, target: ops.Connect) -> None:
        self.connection += 1
        self._target = target
        self._eof = self._fin_sent = self._choked = self._write_full = False
        self._ending_ns = 0
        self._bytes_in = self._bytes_out = self._counted = 0
        self._inbox.clear()
        self._asked.clear()
        self._answered = None
        self._pending = self._loss = None
        self.state = State.CONNECTING
        self._heard_ns = self._tell("connecting", {"to": f"{target.host}:{target.port}"})
        self._fx.flush()
        self._fx.connect(target)

    def _connect_first(self) -> bool:
        """A step that needs a connection, where none is: make one, then run the step."""
        self._pc -= 1
        self._connect(self._target)
        return False

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

    def _reconnect(self) -> None:
        """Connect again, and go on from the start of the innermost repeat's body, or of the script, as it began."""
        if self._frames:
            frame = self._frames[-1]
            self._go_on_at(frame.head + 1, frame.target or self._target)
        else:
            self._start()

    # --- losing -------------------------------------------------------------------------------------------------------

    def _take_fin(self) -> None:
        self._eof = True
        self._pending = "eof"
        self._tell("end", {})

    def _take_death(self, how: str | None, errno: int | None, message: str) -> None:
        if errno == codes.EPIPE and self._eof:
            how = "eof"  # the peer had ended before: this is only where we notice that nobody reads
        self._link = DEAD
        self._pending = how or "aborted"
        self._tell("error", {"how": self._pending, "errno": errno, "message": message})

    def _remembered(self) -> bool:
        """Whether a pending loss may still be what the script expects, or has brought bytes that it does."""
        at = self._pc - 1
        program = self._program
        if self._pending == "eof" and program.eof_ahead[at]:
            return True
        if self._pending == "reset" and program.reset_ahead[at]:
            return True
        return len(self._inbox) > 0 and program.data_ahead[at]

    def _judged(self) -> bool:
        """Before a step that waits: a loss that nothing ahead can use is judged now."""
        if self._pending is None or self._remembered():
            return False
        self._lose(self._pending)
        return True

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

    def _destroyed(self, how: str | None, errno: int | None, message: str) -> None:
        """The connection died under a step that waits for something else."""
        self._take_death(how, errno, message)
        if not self._remembered():
            self._lose(str(self._pending))

    def _destroyed_ending(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        self._lose(str(self._pending))

    def _hear_end(self) -> None:
        """The peer's FIN while the script waits for something else."""
        self._take_fin()
        if not self._remembered():
            self._lose("eof")

    # --- closing ------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        self.state = State.CLOSING
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
        self._eof = False
        self._inbox.clear()
        ending = {"ending_ns": self._ending_ns} if self._ending_ns else {}
        counts = {"bytes_in": self._bytes_in, "bytes_out": self._bytes_out}
        self._tell("closed", {"had_error": had_error, **counts, **ending})

    def _hear_final_end(self) -> None:
        self._take_fin()
        self._close()

    def _end_late(self) -> None:
        """The peer has not ended its side in time: no orderly end, unless the session was stopped from outside."""
        if self._outcome != "stopped":
            self._tell("protocol_error", {"expected": "eof", "got": None, "within_s": self._op.within_s})
            self._outcome = "protocol_error"
        self._close()

    def _end_within(self, within_ns: int) -> None:
        if self._choked:
            self._unchoke()
        self.state = State.ENDING
        self._ending_ns = self._clock()
        self._fx.flush()
        if not self._fin_sent:
            self._fin_sent = True
            self._fx.shutdown_write()
        if self._eof:
            self._close()
        else:
            self._wait_until(self._clock() + within_ns)

    def _unchoke(self) -> None:
        self._choked = False
        read = self._read
        self._fx.read(read.policy if read else "normal", read.bytes_per_s if read else None)

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
