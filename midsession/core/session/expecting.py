"""How a session hears its peer, and what it expects of it."""

from __future__ import annotations

from collections.abc import Callable

from midsession.core import match
from midsession.core import program as ops
from midsession.core.session.base import DEAD, NONE, OPEN, Asked
from midsession.core.session.connecting import Connecting
from midsession.core.session.states import State
from midsession.core.wire import LINE_LIMIT_BYTES, LineTooLong, describe, preview

EXPECTING = State.EXPECTING


class Expecting(Connecting):
    """Takes the peer's bytes and its end, and matches them with what the script expects."""

    __slots__ = ()

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
        if op.takes_line and not self._inbox.held and data.find(b"\n") == len(data) - 1 <= LINE_LIMIT_BYTES:
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

    def _hear_expected_end(self) -> None:
        self._take_fin()
        self._retry_expect()

    def _destroyed_expecting(self, how: str | None, errno: int | None, message: str) -> None:
        self._take_death(how, errno, message)
        self._retry_expect()

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
        if op.takes_bytes:
            return self._eof or self._link is not OPEN
        return self._pending is not None and not self._remembered()

    # --- the step and its matchers: True when met, False when violated, None when neither yet ------------------------

    def _step_expect(self, op: ops.Expect) -> bool:
        if self._link is NONE and op.takes_bytes:
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
        if not self._nothing_before(op):
            return self._violate(op, self._inbox.peek())
        if not self._eof:
            return None
        if self._pending == "eof" and self._link is DEAD:
            self._tell_closed(True)
        elif self._pending == "eof":
            self._pending = None
        return True

    def _attempt_reset(self, op: ops.Expect) -> bool | None:
        if not self._nothing_before(op):
            return self._violate(op, self._inbox.peek())
        if self._pending != "reset":
            return None
        self._tell_closed(True)
        return True

    def _nothing_before(self, op: ops.Expect) -> bool:
        """Whether the peer's end is what comes next: no byte stands before it, or those that do are passed over."""
        matcher: match.Ending = op.matcher  # type: ignore[assignment]
        if matcher.drains:
            self._inbox.clear()
        return not self._inbox.held

    def _attempt_nothing(self, op: ops.Expect) -> bool | None:
        return self._violate(op, self._inbox.peek()) if len(self._inbox) else None

    def _met(self, op: ops.Expect, message: bytes) -> bool:
        asked = self._asked_for(op)
        if asked is not None:
            n, sent_ns, _ = asked
            fields = {"n": n, "text": preview(message), "rtt_ns": max(0, self._heard_ns - sent_ns)}
            if op.ok is not None:
                fields["ok"] = op.ok
            self._tell("replied", fields)
        return True

    def _asked_for(self, op: ops.Expect) -> Asked | None:
        """The send of this connection whose answer this is: the oldest that waits for such a one, for TCP keeps order.

        Where none does, it is more of an answer: to the send that is due next, or else to the last that had one. None:
        nothing was sent yet, so the peer spoke first.
        """
        asked, operation = self._asked, op.operation
        for at, send in enumerate(asked):
            if send[2] == operation:
                del asked[at]
                self._answered = send
                return send
        return asked[0] if asked else self._answered

    def _violate(self, op: ops.Expect, got: bytes | None) -> bool:
        """The expect failed: the session ends here. `got` None: nothing came. Returns False, for the steps."""
        self._deadline = 0
        wanted = op.matcher.wanted(self._names, self._n)
        fields = {"expected": wanted, "got": None if got is None else preview(got), "within_s": op.within_s}
        if op.takes_bytes and (asked := self._asked_for(op)) is not None:
            fields["n"] = asked[0]
        self._tell_own("protocol_error", fields)
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


_ATTEMPTS: dict[type[match.Matcher], Callable[[Expecting, ops.Expect], bool | None]] = {
    match.Line: Expecting._attempt_line,
    match.Contains: Expecting._attempt_line,
    match.Glob: Expecting._attempt_line,
    match.Regex: Expecting._attempt_line,
    match.Exact: Expecting._attempt_exact,
    match.Count: Expecting._attempt_count,
    match.Eof: Expecting._attempt_eof,
    match.Reset: Expecting._attempt_reset,
    match.Nothing: Expecting._attempt_nothing,
}
