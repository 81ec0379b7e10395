"""Interrupts: none is lost between two who hear of them, and wherever one comes, the program ends in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from midsession.batch.told import STOPPED, Told
from midsession.batch.workers import READY, Order
from midsession.interrupts import heard
from midsession.keep import Keep
from midsession.language import plans
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
PATIENCE_S = 60.0

ENDLESS = """
name: Nobody ends it
timeout: 600s
services: {server: {reference: {behaviour: reply}, port: 4000}}
clients:
  talkers:
    count: 2
    connect: server:4000
    script: [{wait: {signal: goodbye}}, end]
timeline:
  - when: {at: 500s}
    signal: goodbye
checks:
  - count: {event: connected, of: talkers}
    equals: 2
"""
QUICK = ENDLESS.replace("at: 500s", "every: talkers, event: connected").replace("Nobody ends it", "Soon over")


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def program() -> Iterator[list[str]]:
    """What the program around all blocks heard."""
    said: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: said.append("program"))
    yield said
    signal.signal(signal.SIGINT, before)


# --- blocks that hear --------------------------------------------------------------------------------------------


def test_the_innermost_block_hears(program: list[str]) -> None:
    """Each at its time; after the last, the program again."""
    with heard(lambda: program.append("batch")) as batch:
        interrupt()
        batch.obeyed()
        with heard(lambda: program.append("run")) as run:
            signal.raise_signal(signal.SIGTERM)
            run.obeyed()
        interrupt()
        batch.obeyed()
    interrupt()
    assert program == ["batch", "run", "batch", "program"]


def test_what_came_before_a_block_is_heard_in_it(program: list[str]) -> None:
    """Two interrupts before the run had begun are two to the run, and none to the next."""
    with heard():
        interrupt()
        interrupt()
        for name in ("first", "second"):
            with heard(lambda name=name: program.append(name)) as run:  # type: ignore[misc]
                run.obeyed()
    assert program == ["first", "first"]


def test_what_a_block_does_not_obey_is_heard_around_it(program: list[str]) -> None:
    """A run that was over all the same leaves its interrupt to the batch, and that to the program."""
    with heard(lambda: program.append("batch")), heard(lambda: program.append("run")):
        interrupt()
    assert program == ["run", "batch", "program"]


def test_an_interrupt_comes_out_of_a_block_that_fails(program: list[str]) -> None:
    """Whatever has become of the block."""

    def fails() -> None:
        with heard():
            interrupt()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert program == ["program"]


def test_a_loop_that_waits_for_nothing_else_is_woken(program: list[str]) -> None:
    """A signal from outside ends the wait of an event loop that has no other event to come."""
    loop_waits = threading.Event()

    def kill() -> None:
        loop_waits.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGTERM)

    async def wait() -> None:
        came = asyncio.get_running_loop().create_future()
        with heard(lambda: came.set_result(None)) as here:
            asyncio.get_running_loop().call_soon(loop_waits.set)
            async with asyncio.timeout(PATIENCE_S):
                await came
            here.obeyed()

    thread = threading.Thread(target=kill)
    thread.start()
    asyncio.run(wait())
    thread.join()
    assert program == []


def test_another_thread_hears_nothing() -> None:
    """Signals are the main thread's; who runs a scenario in another one is not disturbed."""
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with heard():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


# --- workers -----------------------------------------------------------------------------------------------------


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that has not said anything yet."""
    order = Order("netns", str(folder / "runs"), Keep.ALWAYS)
    command = [sys.executable, "-m", "midsession.batch.workers", msgspec.json.encode(order).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield process
        process.kill()


@pytest.mark.netns
def test_an_interrupt_before_a_worker_s_run_ends_that_run(tmp_path: Path) -> None:
    """The plan is on its way when the interrupt comes: the run of ten minutes is over before it has begun."""
    path = tmp_path / "endless.scenario.yaml"
    path.write_text(ENDLESS)
    (plan,) = plans(path, 1)
    with worker(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == READY
        process.send_signal(signal.SIGINT)
        process.stdin.write(plan.to_json() + b"\n")
        process.stdin.flush()
        told = msgspec.json.decode(process.stdout.readline(), type=Told)
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
    assert (told.word, told.exit_code) == (STOPPED, 2)


@contextmanager
def command(folder: Path, *options: str, **scenarios: str) -> Iterator[subprocess.Popen[str]]:
    """`midsession run` of these scenarios; killed at the end, if it still runs."""
    for name, text in scenarios.items():
        (folder / f"{name}.scenario.yaml").write_text(text)
    line = [sys.executable, "-m", "midsession", "run", ".", "--testbed", "netns", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, **pipes, text=True, cwd=folder, env=environment) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def wait_until(seen: Callable[[], bool], named: str) -> None:
    """Until it is seen."""

    def look() -> bool:
        with suppress(OSError):  # a process that has gone meanwhile
            return seen()
        return False

    eventually(look, PATIENCE_S, named)


def relatives(mark: str) -> list[str]:
    """Every process that was started with this directory as its HOME, by its command line."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and f"HOME={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def ends_in_order(process: subprocess.Popen[str], folder: Path) -> str:
    """Ctrl-C: exit 2, no traceback, nothing left, and no run that went to its own end. Returns what it said."""
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, said + wrong
    assert "Traceback" not in said + wrong
    assert "worker-died" not in wrong
    wait_until(lambda: relatives(str(folder)) == [], "every process gone")
    infos = [json.loads(path.read_bytes()) for path in folder.glob("runs/*/run.json")]
    assert {info.get("why_ended") for info in infos} <= {"interrupted"}
    return said


@pytest.mark.netns
def test_an_interrupt_while_the_program_is_imported(tmp_path: Path) -> None:
    """It is left at once, in one word."""
    with command(tmp_path, a=ENDLESS) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        wait_until(lambda: b"/_socket." in maps.read_bytes(), "in the middle of its imports")
        ends_in_order(process, tmp_path)


SAID = ["midsession", "seed", "opening", "starting", "begun", "healing", "collecting"]
"""Words of the account, from the first line to the last before the verdict."""


@pytest.mark.netns
@pytest.mark.parametrize("word", SAID)
def test_an_interrupt_wherever_a_run_is(tmp_path: Path, word: str) -> None:
    """From its first word to its tear-down: exit 2, nothing left, and the next run is not begun."""
    with command(tmp_path, a=QUICK if word in SAID[-2:] else ENDLESS, b=ENDLESS) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if word in line:
                break
        said = ends_in_order(process, tmp_path)
    assert word in SAID[:2] or "1 not run" in said


@pytest.mark.netns
def test_an_interrupt_before_workers_are_ready(tmp_path: Path) -> None:
    """They have only just been started: they do not die of it, and begin no run."""
    with command(tmp_path, "-n", "2", a=ENDLESS, b=ENDLESS) as process:
        wait_until(lambda: any("midsession.batch.workers" in one for one in relatives(str(tmp_path))), "a worker")
        said = ends_in_order(process, tmp_path)
    assert "2 runs: 2 interrupted" in said or "2 runs: 1 interrupted, 1 not run" in said


@pytest.mark.netns
def test_an_interrupt_after_workers_have_begun(tmp_path: Path) -> None:
    """Whatever their runs are doing by then."""
    with command(tmp_path, "-n", "2", a=ENDLESS, b=ENDLESS, c=ENDLESS) as process:
        wait_until(lambda: any((tmp_path / "runs").glob("*/plan.json")), "a run")
        said = ends_in_order(process, tmp_path)
    assert "3 runs: 2 interrupted, 1 not run" in said


@pytest.mark.netns
def test_a_command_that_is_killed_takes_its_workers_along(tmp_path: Path) -> None:
    """L1 with `-n`: nobody ends a run in order, with all the time that this may take, for a command that is dead."""

    def said(word: str) -> int:
        return sum(f'"{word}"' in path.read_text() for path in (tmp_path / "runs").glob("*/events/conductor*"))

    with command(tmp_path, "-n", "2", a=ENDLESS, b=ENDLESS) as process:
        wait_until(lambda: said("begun") == 2, "two runs")
        process.kill()
        wait_until(lambda: not relatives(str(tmp_path)), "nothing left")
    assert (said("begun"), said("ended")) == (2, 0)
