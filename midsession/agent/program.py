"""One program: started in a session of its own, spoken to through signals and its standard input, until it is gone.

`Program` is one incarnation. It writes the records of its life into the host's book; what is asked of it by the
conductor is `process`'s business, and who reaps it is `supervisor`'s.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from midsession.agent import procfs
from midsession.agent.answer import LogBroken, Refused
from midsession.agent.blow import Blow, Exit, blame
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop, Timer
from midsession.agent.output import Mirror, OnLine, Output, line_fields
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Start
from midsession.agent.spawn import Spawn
from midsession.core.record import Event, event_file_name

_PORT_POLL_S = 0.005
_STDIN_BYTES = 8 * 1024 * 1024


def signal_number(name: str) -> signal.Signals:
    """The signal of a name without SIG; raises Refused."""
    try:
        return signal.Signals[f"SIG{name}"]
    except KeyError:
        raise Refused(f"there is no signal {name!r}; a name is written without SIG: KILL, TERM, HUP") from None


class Program:
    """An incarnation of the host's program. Raises Refused when it cannot be started."""

    def __init__(
        self, loop: Loop, host: HostRun, ask: Start, incarnation: int, mirrors: Sequence[Mirror], spawn: Spawn
    ) -> None:
        self._loop, self._host, self.incarnation = loop, host, incarnation
        self._ready_line, self._ready_port = ask.ready_line, ask.ready_port
        self._ready = ask.ready_line is None and ask.ready_port is None
        if self._polls and ask.ready_port in procfs.listening_ports():
            raise Refused(f"port {ask.ready_port} is listened on in this host before its program has started")
        self.event_file = event_file_name(host.name, "program", incarnation)
        self.blows: list[Blow] = []
        """The signals that it was sent, in their order."""
        self.status: int | None = None
        self.exit: dict[str, Any] | None = None
        self.on_gone: list[Callable[[], None]] = []
        self._poll: Timer | None = None
        self._told: deque[bytes] = deque()
        self._told_bytes = 0
        self._be_born(ask, mirrors, spawn)

    # --- its birth -------------------------------------------------------------------------------------------------

    def _be_born(self, ask: Start, mirrors: Sequence[Mirror], spawn: Spawn) -> None:
        if not ask.argv:
            raise Refused("there is nothing to start: argv is empty")
        files = {name: self._host.directory.put(name, text) for name, text in ask.files.items()}
        argv = [files.get(word, word) for word in ask.argv]
        environment = self._environment(ask)
        began_ns = now_ns()
        try:
            self._child = spawn(argv, environment, ask.cwd)
        except (OSError, ValueError) as error:
            if ask.cwd is not None and not os.path.isdir(ask.cwd):
                raise Refused(f"its working directory {ask.cwd!r} is not on this host") from error
            raise Refused(f"cannot start {argv[0]!r}: {_why(error, argv[0], ask.cwd)}") from error
        self.pid = self._child.pid
        try:
            self._enter(ask, argv, mirrors, began_ns)
        except BaseException:
            os.killpg(self.pid, signal.SIGKILL)
            raise

    def _enter(self, ask: Start, argv: list[str], mirrors: Sequence[Mirror], began_ns: int) -> None:
        if ask.fault:
            self._host.injected(ask.fault, "start", began_ns, now_ns())
        self._host.book.append(Event.STARTED, {"pid": self.pid, "incarnation": self.incarnation, "argv": argv})
        self._host.follow(self.event_file, self.incarnation)
        self._outputs = self._listen(mirrors)
        if self._polls:
            self._look_for_port()

    def _environment(self, ask: Start) -> dict[str, str]:
        """Ours without what is the agent's business, then the program's own, then where and how it writes records."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIDSESSION_")}
        inherited["PATH"] = f"{os.path.dirname(sys.executable)}:{inherited.get('PATH', os.defpath)}"
        header = msgspec.to_builtins(self._host.header("program", self.incarnation, pid=0))
        del header["pid"]
        return {
            "PYTHONUNBUFFERED": "1",
            **inherited,
            **ask.env,
            **({"MIDSESSION_LOGS": self._host.directory.program_logs()} if ask.logs else {}),
            "MIDSESSION_EVENT_FILE": self._host.event_path(self.event_file),
            "MIDSESSION_HEADER": msgspec.json.encode(header).decode(),
        }

    def _listen(self, mirrors: Sequence[Mirror]) -> list[Output]:
        outputs = []
        pipes = (self._child.stdout, self._child.stderr)
        for at, (stream, pipe) in enumerate(zip(("stdout", "stderr"), pipes, strict=True)):
            log = self._create_log(stream)
            mirror = mirrors[at] if mirrors else None
            outputs.append(Output(self._loop, os.dup(pipe.fileno()), log, mirror, self._hear(stream)))
            pipe.close()
        os.set_blocking(self._child.stdin.fileno(), False)
        return outputs

    def _create_log(self, stream: str) -> int:
        try:
            return self._host.directory.create("logs", f"{self._host.name}.program.{self.incarnation}.{stream}.log")
        except OSError as error:
            raise LogBroken(f"a program's output log cannot be created: {error}") from error

    # --- its life --------------------------------------------------------------------------------------------------

    def signal(self, name: str, fault: str, *, is_last: bool = False) -> tuple[int, int]:
        """Send a signal to the whole group; the instants just before and after. Raises Refused.

        `is_last`: SIGKILL follows, unless it ends by this one.
        """
        number = signal_number(name)
        began_ns = now_ns()
        try:
            os.killpg(self.pid, number)
        except OSError as error:
            raise Refused(f"cannot send {name} to the program: {error.strerror}") from error
        t_ns = now_ns()
        self.blows.append(Blow(name, fault, None if is_last else t_ns))
        return began_ns, t_ns

    def terminate(self) -> None:
        """SIGTERM, also to one that is frozen; nothing for one that is dying already."""
        with suppress(Refused):
            self.signal("TERM", "", is_last=True)
            self.signal("CONT", "")

    def tell(self, line: str) -> None:
        """Write one line to its standard input, now or as soon as it reads. Raises Refused."""
        if "\n" in line:
            raise Refused("a program is told one line at a time")
        if self._child.stdin.closed:
            raise Refused("the program has closed its standard input")
        if self._told_bytes > _STDIN_BYTES:
            raise Refused(f"the program has not read the last {self._told_bytes} bytes that it was told")
        data = line.encode() + b"\n"
        self._told.append(data)
        self._told_bytes += len(data)
        self._flush()
        if self._child.stdin.closed:
            raise Refused("the program has closed its standard input")

    def _flush(self) -> None:
        fd = self._child.stdin.fileno()
        self._loop.writer(fd, None)
        try:
            while self._told:
                taken = os.write(fd, self._told[0])
                self._told_bytes -= taken
                self._told[0] = self._told[0][taken:]
                if not self._told[0]:
                    self._told.popleft()
        except BlockingIOError:
            self._loop.writer(fd, self._flush)
        except BrokenPipeError:
            self._child.stdin.close()

    def _hear(self, stream: str) -> OnLine:
        def on_line(text: str, is_cut: bool) -> None:
            self._host.book.append(Event.LINE, line_fields(stream, text, is_cut, self.incarnation))
            if not self._ready and self._ready_line is not None and self._ready_line in text:
                self._is_ready("line")

        return on_line

    # --- whether it is up ------------------------------------------------------------------------------------------

    @property
    def _polls(self) -> bool:
        return self._ready_line is None and self._ready_port is not None

    def _look_for_port(self) -> None:
        if self._ready_port in procfs.served_ports():
            self._is_ready("port")
        elif self.status is None:
            self._poll = self._loop.later(_PORT_POLL_S, self._look_for_port)

    def _is_ready(self, by: str) -> None:
        self._ready = True
        self._host.book.append(Event.LISTENING, {"port": self._ready_port, "by": by, "incarnation": self.incarnation})

    # --- its end ---------------------------------------------------------------------------------------------------

    def end(self, left: int = 0) -> None:
        """It is gone, and reaped: hear its last words, write `exited`, tell who waits.

        `left`: how many of its processes are still there although they were killed.
        """
        assert self.status is not None
        if self._poll:
            self._poll.cancel()
        for output in self._outputs:
            output.drain()
        self._close_stdin()
        self.exit = {
            "code": os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None,
            "signal": _signal_name(os.WTERMSIG(self.status)) if os.WIFSIGNALED(self.status) else None,
        }
        size = self._host.size_of(self.event_file)
        fields = {
            **self.exit,
            "pid": self.pid,
            "incarnation": self.incarnation,
            **blame(self.blows, Exit(self.exit["code"], self.exit["signal"], now_ns())),
            "event_bytes": size or 0,
            "event_file": self.event_file if size is not None else None,
        }
        fields |= {"left": left} if left else {}
        self._host.book.append(Event.EXITED, fields)
        self._host.unfollow(self.incarnation)
        waiting, self.on_gone = self.on_gone, []
        for callback in waiting:
            callback()

    def _close_stdin(self) -> None:
        if not self._child.stdin.closed:
            self._loop.forget(self._child.stdin.fileno())
            self._child.stdin.close()


def _why(error: Exception, program: str, cwd: str | None) -> str:
    """Why a program cannot be started, and for one that is not found where it was looked for."""
    if not isinstance(error, FileNotFoundError):
        return getattr(error, "strerror", None) or str(error)
    if os.sep not in program:
        return "it is in no folder of PATH"
    place = os.path.normpath(os.path.join(cwd or os.getcwd(), program))
    if os.path.exists(place):
        return f"the interpreter that the first line of {place} names is not on this host"
    return f"there is no {place}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)  # a real-time signal
