"""The ground that a session stands on: what it remembers, how it records and how it waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from midsession.core import program as ops
from midsession.core.program import Program
from midsession.core.session.states import Effects, Link, State
from midsession.core.template import Names
from midsession.core.wire import Inbox

NONE, OPEN, DEAD = Link

Asked = tuple[int, int, str | None]
"""A send: its number, its instant, and the operation of the expect that waits for its answer."""


class Frame(NamedTuple):
    """A `repeat` that a session is in: its address, the rounds done, and when it is over (0: not by time).

    `target` is where the session was connected to when it came to the repeat; None: it was not.
    """

    head: int
    rounds: int
    deadline: int
    target: ops.Connect | None


class Base:
    """A session's memory. Each part of the machine builds on the one before it; none knows the parts that follow."""

    __slots__ = (
        "_answered",
        "_asked",
        "_attempt",
        "_bytes_in",
        "_bytes_out",
        "_choked",
        "_clock",
        "_counted",
        "_deadline",
        "_draws",
        "_emit",
        "_ending_ns",
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
        self._frames: list[Frame] = []  # of the repeats it is in, the innermost last
        self._link: Link = NONE
        self._eof = False  # the peer's FIN was seen
        self._fin_sent = False
        self._ending_ns = 0  # when the script (or a stop) began to end the connection; 0: it did not
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
        self._asked: deque[Asked] = deque()  # what was sent on this connection and is waited for, the oldest first
        self._answered: Asked | None = None  # the send whose answer was read last, or that nobody waits for
        self._heard_ns = 0
        self._bytes_in = self._bytes_out = 0
        self._attempt = 0
        self._draws = 0
        self._deadline = self._wake = 0

    def _run(self) -> None:
        """Go on with the script: the last part of the machine knows how."""
        raise NotImplementedError

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

    def _ignore(self, *_: Any) -> None:
        """This input changes nothing in this state."""

    def _never(self, *what: Any) -> None:
        """The driver's contract rules this out: a mistake of ours, never caught."""
        raise AssertionError(f"a session in state {self.state.name} got an input it cannot get: {what}")
