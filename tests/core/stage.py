"""A stage for one session: effects that are only written down, and a clock that moves when told."""

from __future__ import annotations

from typing import Any

from midsession.core import plan as p
from midsession.core.program import Connect, Program, compile_program
from midsession.core.session import Session, State
from midsession.core.template import Names

SECOND_NS = 1_000_000_000
TURN_NS = 50_000_000
LOCAL, PEER = "10.0.0.2:5000", "10.0.0.1:4000"


def line(text: str) -> p.Send:
    """Send a line."""
    return p.Send(p.Payload(text=text, line=True))


def hears(text: str, within_s: float = 1.0) -> p.Expect:
    """Expect a line."""
    return p.Expect(within_s, line=text)


def wait(seconds: float) -> p.Wait:
    """Let that time pass."""
    return p.Wait(span=p.Span(seconds, seconds))


def program(*script: p.Instruction, on_loss: p.Reconnect | None = None) -> Program:
    """A compiled script of the group `talkers`."""
    return compile_program(p.GroupPlan("talkers", "server", 4000, list(script), [], on_loss))


class Stage:
    """Drives a session as a network would. What it does stands in `tape`, in order; records as `event key=value`.

    `open`, `connecting` follow the driver's contract: exactly one end for each connection.
    """

    def __init__(self, *script: p.Instruction, on_loss: p.Reconnect | None = None, write_full: bool = False) -> None:
        self.now = 1 * SECOND_NS
        self.tape: list[str] = []
        self.records: list[tuple[str, int | None, dict[str, Any]]] = []
        self.held = 0
        self.open = self.connecting = False
        self.reading = "normal"
        self.wake: int | None = None
        self.outcome: str | None = None
        self.write_full = write_full
        self.written = b""
        self.signals: set[str] = set()
        names = Names(7, "talkers", "talkers-7", "r1")
        self.session = Session(program(*script, on_loss=on_loss), names, "key", self, lambda: self.now, self.signals)

    # --- effects ------------------------------------------------------------------------------------------------------

    def connect(self, target: Connect) -> None:
        assert not self.open
        assert not self.connecting
        self.connecting = True
        self._do(f"connect {target.host}:{target.port}")

    def write(self, data: bytes) -> bool:
        assert self.open
        self.written += data
        self._do(f"write {data.decode('utf-8', 'backslashreplace')!r}")
        return self.write_full

    def shutdown_write(self) -> None:
        assert self.open
        self._do("fin")

    def close(self) -> None:
        assert self.open or self.connecting
        self._do("close")

    def abort(self, reset: bool) -> None:
        assert self.open or self.connecting
        self._do("rst" if reset else "abort")

    def read(self, policy: str, bytes_per_s: int | None) -> None:
        assert self.open
        self.reading = policy
        self.tape.append(f"read {policy}")

    def wake_at(self, t_ns: int) -> None:
        self.wake = t_ns

    def emit(self, event: str, client: str, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        assert self.outcome is None
        assert client == "talkers-7"
        assert t_ns <= self.now
        self.held += 1
        self.records.append((event, connection, fields))
        self.tape.append(" ".join([event, *(f"{name}={value}" for name, value in fields.items() if name in _SHOWN)]))

    def flush(self) -> None:
        self.held = 0

    def done(self, outcome: str) -> None:
        assert not self.held
        assert self.outcome is None
        self.outcome = outcome

    def _do(self, what: str) -> None:
        assert not self.held, f"{what}: before the records that announce it were durable"
        self.tape.append(what)

    # --- the network --------------------------------------------------------------------------------------------------

    def begin(self) -> Stage:
        self.session.begin()
        return self

    def connected(self) -> Stage:
        self.connecting, self.open = False, True
        self.session.connected(LOCAL, PEER)
        return self

    def refused(self) -> Stage:
        self.connecting = False
        self.session.failed("refused", 111, "Connection refused")
        return self

    def data(self, data: bytes | str) -> Stage:
        self.session.data(data.encode() if isinstance(data, str) else data)
        return self

    def eof(self) -> Stage:
        self.session.eof()
        return self

    def reset(self) -> Stage:
        self.open = False
        self.session.closed("reset", 104, "Connection reset by peer")
        return self

    def broken_pipe(self) -> Stage:
        self.open = False
        self.session.closed("reset", 32, "Broken pipe")
        return self

    def closed(self) -> Stage:
        self.open = self.connecting = False
        self.session.closed()
        return self

    def after(self, seconds: float) -> Stage:
        """Let time pass, waking the session as often as it asked."""
        end = self.now + round(seconds * SECOND_NS)
        while self.wake is not None and self.wake <= end:
            late = self.now >= self.wake  # a session that only gives way: each turn takes its time
            self.now, self.wake = max(self.now, self.wake) + (TURN_NS if late else 0), None
            self.session.timer()
        self.now = max(self.now, end)
        return self

    def signal(self, name: str) -> Stage:
        self.signals.add(name)
        self.session.signal(name)
        return self

    def release(self, name: str) -> Stage:
        self.session.release(name)
        return self

    def drained(self) -> Stage:
        self.session.drained()
        return self

    def stop(self) -> Stage:
        self.session.stop()
        return self

    # --- what the test reads ------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return State(self.session.state)

    def news(self) -> list[str]:
        """What happened since this was asked last."""
        news, self.tape = self.tape, []
        return news

    def events(self) -> list[str]:
        """The names of all records so far."""
        return [event for event, _, _ in self.records]


_SHOWN = {"how", "outcome", "n", "expected", "got", "attempt", "delay_s", "attempts", "name", "barrier", "had_error"}
