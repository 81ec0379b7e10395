"""The steps of a session's script."""

from __future__ import annotations

import errno as codes
import hashlib
from collections.abc import Callable
from typing import Any

from midsession.core import program as ops
from midsession.core.plan import draw
from midsession.core.program import nanoseconds
from midsession.core.session.base import DEAD, NONE, OPEN, Frame
from midsession.core.session.expecting import Expecting
from midsession.core.session.states import State
from midsession.core.wire import describe

STEPS_PER_TURN = 1000
"""A script that never waits gives way to the other sessions after that many steps."""


class Stepping(Expecting):
    """Runs the script. A step returns True when the next may run at once."""

    __slots__ = ()

    def _run(self) -> None:
        program = self._program.ops
        for _ in range(STEPS_PER_TURN):
            op = program[self._pc]
            self._pc += 1
            if not _STEPS[type(op)](self, op):
                return
        self.state = State.YIELDED
        self._wait_until(self._clock())

    # --- sending ------------------------------------------------------------------------------------------------------

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
        now = self._clock()
        if op.awaited:
            self._asked.append((n, now, op.operation))
        else:
            self._answered = (n, now, None)
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

    def _destroyed_sending(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        if self._remembered():
            self._rest = b""
            self._deadline = 0
            self._run()
        else:
            self._lose(str(self._pending))

    # --- waiting ------------------------------------------------------------------------------------------------------

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

    # --- the connection -----------------------------------------------------------------------------------------------

    def _step_connect(self, op: ops.Connect) -> bool:
        if self._link is OPEN:
            self._pc -= 1
            self._close()
        elif self._link is DEAD:
            self._lose(str(self._pending))
        else:
            self._connect(op)
        return False

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
            self._op = op
            self._end_within(op.within_ns)
        return False

    def _step_abort(self, op: ops.Abort) -> bool:
        if self._link is NONE:
            return True
        if self._link is DEAD:
            self._lose(str(self._pending))
            return False
        self.state = State.CLOSING
        self._ending_ns = self._clock()
        self._fx.flush()
        self._fx.abort(True)
        return False

    def _step_read(self, op: ops.Read) -> bool:
        self._read = op
        if self._link is OPEN and not self._choked:
            self._fx.read(op.policy, op.bytes_per_s)
        return True

    # --- the script itself --------------------------------------------------------------------------------------------

    def _step_mark(self, op: ops.Mark) -> bool:
        self._tell_own("mark", {"name": op.name})
        return True

    def _step_loop(self, op: ops.Loop) -> bool:
        deadline = 0 if op.for_ns is None else self._clock() + op.for_ns
        if self._over(op, 0, deadline):
            self._pc = op.exit
        else:
            self._frames.append(Frame(self._pc - 1, 0, deadline, None if self._link is NONE else self._target))
        return True

    def _step_again(self, op: ops.Again) -> bool:
        """A round is over. The next one begins as the first did: with a connection, if that had one."""
        head, rounds, deadline, target = self._frames[-1]
        rounds += 1
        if self._over(op.loop, rounds, deadline):
            self._frames.pop()
            return True
        self._frames[-1] = Frame(head, rounds, deadline, target)
        self._pc = head + 1
        if self._link is NONE and target is not None and not self._connects(self._pc):
            self._connect(target)
            return False
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


_STEPS: dict[type[Any], Callable[[Stepping, Any], bool]] = {
    ops.Connect: Stepping._step_connect,
    ops.Send: Stepping._step_send,
    ops.Expect: Stepping._step_expect,
    ops.Pause: Stepping._step_pause,
    ops.Await: Stepping._step_await,
    ops.HalfClose: Stepping._step_half_close,
    ops.End: Stepping._step_end,
    ops.Abort: Stepping._step_abort,
    ops.Read: Stepping._step_read,
    ops.Barrier: Stepping._step_barrier,
    ops.Mark: Stepping._step_mark,
    ops.Loop: Stepping._step_loop,
    ops.Again: Stepping._step_again,
    ops.Finish: Stepping._step_finish,
}
