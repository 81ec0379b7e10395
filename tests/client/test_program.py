"""The fleet as a program: orders in, records and a short account out; and by hand, the lesson in a terminal."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.core import plan as p
from midsession.core.job import READY_LINE, Begin, Go, Job, Order, Release, Signal
from midsession.core.logfile import LogFile, LogState, read_log
from midsession.core.pulse import BEAT_S
from midsession.core.record import Event, Header, Record
from tests.client.peers import listening, until_end
from tests.core.stage import hears, line
from tests.spoilt import WAYS, python
from tests.waiting import stand_still

ROOT = Path(__file__).parents[2]
HEADER = {"run": "r1", "host": "c1", "writer": "program", "incarnation": 1, "clock": "d", "seed": 1, "plan": "x"}


def answer(endpoint: socket.socket) -> None:
    """One reply, then everything up to the client's end."""
    endpoint.sendall(b"Got " + endpoint.recv(1000))
    until_end(endpoint)


def group(port: int, *script: p.Instruction, clients: int = 1, begin: bool = True) -> p.GroupPlan:
    """Clients on loopback."""
    crew = [p.ClientPlan(n, 0.0, p.substream(1, "client", str(n))) for n in range(1, clients + 1)]
    return p.GroupPlan("talkers", "127.0.0.1", port, list(script), crew, begin=begin)


class Program:
    """A fleet in a process of its own, with its orders and its event file."""

    def __init__(self, tmp_path: Path, *groups: p.GroupPlan, **limits: Any) -> None:
        self.account: list[str] = []
        self.file = tmp_path / "events.jsonl"
        job = tmp_path / "job.json"
        job.write_bytes(msgspec.json.encode(Job(run="r1", groups=list(groups))))
        ours = {"MIDSESSION_EVENT_FILE": str(self.file), "MIDSESSION_HEADER": json.dumps(HEADER)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "client", "--job", str(job)],
            cwd=ROOT,
            env={**os.environ, **ours},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **limits,
        )

    def ready(self) -> Program:
        """Wait for the line that says so."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().decode().strip() == READY_LINE
        return self

    def tell(self, order: Order) -> Program:
        """One order."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()
        return self

    def wait_for(self, event: str, count: int = 1) -> Program:
        """Until the account has told of that many more of them; it tells after the record is written."""
        assert self.process.stdout is not None
        seen = 0
        while seen < count:
            told = self.process.stdout.readline().decode()
            assert told, f"the fleet ended; {seen} of {count} {event}"
            self.account.append(told.rstrip("\n"))
            counted = re.search(rf"\b{event}=(\d+)", told)
            if counted and not told.startswith("talkers-"):
                seen += int(counted[1])
            elif f": {event}" in told:
                seen += 1
        return self

    def end(self) -> None:
        """Kill it, if it still lives, and close its pipes."""
        self.process.kill()
        with self.process:
            pass

    @property
    def log(self) -> LogFile:
        """What the event file says now."""
        return read_log(self.file.read_bytes())

    @property
    def records(self) -> list[Record]:
        """Its records but for `stalled`: how fast this machine is proves nothing."""
        return [record for record in self.log.records if record.event != Event.STALLED]

    def finish(self) -> tuple[int, list[str], str]:
        """End its input; exit code, account, complaints."""
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, self.account + out.decode().splitlines(), err.decode()


Spawn = Callable[..., Program]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts a fleet; none outlives its test, and none lives longer than 20 s (what waits for it then fails)."""
    with contextlib.ExitStack() as stack:

        def start(*groups: p.GroupPlan, **limits: Any) -> Program:
            fleet = Program(tmp_path, *groups, **limits)
            watchdog = threading.Timer(20, fleet.process.kill)
            watchdog.start()
            stack.callback(fleet.end)
            stack.callback(watchdog.cancel)
            return fleet

        yield start


def test_a_job_leaves_a_complete_log(spawn: Spawn) -> None:
    """Go, a conversation, the end of input: exit 0, header with the pid, every record, trailer."""
    script = (line("Hi 👋"), hears("Got Hi 👋"), p.End())
    with listening(answer, connections=5) as port:
        fleet = spawn(group(port, *script, clients=5)).ready().tell(Go(time.monotonic_ns()))
        fleet.wait_for("done", 5)
        code, account, complaints = fleet.finish()
    assert (code, complaints) == (0, "")
    assert fleet.log.state is LogState.COMPLETE
    assert fleet.log.header == Header(**HEADER, pid=fleet.process.pid)  # type: ignore[arg-type]
    told = [record.event for record in fleet.log.records if record.client == "talkers-3"]
    assert told == ["connecting", "connected", "sent", "received", "replied", "end", "closed", "done"]
    assert 'talkers-3: replied n=1 text="Got Hi 👋" ' in "\n".join(account)


def test_orders_reach_their_sessions(spawn: Spawn) -> None:
    """A group waits for its begin, a session for its signal and its barrier."""
    script = (p.Mark("in"), p.Wait(signal="on"), p.Barrier("all"), p.End())
    with listening(until_end) as port:
        fleet = spawn(group(port, *script, begin=False)).ready().tell(Go(time.monotonic_ns()))
        fleet.tell(Begin("talkers", time.monotonic_ns())).wait_for("mark")
        fleet.tell(Signal("on")).wait_for("mark")
        assert fleet.records[-1].fields == {"name": "all", "barrier": True}
        fleet.tell(Release("talkers", "all")).wait_for("done")
        assert fleet.finish()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_fleet_ends_every_session(spawn: Spawn, number: int) -> None:
    """A graceful end, `done stopped` for those in conversation and those that never began, trailer, exit 0."""
    with listening(until_end) as port:
        late = p.GroupPlan("late", "127.0.0.1", port, [p.End()], [p.ClientPlan(1, 0.0, "k")], begin=False)
        fleet = spawn(group(port, line("q"), hears("A", within_s=60)), late).ready()
        fleet.tell(Go(time.monotonic_ns())).wait_for("sent")
        fleet.process.send_signal(number)
        code, _, complaints = fleet.finish()
    assert (code, complaints) == (0, "")
    assert fleet.log.state is LogState.COMPLETE
    outcomes = {record.client: record.fields["outcome"] for record in fleet.log.records if record.event == "done"}
    assert outcomes == {"talkers-1": "stopped", "late-1": "stopped"}


def test_a_killed_fleet_leaves_whole_lines(spawn: Spawn) -> None:
    """SIGKILL: the file is provably cut, and every record up to there stands."""
    with listening(until_end) as port:
        fleet = spawn(group(port, line("q"), hears("A", within_s=60))).ready()
        fleet.tell(Go(time.monotonic_ns())).wait_for("sent")
        fleet.process.kill()
        fleet.finish()
    assert fleet.log.state is LogState.CUT
    assert [record.event for record in fleet.records] == ["connecting", "connected", "sent"]


def test_the_account_is_bounded(spawn: Spawn) -> None:
    """A hundred clients do not make a thousand lines."""
    with listening(answer, connections=100) as port:
        fleet = spawn(group(port, line("q"), hears("Got q", 9), p.End(), clients=100)).ready()
        fleet.tell(Go(time.monotonic_ns())).wait_for("done", 100)
        _, account, _ = fleet.finish()
    assert len(account) < 80
    assert account[-1].startswith("all in all: closed=100 connected=100 ")


def test_too_few_descriptors_are_said_up_front(spawn: Spawn) -> None:
    """With the number that is needed; nothing is played."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    fleet = spawn(group(1, line("q"), clients=200), preexec_fn=limit)
    code, _, complaint = fleet.finish()
    assert code == 10
    assert "200 clients need 264 file descriptors, but this system allows 100" in complaint
    assert not fleet.file.exists()


def test_a_disk_that_is_full_from_the_start_is_said_in_one_line(spawn: Spawn) -> None:
    """Not even the header has room: exit 3, and nothing is played."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    code, _, complaint = spawn(group(1, line("q")), preexec_fn=limit).finish()
    assert code == 3
    assert complaint.startswith("client: the event file cannot be written: ")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (line("{who}"), "unknown placeholder {who}"),
        (p.Expect(1, regex="(?=x)"), "not a regular expression that RE2 takes"),
        (p.Expect(1), "exactly one of"),
    ],
)
def test_a_job_that_cannot_be_played_is_refused(spawn: Spawn, step: p.Instruction, complaint: str) -> None:
    """One line that says why, no traceback, and a log that says that nothing happened."""
    fleet = spawn(group(1, step))
    code, _, complaints = fleet.finish()
    assert code == 4
    assert complaint in complaints
    assert "Traceback" not in complaints
    assert fleet.log.state is LogState.COMPLETE


def test_an_order_that_is_none_is_said_in_one_line(spawn: Spawn) -> None:
    """The harness has failed, so the fleet ends with its code for that, and without a traceback."""
    fleet = spawn(group(1, line("q"), begin=False)).ready()
    assert fleet.process.stdin is not None
    fleet.process.stdin.write(b'{"order":"nonsense"}\n')
    fleet.process.stdin.flush()
    fleet.process.wait(10)  # by itself, with its input still open
    code, _, complaints = fleet.finish()
    assert code == 3
    assert complaints.startswith("client: an order cannot be read: ")
    assert complaints.count("\n") == 1


def alone() -> dict[str, str]:
    """The environment of a program that no harness has started."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MIDSESSION_")}


def by_hand(*arguments: str, typed: str = "") -> tuple[int, list[str], str]:
    """Play by hand, with these lines typed; exit code, what was shown, complaints."""
    environment = alone()
    run = [sys.executable, "-m", "client", *arguments]
    found = subprocess.run(
        run, cwd=ROOT, env=environment, input=typed.encode(), capture_output=True, timeout=20, check=False
    )
    return found.returncode, found.stdout.decode().splitlines(), found.stderr.decode()


def test_the_lesson_by_hand() -> None:
    """Connects, shows data and end, writes what is typed, emoji intact, ends with Ctrl-D."""
    heard = []

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall("Hello 👋\n".encode())
        endpoint.shutdown(socket.SHUT_WR)
        heard.append(until_end(endpoint))

    with listening(peer) as port:
        code, shown, complaints = by_hand(f"127.0.0.1:{port}", "--say", "Hi {you} 👋", typed="how are you ✅?\n")
    assert (code, complaints) == (0, "")
    assert sorted(heard[0].decode().splitlines()) == ["Hi {you} 👋", "how are you ✅?"]
    assert shown[0] == f"connecting to 127.0.0.1:{port}"
    assert "data: Hello 👋" in shown
    assert "end: the server has ended its side" in shown


def test_a_line_without_end_by_hand_ends_the_input() -> None:
    """What was typed before it arrives, a word says why there is no more, and the client ends in order."""
    heard = []

    def peer(endpoint: socket.socket) -> None:
        heard.append(until_end(endpoint))

    with listening(peer) as port:
        code, _, complaints = by_hand(f"127.0.0.1:{port}", typed="how are you?\n" + "a" * 1_100_000)
    assert (code, heard) == (0, [b"how are you?\n"])
    assert complaints == "client: standard input is taken as ended: a line of more than 1048576 bytes came\n"


def test_an_absent_server_by_hand() -> None:
    """A clear line, exit 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, shown, complaints = by_hand(f"127.0.0.1:{port}")
    assert (code, complaints) == (1, "")
    assert shown[1:3] == ["error: Connection refused (refused)", "Server Lost (refused)"]


@pytest.mark.parametrize("host", ["no..dots", f"{'a' * 64}.example", os.fsdecode(b"\xff\xfe")])
def test_a_name_that_no_host_can_have_by_hand(host: str) -> None:
    """Lost by name, like any that nobody has."""
    code, shown, complaints = by_hand(f"{host}:4000")
    assert (code, complaints) == (1, "")
    assert shown[1:] == ["error: no host can have that name (name)", "Server Lost (name)", "closed"]


def test_what_is_said_by_hand_is_what_was_given() -> None:
    """Byte for byte, whether or not it is text."""
    heard = []
    with listening(lambda endpoint: heard.append(until_end(endpoint))) as port:
        code, _, complaints = by_hand(f"127.0.0.1:{port}", "--say", os.fsdecode(b"caf\xe9 {n}"), "--say", "✅")
    assert (code, complaints) == (0, "")
    assert heard == [b"caf\xe9 {n}\n" + "✅\n".encode()]


def test_the_end_of_input_ends_a_client_that_finds_no_server() -> None:
    """With `--reconnect`, before its first attempt or while it waits for its next."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    code, shown, complaints = by_hand(address, "--reconnect")
    assert (code, complaints) == (1, "")
    assert "Server Lost (refused)" in shown
    run = [sys.executable, "-m", "client", address, "--reconnect"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(run, cwd=ROOT, env=alone(), **pipes) as process:  # type: ignore[call-overload]
        while not process.stdout.readline().startswith(b"trying again in 1.0 s"):
            pass
        process.communicate(timeout=20)
    assert process.returncode == 1


@pytest.mark.parametrize(("way", "stream"), [("closed", 0), *itertools.product(WAYS, (1, 2))])
def test_no_client_by_hand_needs_its_streams(way: str, stream: int) -> None:
    """Closed, full or without a reader: the conversation is the same, and its end, too."""
    heard = []
    with listening(lambda endpoint: heard.append(until_end(endpoint))) as port:
        arguments = ["-m", "client", f"127.0.0.1:{port}", "--say", "hello"]
        with python(arguments, way, [stream], cwd=ROOT, env=alone()) as process:
            assert process.wait(20) == 0
    assert heard == [b"hello\n"]


_WRONG_TIMES = [["h:1", "--timeout", word] for word in ("nan", "inf", "-1", "0", "soon")]


@pytest.mark.parametrize(
    "arguments", [[], ["nowhere"], ["h:0"], ["h:1", "--clients", "0"], ["h:1", "--job", "f"], *_WRONG_TIMES]
)
def test_a_wrong_command_line_says_how(arguments: list[str]) -> None:
    """Usage, exit 2, no traceback."""
    code, _, complaints = by_hand(*arguments)
    assert code == 2
    assert "usage: python -m client" in complaints
    assert "Traceback" not in complaints


def test_help_shows_an_example() -> None:
    """The help can be followed."""
    code, shown, _ = by_hand("--help")
    assert code == 0
    assert any('python -m client 127.0.0.1:4000 --say "Hi 👋"' in text for text in shown)


def test_a_server_that_dies_by_hand() -> None:
    """It had ended its side before; the line typed afterwards finds nobody: error, "Server Lost", exit 1."""
    gone = threading.Event()

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall(b"Hello\n")
        gone.set()

    environment = alone()
    with listening(peer) as port, contextlib.ExitStack() as stack:
        run = [sys.executable, "-m", "client", f"127.0.0.1:{port}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = stack.enter_context(subprocess.Popen(run, cwd=ROOT, env=environment, **pipes))  # type: ignore[call-overload]
        stack.callback(process.kill)
        assert gone.wait(10)
        shown = []
        while "end: the server has ended its side\n" not in shown:
            shown.append(process.stdout.readline().decode())
        while process.poll() is None and not any(line.startswith("Server Lost") for line in shown):
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"anybody there?\n")
                process.stdin.flush()
            if process.poll() is None and select.select([process.stdout], [], [], 0.05)[0]:
                shown.append(process.stdout.readline().decode())
        rest, complaints = process.communicate(timeout=10)
    shown += rest.decode().splitlines()
    assert "error: Broken pipe (eof)\n" in shown
    assert any(line.startswith("Server Lost (eof)") for line in shown)
    assert complaints == b""
    assert process.returncode == 1


def test_a_fleet_that_was_not_run_in_time_says_so(spawn: Spawn) -> None:
    """Stopped from outside for so long: it writes for how long, when it runs again, and its log is whole."""
    with listening(until_end) as port:
        fleet = spawn(group(port, hears("never", within_s=60))).ready().tell(Go(t_ns=time.monotonic_ns()))
        fleet.wait_for("connected")
        stand_still(fleet.process.pid, STILL_S)
        code, _, complaints = fleet.finish()
    assert (code, complaints, fleet.log.state) == (0, "", LogState.COMPLETE)
    stalls = [record.fields["for_ns"] / 1e9 for record in fleet.log.records if record.event == Event.STALLED]
    assert max(stalls) >= STILL_S - BEAT_S


STILL_S = 0.4
