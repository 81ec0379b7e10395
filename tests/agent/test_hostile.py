"""Hostile frames (I9): an answer with an error, or a closed connection; never a crash, never an execution."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from midsession.agent.protocol import MAX_FRAME_BYTES, Fetch, Reply, Request, Status, decode_request, encode
from midsession.agent.verbs import VERBS
from midsession.core.logfile import LogState

from .conductor import WAIT, Agent, TestConductor, is_alive

FRAMES = 2000
VALID: list[dict[str, Any]] = [
    {"m": "status", "id": 5},
    {"m": "kill", "id": 5, "signal": "KILL"},
    {"m": "stop", "id": 5, "grace_s": 1},
    {"m": "fetch", "id": 5, "path": "events/x", "offset": 0},
    {"m": "subscribe", "id": 5, "events": ["done"]},
    {"m": "start", "id": 5, "argv": ["touch", "TRAP"]},
    {"m": "configure", "id": 5, "run": "r", "host": "h", "seed": 1, "plan": "p"},
]
JUNK: list[Any] = [
    None,
    True,
    -1,
    2**63,
    2**64,
    2**200,
    1e308,
    0.5,
    "",
    "x",
    "\0",
    "../..",
    [],
    [[]],
    {},
    {"a": 1},
    "é" * 999,
]


def mutant(draw: random.Random, trap: str) -> bytes:
    """A frame that is wrong in one way or another. (It may by chance be right; see `is_request`.)"""
    frame = json.loads(json.dumps(draw.choice(VALID)).replace("TRAP", trap))
    for _ in range(draw.randint(1, 2)):
        how = draw.randrange(4)
        key = draw.choice(sorted(frame) or ["m"])
        if how == 0:
            frame[key] = draw.choice(JUNK)
        elif how == 1:
            frame.pop(key, None)
        elif how == 2:
            frame[draw.choice(["shell", "m ", "M", "__class__"])] = draw.choice(JUNK)
        else:
            frame["m"] = draw.choice(["exec", "eval", "shell", "hello", "reply", "records", "", "Kill"])
    data = bytearray(json.dumps(frame).encode())
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(data))
        match draw.randrange(3):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                del data[at:]
                data += b"{"
            case _:
                data[at:at] = draw.choice([b"\x00", b"\xff\xfe", b"[" * 3000, b"\\ud800", b"1e999", b"-" * 50])
    return bytes(data).replace(b"\n", b" ")


def is_request(data: bytes) -> bool:
    try:
        decode_request(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def test_fuzzed_frames_are_answered_and_do_nothing(agent: Agent, conductor: TestConductor, tmp_path: Path) -> None:
    """2,000 mutants: each is answered with an error, nothing is started, and the agent still works."""
    conductor.begin()
    draw = random.Random(2026)
    trap = tmp_path / "executed"
    sent = 0
    for _ in range(FRAMES * 2):
        frame = mutant(draw, str(trap))
        if is_request(frame):
            continue  # by chance a request: carrying it out is right
        sent += 1
        conductor.send_raw(frame + b"\n")
        assert next_error(conductor).startswith("no request: ")
        if sent == FRAMES:
            break
    assert sent == FRAMES
    assert not trap.exists()
    status = conductor.ask(Status(id=0))
    del status["listening"]
    assert status == {"running": False, "pid": None, "incarnation": 0, "exit": None}


def next_error(conductor: TestConductor) -> str:
    message = conductor.next_message()
    assert isinstance(message, Reply)
    assert message.error is not None
    return message.error


@pytest.mark.parametrize(
    "frame",
    [
        {"m": "start", "id": 1, "argv": ["a\0b"]},
        {"m": "start", "id": 1, "argv": ["true"], "env": {"A=B": "x"}},
        {"m": "start", "id": 1, "argv": ["true"], "env": {"A\0": "x"}},
        {"m": "start", "id": 1, "argv": ["true"], "cwd": "/nowhere"},
        {"m": "start", "id": 1, "argv": ["true"], "files": {"x": "y", "/x": "y"}},
        {"m": "fetch", "id": 1, "path": "events/server.agent.1.jsonl", "offset": 2**63},
        {"m": "fetch", "id": 1, "path": "events/server.agent.1.jsonl", "offset": 2**100},
        {"m": "kill", "id": 2**63},
        {"m": "kill", "id": 2**64 - 1},
        {"m": "kill", "id": 2**200},
        {"m": "kill", "id": -(2**63)},
        {"m": "configure", "id": 1, "run": "r", "host": "h", "seed": 1, "plan": "p", "directory": "/proc/nowhere"},
        {"m": "configure", "id": 1, "run": "r", "host": "h", "seed": 1, "plan": "p", "directory": "a\0b"},
    ],
)
def test_well_formed_nonsense_is_refused(conductor: TestConductor, frame: dict[str, Any]) -> None:
    """Requests of the right shape with impossible values are refused, and the agent lives on."""
    conductor.begin()
    conductor.send_raw(json.dumps(frame).encode() + b"\n")
    assert next_error(conductor)
    conductor.ask(Status(id=0))


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\n", b'{"m":"exec","id":1}\n', b"\xff\xfe\n"])
def test_who_begins_with_nonsense_is_no_conductor(agent: Agent, conductor: TestConductor, first: bytes) -> None:
    """Before the first request, a frame that is none ends the connection: it could be our own echo."""
    conductor.send_raw(first)
    assert agent.wait() == 0
    assert "no request" in agent.end()


def test_too_long_a_line_ends_the_connection(agent: Agent, conductor: TestConductor) -> None:
    """A line beyond the bound is not buffered for ever."""
    conductor.begin()
    with pytest.raises(BrokenPipeError):
        conductor.send_raw(b"x" * (MAX_FRAME_BYTES + 1_000_000))
    assert agent.wait() == 0
    assert "a line of more than" in agent.end()


def test_large_request_is_taken(conductor: TestConductor) -> None:
    """A request of several MiB (a job for a large fleet) comes through, in whatever pieces."""
    conductor.begin("line")
    conductor.start("import sys; print(len(open(sys.argv[1]).read()))", "job", files={"job": "j" * 5_000_000})
    conductor.wait_line("5000000")


def test_conductor_that_never_reads_is_not_buffered_for(agent: Agent, conductor: TestConductor, tmp_path: Path) -> None:
    """Replies that nobody reads stop the agent from reading more requests, before it grows."""
    conductor.begin()
    (tmp_path / "logs" / "server.big.log").write_bytes(b"x" * 4_000_000)
    frame = encode(Fetch(id=9, path="logs/server.big.log", offset=0))
    for _ in range(30):
        conductor.send_raw(frame + b"\n")
    for _ in range(30):
        message = conductor.next_message()
        assert isinstance(message, Reply)
        assert message.error is None
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak_kib < 100_000


def test_full_disk_ends_the_agent(tmp_path: Path) -> None:
    """A log that cannot be written is an error of the run: the agent kills the program and ends with 3 (M6)."""
    agent = Agent("--stdio")
    try:
        conductor = agent.conductor(tmp_path)
        conductor.begin("started")
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        conductor.start("import sys\nfor n in range(1000): print(n, flush=True)\nimport signal; signal.pause()")
        assert "cannot be written" in conductor.farewell()
        assert agent.wait() == 3
    finally:
        assert "cannot be written" in agent.end()


MISTAKEN = """
import sys
from midsession.agent import protocol, verbs
verbs.VERBS[protocol.Status] = lambda agent, ask, answer: {how}
from midsession.agent.serve import serve_stdio
sys.exit(serve_stdio())
"""


@pytest.mark.parametrize("how", ["{}['no such key']", "agent.loop.later(0, lambda: {}['no such key']) and None"])
def test_a_mistake_of_ours_is_told_before_the_end(tmp_path: Path, how: str) -> None:
    """While a request is carried out, or later: in full on standard error, in short to the conductor; nothing lives on.

    The run's log is closed in order, and the exit status is 4.
    """
    agent = Agent(code=MISTAKEN.format(how=how))
    try:
        conductor = agent.conductor(tmp_path)
        conductor.begin()
        program = conductor.start(WAIT)["pid"]
        conductor.send(Status(id=0))
        assert conductor.farewell() == "a mistake of ours: KeyError: 'no such key'"
        assert agent.wait() == 4
        assert not is_alive(program)
        assert conductor.log().state is LogState.COMPLETE
    finally:
        said = agent.end()
    assert "Traceback" in said
    assert "in _frame" in said or "in _fire" in said


def test_table_of_verbs_is_total() -> None:
    """Every verb of the protocol has a handler, and there is no handler besides."""
    assert set(VERBS) == set(get_args(Request))
