"""A conductor for the tests: a real agent in a process of its own, spoken to over its pipes, every wait bounded."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from midsession.agent.protocol import (
    Configure,
    Farewell,
    FromAgent,
    Hello,
    Records,
    Reply,
    Request,
    Start,
    Subscribe,
    decode_from_agent,
    encode,
)
from midsession.core.logfile import LogFile, read_log
from midsession.core.record import Event, Record, decode_line

ROOT = Path(__file__).parents[2]
PATIENCE_S = 15.0

WRITER = """
import os, sys, time, msgspec
from midsession.core.record import Header, Log
header = msgspec.convert({**msgspec.json.decode(os.environ["MIDSESSION_HEADER"]), "pid": os.getpid()}, Header)
fd = os.open(os.environ["MIDSESSION_EVENT_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
log = Log(header, lambda line: os.write(fd, line), time.monotonic_ns)
"""
"""The begin of a program that writes records as ours do; `log` is its log."""

FLOOD = WRITER + "log.append('replied', client='a-1', fields={'n': 0})\nwhile True: log.append('sent', client='a-1')\n"
WAIT = "import signal; print('up', flush=True); signal.pause()"


class Refusal(Exception):
    """The agent answered with an error."""


class TestConductor:
    """Speaks with one agent over two descriptors; keeps every record that was pushed, in order."""

    __test__ = False

    def __init__(self, in_fd: int, out_fd: int, directory: Path, host: str = "server") -> None:
        self._in, self._out = in_fd, out_fd
        self.directory, self.host = directory, host
        self._rest = b""
        self._id = 0
        self._replies: dict[int, Reply] = {}
        self.records: list[Record] = []
        hello = self._next(time.monotonic() + PATIENCE_S)
        assert isinstance(hello, Hello)
        self.hello = hello

    def begin(self, *events: str, **more: Any) -> dict[str, Any]:
        """Configure a run and subscribe."""
        settings: dict[str, Any] = {
            "run": "r",
            "host": self.host,
            "seed": 1,
            "plan": "p",
            "directory": str(self.directory),
        }
        value = self.ask(Configure(id=0, **(settings | more)))
        self.ask(Subscribe(id=0, events=list(events)))
        return value

    def start(self, code: str, *arguments: str, **more: Any) -> dict[str, Any]:
        """Start a Python program of that source text."""
        return self.ask(Start(id=0, argv=[sys.executable, "-c", code, *arguments], **more))

    def send(self, request: Request) -> int:
        """Send it; its id, for `reply`."""
        self._id += 1
        os.write(self._out, encode(msgspec.structs.replace(request, id=self._id)) + b"\n")
        return self._id

    def send_raw(self, data: bytes) -> None:
        """Send any bytes."""
        while data:
            data = data[os.write(self._out, data) :]

    def ask(self, request: Request) -> dict[str, Any]:
        """Send it and wait for the value; raises Refusal."""
        return self.reply(self.send(request))

    def reply(self, request_id: int) -> dict[str, Any]:
        """Wait for the answer to that request."""
        deadline = time.monotonic() + PATIENCE_S
        while request_id not in self._replies:
            self._take(deadline)
        reply = self._replies.pop(request_id)
        if reply.error is not None:
            raise Refusal(reply.error)
        return reply.value

    def wait_record(self, event: str, holds: Callable[[Record], bool] = lambda _record: True) -> Record:
        """Wait until such a record was pushed (it may have been already)."""
        deadline, seen = time.monotonic() + PATIENCE_S, 0
        while True:
            while seen < len(self.records):
                record = self.records[seen]
                seen += 1
                if record.event == event and holds(record):
                    return record
            self._take(deadline)

    def wait_line(self, text: str) -> Record:
        """Wait until the program has printed that line."""
        return self.wait_record("line", lambda record: record.fields["text"] == text)

    def of(self, event: str) -> list[Record]:
        """The pushed records of an event."""
        return [record for record in self.records if record.event == event]

    def log(self, writer: str = "agent", incarnation: int = 1) -> LogFile:
        """A writer's file, read back."""
        return read_log(self.path(writer, incarnation).read_bytes())

    def book(self) -> list[Record]:
        """The agent's records, but for what comes when it comes: how fast this machine is, what the program says."""
        return [r for r in self.log().records if r.event not in {Event.STALLED, Event.LINE}]

    def path(self, writer: str = "agent", incarnation: int = 1) -> Path:
        """Where it is."""
        return self.directory / "events" / f"{self.host}.{writer}.{incarnation}.jsonl"

    def next_message(self) -> FromAgent:
        """The agent's next message, whatever it is."""
        return self._next(time.monotonic() + PATIENCE_S)

    def farewell(self) -> str:
        """Wait for the agent's last words; whatever it says before is taken."""
        deadline = time.monotonic() + PATIENCE_S
        while not isinstance(message := self._next(deadline), Farewell):
            self._keep(message)
        return message.why

    def _take(self, deadline: float) -> None:
        self._keep(self._next(deadline))

    def _keep(self, message: FromAgent) -> None:
        assert not isinstance(message, Farewell), message.why
        if isinstance(message, Reply):
            self._replies[message.id] = message
        elif isinstance(message, Records):
            self.records += [
                decode_line(bytes(raw), message.host, message.writer, message.incarnation) for raw in message.records
            ]

    def _next(self, deadline: float) -> FromAgent:
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the agent said nothing in time"
            data = os.read(self._in, 1 << 20)
            assert data, "the agent closed the stream"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message: FromAgent = decode_from_agent(line)
        return message


class Agent:
    """`python -m midsession.agent`, or Python source text that calls one of its functions, as a child process.

    `prefix` is a command that becomes it, like `unshare`.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        code: str | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *(["-c", code] if code else ["-m", "midsession.agent"]), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            bufsize=0,
        )

    def conductor(self, directory: Path, host: str = "server") -> TestConductor:
        """Speak to it over its standard streams (`--stdio`)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return TestConductor(self.process.stdout.fileno(), self.process.stdin.fileno(), directory, host)

    def hang_up(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_said(self, text: str) -> None:
        """Wait until it has said that on standard error; what it says before is lost."""
        assert self.process.stderr is not None
        deadline, said = time.monotonic() + PATIENCE_S, b""
        while text.encode() not in said:
            ready, _, _ = select.select([self.process.stderr], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"the agent never said {text!r}, but {said!r}"
            more = os.read(self.process.stderr.fileno(), 4096)
            assert more, f"the agent ended without {text!r}: {said!r}"
            said += more

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE_S)

    def end(self) -> str:
        """Make sure that it is gone; what it said on standard error."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        assert self.process.stderr is not None
        if self.process.stderr.closed:
            return ""
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        with self.process.stderr as stderr:
            return stderr.read().decode()


def is_alive(pid: int) -> bool:
    """A process of that number is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in b"ZX"
    except FileNotFoundError:
        return False


def wait_dead(pid: int) -> None:
    """Wait until that process, whose child ever it is, has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([process], [], [], PATIENCE_S)
    os.close(process)
    assert ready, f"process {pid} did not end in time"
