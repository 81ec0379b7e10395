"""How fast the netns testbed is: hosts up and down, the shortest scenario, a suite, the path of a kill.

    python -m benchmarks.netns [--rounds 7] [--suite 40] [--only hosts|single|suite|kill]

Every figure is a median with its spread (10th to 90th percentile) over interleaved rounds. A noise probe (a bare Python
started and ended) runs beside them: absolute times mean little on a shared machine, the ratio to the probe a little
more.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from midsession import rundir
from midsession.language import plans
from midsession.runner import run_plan
from midsession.testbeds import Inbox
from midsession.testbeds.netns import NetnsTestbed

ROOT = Path(__file__).parent.parent

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

KILL = """
name: A kill under {n} clients
timeout: 60s
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: {n}
    connect: server:4000
    arrive: {{over: 500ms}}
    script:
      - repeat:
          until: never-raised
          script:
            - send: {{line: "Hi"}}
            - expect: {{line: "Got your message ✅", within: 5s}}
            - wait: {wait}
timeline:
  - id: arrived
    when: {{every: talkers, event: replied}}
    note: all talk
  - id: crash
    when: {{event: replied, of: talkers, count: {count}, since: arrived}}
    kill: server
  - when: {{every: talkers, event: lost, since: crash}}
    signal: never-raised
checks:
  - every: talkers
    meets: lost
    since: crash
    within: 1s
"""


class Silence:
    """An inbox for hosts on which nothing runs."""

    def records(self, batch: object) -> None:
        """Nothing is subscribed."""

    def gone(self, host: str, why: str) -> None:
        raise RuntimeError(f"{host}: {why}")


def hosts_scenario(services: int) -> str:
    """A scenario with that many hosts in all: services that nobody starts, and one fleet."""
    lines = [f"  s{n}: {{reference: {{behaviour: sink}}, port: 4000, autostart: false}}" for n in range(services - 1)]
    return SHORTEST.format(n=services).replace("clients:", "\n".join(lines) + "\nclients:")


class Figures:
    """Samples by name, and their line in the table."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, milliseconds: float) -> None:
        self._samples[name].append(milliseconds)

    def show(self) -> None:
        for name, samples in self._samples.items():
            low, high = _percentile(samples, 0.1), _percentile(samples, 0.9)
            middle = statistics.median(samples)
            sys.stdout.write(f"{name:<58} {middle:9.2f} ms   ({low:.2f}-{high:.2f}, n={len(samples)})\n")


def _percentile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def timed(work: Callable[[], object]) -> float:
    """How many milliseconds it takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def probe(figures: Figures) -> None:
    """A bare Python, started and ended."""
    figures.add(
        "noise probe: python -c pass", timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    )


async def hosts(figures: Figures, folder: Path, rounds: int) -> None:
    """Hosts up, with agents answering, and down again; from a warm template."""
    inbox: Inbox = Silence()
    testbed = NetnsTestbed()
    try:
        for number in range(rounds + 1):
            probe(figures)
            for count in (2, 11, 41):
                path = folder / "hosts.scenario.yaml"
                path.write_text(hosts_scenario(count - 1))
                plan = plans(path, 1)[0]
                run = folder / f"run-{number}-{count}"
                run.mkdir()
                began = time.perf_counter()
                await testbed.open(plan, "r", run, inbox)
                up = time.perf_counter()
                await testbed.close()
                down = time.perf_counter()
                if number:  # the first round starts the template
                    figures.add(f"{count - 1} services + 1 fleet: up, agents answering", (up - began) * 1e3)
                    figures.add(f"{count - 1} services + 1 fleet: down, last process gone", (down - up) * 1e3)
    finally:
        await testbed.shut()


def single(figures: Figures, folder: Path, rounds: int) -> None:
    """The shortest scenario by the command line, interpreter's start included."""
    path = folder / "shortest.scenario.yaml"
    path.write_text(SHORTEST.format(n=1))
    command = [
        sys.executable,
        "-m",
        "midsession",
        "run",
        str(path),
        "--testbed",
        "netns",
        "--runs",
        str(folder / "runs"),
    ]
    for _ in range(rounds):
        probe(figures)
        figures.add(
            "shortest scenario alone, `midsession run`",
            timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)),
        )


def suite(figures: Figures, folder: Path, size: int, rounds: int) -> None:
    """Many of them in one suite: by the command line, and by pytest on two workers."""
    scenarios = folder / "suite"
    scenarios.mkdir()
    for number in range(size):
        (scenarios / f"s{number}.scenario.yaml").write_text(SHORTEST.format(n=number))
    base = ["--testbed", "netns", "--runs", str(folder / "suite-runs")]
    cli = [sys.executable, "-m", "midsession", "run", str(scenarios), *base]
    door = [
        sys.executable,
        "-m",
        "pytest",
        str(scenarios),
        "-q",
        "-p",
        "no:cacheprovider",
        "--midsession-testbed=netns",
    ]
    door += ["--midsession-runs", str(folder / "suite-runs"), "--rootdir", str(scenarios)]
    for _ in range(rounds):
        probe(figures)
        for name, command in (("midsession run", cli), ("pytest", door), ("pytest -n 2", [*door, "-n", "2"])):
            took = timed(lambda c=command: subprocess.run(c, check=True, capture_output=True, cwd=ROOT))  # type: ignore[misc]
            figures.add(f"a suite of {size} by `{name}`: each", took / size)
            figures.add(f"a suite of {size} by `{name}`: in a minute (count, not ms)", size / (took / 60e3))


async def kill(figures: Figures, folder: Path, rounds: int) -> None:
    """From the record that triggers to the SIGKILL, and on to the first and the last peer's loss."""
    testbed = NetnsTestbed()
    try:
        for _ in range(rounds):
            for clients, wait, count in ((10, "5ms", 200), (100, "50ms", 200), (1000, "1s", 500)):
                path = folder / "kill.scenario.yaml"
                path.write_text(KILL.format(n=clients, wait=wait, count=count))
                result = await run_plan(plans(path, 1)[0], testbed, folder / "kill-runs")
                history = rundir.read_history(result.directory)
                triggered = history.events("triggered").where(step="crash").first
                injected = history.events("injected").first
                losses = history.events("lost").since("crash")
                assert triggered
                assert injected
                assert losses.count == clients, result
                began = injected.fields["began_ns"]
                figures.add(f"{clients} clients: record → SIGKILL", (began - triggered.fields["by"]["t_ns"]) / 1e6)
                figures.add(f"{clients} clients: SIGKILL → first loss", (losses.first.t_ns - began) / 1e6)
                figures.add(f"{clients} clients: SIGKILL → last loss", (losses.last.t_ns - began) / 1e6)
    finally:
        await testbed.shut()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--suite", type=int, default=40, metavar="SIZE")
    parser.add_argument("--only", choices=["hosts", "single", "suite", "kill"])
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "hosts"):
            asyncio.run(hosts(figures, folder, options.rounds))
        if options.only in (None, "single"):
            single(figures, folder, options.rounds)
        if options.only in (None, "suite"):
            suite(figures, folder, options.suite, max(1, options.rounds // 3))
        if options.only in (None, "kill"):
            asyncio.run(kill(figures, folder, options.rounds))
    figures.show()


if __name__ == "__main__":
    main()
