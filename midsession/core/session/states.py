"""What a session can wait for, what can happen to it, and what it asks of its driver."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

from midsession.core import program as ops


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
