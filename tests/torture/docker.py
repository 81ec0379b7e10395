"""The docker testbed under torture: `python -m tests.torture.docker sixty|kills|anew [HOW MANY]`.

    sixty   so many projects of two hosts are up at once (60), and then each has a run; an engine's own pools of
            addresses end at 29 networks
    kills   so many times (20) a run is SIGKILLed, at instants that are evenly spread over its whole length
    anew    the same with three runs in one project, whose programs are images, so that containers come and go between

All say how long things took, and end with status 1 when a run did not pass or when anything is left. The test suite
runs the same functions with small numbers.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from midsession.core.plan import Plan
from midsession.door import Bench
from midsession.language import plans
from midsession.runner import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.images import SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.owner import me
from midsession.testbeds.docker.sweep import OWNER, left_of
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
GREETING = ROOT / "scenarios" / "lesson" / "greeting.scenario.yaml"
KILL = ROOT / "scenarios" / "kill" / "server-dies-mid-session.scenario.yaml"
ONCE = (str(KILL),)
IMAGE = "midsession-torture:program"
DOCKERFILE = f"FROM {SERVER_IMAGE}\nENTRYPOINT []\nVOLUME /data\n"
OF_IMAGES = f"""\
name: Programs by image
services:
  server: {{image: '{IMAGE}', command: [python, -m, http.server, "4000"], port: 4000, grace: 0s}}
clients:
  visitors: {{count: 3, image: '{IMAGE}', command: [python, --version]}}
checks:
  - exit: {{clients: visitors}}
    code: 0
"""
_AT_A_TIME = 4
_CLEAN_WITHIN_S = 30.0


async def together(count: int, folder: Path) -> tuple[float, list[str]]:
    """So many projects up at once, then a run in each: how long until all were up, and the verdicts.

    Only making them, running and taking them away is bounded, to a few at a time.
    """
    (plan,) = plans(GREETING, 1)
    testbeds = [DockerTestbed(state=folder / "state") for _ in range(count)]
    turns = asyncio.Semaphore(_AT_A_TIME)

    async def in_turn(work: Callable[[], Awaitable[object]]) -> object:
        async with turns:
            return await work()

    try:
        began_s = time.monotonic()
        await asyncio.gather(
            *(in_turn(lambda t=t, n=n: _bring_up(t, plan, folder / str(n))) for n, t in enumerate(testbeds))
        )
        took_s = time.monotonic() - began_s
        assert len(_networks()) >= count
        benches = [Bench(testbed, folder / "runs") for testbed in testbeds]
        runs = await asyncio.gather(*(in_turn(lambda b=b: _verdict(b, plan)) for b in benches))
        assert len(_networks()) >= count, "a project was not kept"
    finally:
        await asyncio.gather(*(in_turn(testbed.shut) for testbed in testbeds), return_exceptions=True)
    return took_s, [str(run) for run in runs]


async def _bring_up(testbed: DockerTestbed, plan: Plan, directory: Path) -> None:
    for name in ("events", "logs"):
        (directory / name).mkdir(parents=True)
    await testbed.open(plan, "up", directory, _Nobody())
    await testbed.close()


async def _verdict(bench: Bench, plan: Plan) -> str:
    return str((await bench.perform(plan, Listener())).verdict.status)


class _Nobody:
    """An inbox for agents that have nothing to say."""

    def records(self, batch: object) -> None:
        """Not expected."""

    def gone(self, host: str, why: str) -> None:
        """Its run will say so."""

    def note(self, text: str) -> None:
        """Not expected."""


def _networks() -> list[str]:
    """The networks of this process's projects."""
    engine = Engine()
    try:
        return [n["Name"] for n in engine.api.networks(filters={"label": f"{OWNER}={me()}"})]
    finally:
        engine.close()


# --- kills ---------------------------------------------------------------------------------------------------------


def kill_at(after_s: float, folder: Path, words: Sequence[str] = ONCE) -> float:
    """SIGKILL a `midsession run` of these words after that time.

    Returns how long until nothing of it is in the engine or in the journal, in seconds."""
    folder.mkdir()
    run = _run(folder, words)
    with suppress(subprocess.TimeoutExpired):  # else it is over by then, which is one moment more to look at
        run.wait(after_s)
    journal, engine = Journal(folder / "midsession" / "docker"), Engine()
    run.kill()
    run.wait()
    began_s = time.monotonic()
    projects = [entry.project for entry in journal.entries()]
    try:
        eventually(
            lambda: not any(journal.entries()) and not any(left_of(engine.api, project) for project in projects),
            _CLEAN_WITHIN_S, f"nothing left of {projects} after a kill at {after_s:.2f} s",
        )  # fmt: skip
    finally:
        engine.close()
    return time.monotonic() - began_s


def length_of_a_run(folder: Path, words: Sequence[str] = ONCE) -> float:
    """How long an undisturbed one takes, in seconds."""
    folder.mkdir()
    began_s = time.monotonic()
    status = _run(folder, words).wait()
    assert status == 0
    return time.monotonic() - began_s


def _run(folder: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    argv = ["run", *words, "--testbed", "docker", "--runs", str(folder / "runs"), "--seed", "7"]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "midsession", *argv],
        env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


# --- the command ---------------------------------------------------------------------------------------------------


def sixty(count: int, folder: Path) -> int:
    """See the module."""
    took_s, verdicts = asyncio.run(together(count, folder))
    passed = verdicts.count("pass")
    left = [*_networks(), *(entry.project for entry in Journal(folder / "state").entries())]
    sys.stdout.write(f"{count} projects up at once after {took_s:.1f} s; {passed} of {count} runs pass; left: {left}\n")
    return int(passed != count or bool(left))


def kills(count: int, folder: Path, words: Sequence[str] = ONCE) -> int:
    """See the module."""
    length_s = length_of_a_run(folder / "whole", words)
    took_s = sorted(kill_at(length_s * (n + 0.5) / count, folder / str(n), words) for n in range(count))
    mean_s = sum(took_s) / count
    sys.stdout.write(
        f"{count} kills over {length_s:.1f} s: all clean, after {mean_s:.1f} s, at most {took_s[-1]:.1f} s\n"
    )
    return int(took_s[-1] > 10)


def anew(count: int, folder: Path) -> int:
    """See the module."""
    scenario = folder / "images.scenario.yaml"
    scenario.write_text(OF_IMAGES)
    build = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(build, input=DOCKERFILE.encode(), check=True, capture_output=True)
    try:
        return kills(count, folder, [str(scenario), "--repeat", "3"])
    finally:
        subprocess.run(["docker", "rmi", IMAGE], check=True, capture_output=True)


def main(words: Sequence[str]) -> int:
    """The exit status."""
    what, default = {"sixty": (sixty, 60), "kills": (kills, 20), "anew": (anew, 20)}[words[0]]
    with tempfile.TemporaryDirectory() as folder:
        return what(int(words[1]) if len(words) > 1 else default, Path(folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
