"""How fast the netns testbed is: hosts up and down, the shortest scenario, a suite, the path of a kill.

    python -m benchmarks.netns [--rounds 7] [--suite 40] [--only hosts|single|suite|kills]

Figures and the noise probe beside them: see `figures`; kills: see `kills`. All has its bytecode at hand, as an
installed Midsession has, whatever PYTHONDONTWRITEBYTECODE says.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures, probe, timed
from benchmarks.kills import kills
from midsession.language import plans
from midsession.testbeds import Inbox
from midsession.testbeds.netns.testbed import NetnsTestbed

ROOT = Path(__file__).parent.parent
MODULE = [sys.executable, "-m", "midsession"]

SHORTEST = """
name: The shortest scenario {n}
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  visitor:
    count: 1
    connect: server:4000
    script:
      - send: {{line: "Hi"}}
      - expect: {{line: "Got your message ✅", within: 2s}}
      - end
checks:
  - every: visitor
    meets: replied
    within: 2s
"""


class Silence:
    """An inbox for hosts on which nothing runs."""

    def records(self, batch: object) -> None:
        """Nothing is subscribed."""

    def gone(self, host: str, why: str) -> None:
        raise RuntimeError(f"{host}: {why}")


def hosts_scenario(others: int) -> str:
    """A scenario with so many hosts beside the server's: a fleet, and services that nobody starts."""
    lines = [f"  s{n}: {{reference: {{behaviour: sink}}, port: 4000, autostart: false}}" for n in range(others - 1)]
    return SHORTEST.format(n=others).replace("clients:", "\n".join(lines) + "\nclients:")


async def hosts(figures: Figures, folder: Path, rounds: int) -> None:
    """Hosts up, with agents answering, and down again; from a warm template."""
    inbox: Inbox = Silence()
    testbed = NetnsTestbed()
    try:
        for number in range(rounds + 1):
            probe(figures)
            for count in (1, 10, 40):
                path = folder / "hosts.scenario.yaml"
                path.write_text(hosts_scenario(count))
                plan = plans(path, 1)[0]
                run = folder / f"run-{number}-{count}"
                run.mkdir()
                began = time.perf_counter()
                await testbed.open(plan, "r", run, inbox)
                up = time.perf_counter()
                await testbed.close()
                down = time.perf_counter()
                if number:  # the first round starts the template
                    figures.add(f"1 server host and {count} more: up, agents answering, ms", (up - began) * 1e3)
                    figures.add(f"1 server host and {count} more: down, last process gone, ms", (down - up) * 1e3)
    finally:
        await testbed.shut()


def single(figures: Figures, folder: Path, rounds: int) -> None:
    """The shortest scenario by the command line, interpreter's start included."""
    path = folder / "shortest.scenario.yaml"
    path.write_text(SHORTEST.format(n=1))
    doors = {"midsession run": [str(Path(sys.executable).with_name("midsession"))], "python -m midsession run": MODULE}
    for _ in range(rounds):
        probe(figures)
        for name, door in doors.items():
            command = [*door, "run", str(path), "--testbed", "netns", "--runs", str(folder / "runs")]
            figures.add(f"the shortest scenario alone, `{name}`, ms", timed(lambda c=command: finish(c)))  # type: ignore[misc]


def suite(figures: Figures, folder: Path, size: int, rounds: int) -> None:
    """Many of them in one suite: by the command line and by pytest, one after the other and two at once."""
    scenarios, runs = folder / "suite", str(folder / "suite-runs")
    scenarios.mkdir()
    for number in range(size):
        (scenarios / f"s{number}.scenario.yaml").write_text(SHORTEST.format(n=number))
    run = [*MODULE, "run", str(scenarios), "--testbed", "netns", "--runs", runs]
    test = [sys.executable, "-m", "pytest", str(scenarios), "--rootdir", str(scenarios), "-q", "-p", "no:cacheprovider"]
    test += ["--midsession-testbed=netns", "--midsession-runs", runs]
    doors = {
        "midsession run": run,
        "midsession run -n 2": [*run, "-n", "2"],
        "pytest": test,
        "pytest -n 2": [*test, "-n", "2"],
    }
    for _ in range(rounds):
        probe(figures)
        for name, command in doors.items():
            took = timed(lambda c=command: finish(c))  # type: ignore[misc]
            figures.add(f"a suite of {size} by `{name}`: each, ms", took / size)
            figures.add(f"a suite of {size} by `{name}`: scenarios a minute", size / (took / 60e3))


def finish(command: Sequence[str]) -> None:
    """Run a command to its end, which must be a good one."""
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--suite", type=int, default=40, metavar="SIZE")
    parser.add_argument("--only", choices=["hosts", "single", "suite", "kills"])
    options = parser.parse_args()
    figures = Figures()
    for package in ("midsession", "server", "client"):
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "hosts"):
            asyncio.run(hosts(figures, folder, options.rounds))
        if options.only in (None, "single"):
            single(figures, folder, options.rounds)
        if options.only in (None, "suite"):
            suite(figures, folder, options.suite, max(1, options.rounds // 3))
        if options.only in (None, "kills"):
            asyncio.run(kills(figures, folder, options.rounds))
    figures.show()


if __name__ == "__main__":
    main()
