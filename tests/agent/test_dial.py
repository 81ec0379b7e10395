"""The agent as a container's first process: it finds its conductor, and ends when it should. Over real TCP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.agent.protocol import Freeze, Shutdown
from midsession.core.logfile import LogState

from .conductor import PATIENCE_S, WAIT, Agent, TestConductor, is_alive

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


class Control:
    """A control network for one agent: a listening port, a token file, and the agent that dials."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token_file = directory / "token"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)
        self.port = self.listener.getsockname()[1]
        self.agents: list[Agent] = []
        self.calls: list[socket.socket] = []

    def agent(self, conductor: str | None = None) -> Agent:
        env = {
            "MIDSESSION_SERVICE": "server",
            "MIDSESSION_CONDUCTOR": conductor or f"127.0.0.1:{self.port}",
            "MIDSESSION_TOKEN_FILE": str(self.token_file),
        }
        self.agents.append(Agent(env=env))
        return self.agents[-1]

    def accept(self, host: str = "server") -> TestConductor:
        call, _ = self.listener.accept()
        self.calls.append(call)
        return TestConductor(call.fileno(), call.fileno(), self.directory, host)

    def hang_up(self) -> None:
        self.calls.pop().close()

    def close(self) -> None:
        self.listener.close()
        while self.calls:
            self.hang_up()
        for agent in self.agents:
            with contextlib.suppress(ProcessLookupError):
                agent.process.terminate()
            agent.end()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path)
    control.token_file.write_text("secret\n")
    yield control
    control.close()


def test_agent_dials_and_says_hello(control: Control) -> None:
    """The first line is a hello with the run's token, the agent's role, its addresses and its clock."""
    control.agent()
    conductor = control.accept()
    hello = conductor.hello
    assert (hello.token, hello.service, hello.hostname) == ("secret", "server", socket.gethostname())
    assert hello.clock.startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip() + "/time:[")
    assert all(address.count(".") == 3 and "/" in address for address in hello.addresses.values())
    assert "lo" not in hello.addresses
    conductor.begin("exited")
    assert conductor.start(WAIT)["incarnation"] == 1


def test_agent_waits_for_token_and_conductor(control: Control) -> None:
    """No token file yet, nobody listening yet: the agent goes on trying, and reads the token anew each time."""
    control.token_file.unlink()
    control.listener.close()
    agent = control.agent()
    control.token_file.write_text("")
    control.token_file.write_text("late")
    control.listener = socket.create_server(("127.0.0.1", control.port))
    control.listener.settimeout(PATIENCE_S)
    assert control.accept().hello.token == "late"
    assert agent.process.poll() is None


def test_refused_agent_comes_back_with_the_new_token(control: Control) -> None:
    """A conductor that hangs up at once has refused the token: the agent tries again with what the file says then."""
    control.agent()
    assert control.accept().hello.token == "secret"
    control.token_file.write_text("new")
    control.hang_up()
    assert control.accept().hello.token == "new"


def test_agent_lingers_and_then_ends_with_0(control: Control, tmp_path: Path) -> None:
    """A lost conductor: the program is killed at once, the book closed, and the agent ends 2 s later, not before."""
    agent = control.agent()
    conductor = control.accept()
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    control.listener.close()
    began = time.monotonic()
    control.hang_up()
    assert agent.wait() == 0
    assert 2.0 <= time.monotonic() - began < 10
    assert not is_alive(pid)
    assert conductor.log().state is LogState.COMPLETE


def test_another_conductor_may_come(control: Control) -> None:
    """Within the linger a new conductor finds a clean agent; nothing of the earlier run is pushed to it."""
    agent = control.agent()
    first = control.accept()
    first.begin("started", "exited", "line")
    pid = first.start(WAIT)["pid"]
    first.wait_line("up")
    control.hang_up()
    second = control.accept(host="again")
    assert not is_alive(pid)
    second.begin("started", run="r2")
    assert second.start(WAIT)["incarnation"] == 1
    second.wait_record("started")
    assert [r.host for r in second.records] == ["again"]
    assert agent.process.poll() is None


def test_dismissed_agent_lingers_too(control: Control) -> None:
    """After `shutdown` the agent is still there for 2 s: its container must not be the first to exit."""
    agent = control.agent()
    conductor = control.accept()
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    began = time.monotonic()
    conductor.ask(Shutdown(id=0))
    assert not is_alive(pid)
    control.hang_up()
    assert agent.wait() == 0
    assert 2.0 <= time.monotonic() - began < 10


@pytest.mark.parametrize("program", ["none", "stubborn", "frozen"])
def test_sigterm_ends_the_agent_within_a_second(control: Control, program: str) -> None:
    """`docker stop` takes no grace period, whatever the program does: it gets SIGTERM, then SIGKILL."""
    agent = control.agent()
    conductor = control.accept()
    conductor.begin("line")
    pid = None
    if program != "none":
        pid = conductor.start(STUBBORN)["pid"]
        conductor.wait_line("up")
    if program == "frozen":
        conductor.ask(Freeze(id=0))
    began = time.monotonic()
    os.kill(agent.process.pid, signal.SIGTERM)
    assert agent.wait() == 0
    assert time.monotonic() - began < 1.0
    assert pid is None or not is_alive(pid)


def test_sigterm_lets_the_program_end_by_itself(control: Control) -> None:
    """The program hears SIGTERM first, and what it says then is kept."""
    agent = control.agent()
    conductor = control.accept()
    conductor.begin("line", "exited")
    conductor.start(
        "import signal,sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(5)));"
        "print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    os.kill(agent.process.pid, signal.SIGTERM)
    assert agent.wait() == 0
    records = conductor.log().records
    assert [r.fields.get("text") for r in records if r.event == "line"] == ["up", "bye"]
    assert records[-1].fields["code"] == 5


def test_sigterm_is_heard_while_nobody_answers(control: Control) -> None:
    """An agent that still looks for its conductor ends within a second too."""
    agent = control.agent("conductor.invalid:7000")
    assert agent.process.stderr is not None
    assert b"looking for the conductor" in agent.process.stderr.readline()
    began = time.monotonic()
    os.kill(agent.process.pid, signal.SIGTERM)
    assert agent.wait() == 0
    assert time.monotonic() - began < 1.0


def test_program_output_is_mirrored(control: Control) -> None:
    """What the program prints is on the agent's own stdout and stderr, byte for byte, for `docker compose logs`."""
    agent = control.agent()
    conductor = control.accept()
    conductor.begin("exited")
    conductor.start("import sys; print('to out ✅'); print('to err', file=sys.stderr)")
    conductor.wait_record("exited")
    os.kill(agent.process.pid, signal.SIGTERM)
    assert agent.wait() == 0
    assert agent.process.stdout is not None
    assert agent.process.stdout.read() == "to out ✅\n".encode()
    assert "to err\n" in agent.end()


def test_unread_mirror_blocks_nothing(control: Control) -> None:
    """Nobody reads the agent's stdout: the program runs on, its log is whole, and the agent answers."""
    control.agent()
    conductor = control.accept()
    conductor.begin("exited")
    conductor.start("import os\nfor n in range(1000): os.write(1, b'x' * 999 + b'\\n')")
    conductor.wait_record("exited")
    assert (conductor.directory / "logs" / "server.program.1.stdout.log").stat().st_size == 1_000_000


@pytest.mark.parametrize("conductor", ["", "nohost", ":7000", "host:", "host:x", "host:7000:"])
def test_wrong_call_is_told(control: Control, conductor: str) -> None:
    """A wrong address ends the agent at once, with 2 and a line that says how to call it."""
    agent = Agent(env={"MIDSESSION_CONDUCTOR": conductor})
    assert agent.wait() == 2
    assert "usage: " in agent.end()


def test_no_conductor_is_given_up(tmp_path: Path) -> None:
    """When none comes in time, the agent says what was missing and ends with 1."""
    code = (
        "from midsession.agent.dial import *\n"
        f"status = serve_dialling(Dial('127.0.0.1', 1, {str(tmp_path / 'none')!r}, first_within_s=0.3), 'server')\n"
        "raise SystemExit(status)"
    )
    agent = Agent(code=code)
    assert agent.wait() == 1
    assert "no conductor within 0.3 s: there is no token in" in agent.end()
