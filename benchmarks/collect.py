"""What the installed pytest plugin costs a suite that has no scenario: `pytest --collect-only` with it and without it.

    python -m benchmarks.collect [--rounds 15] [--modules 20] [--tests 20]

The two are run in turn, the first of them changing, on a suite that is made for it. Without: `-p no:midsession`. The
processor's time is shown beside the wall's, because other programs disturb it less.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figures, percentile, probe, timed

WITHOUT = ("-p", "no:midsession")


def main() -> None:
    """Make the suite, collect it again and again, and show both and their differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--modules", type=int, default=20)
    parser.add_argument("--tests", type=int, default=20, help="in each module")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory() as name:
        make_suite(Path(name), options.modules, options.tests)
        collect(Path(name))  # compiles what is compiled once
        pairs = [round_of(figures, Path(name), bool(number % 2)) for number in range(options.rounds)]
    figures.show()
    show_difference("wall", [(on.wall_ms, off.wall_ms) for on, off in pairs])
    show_difference("CPU", [(on.cpu_ms, off.cpu_ms) for on, off in pairs])


def show_difference(clock: str, pairs: Sequence[tuple[float, float]]) -> None:
    """With less without, and with by without, round by round."""
    for what, samples in (
        ("difference, ms", [on - off for on, off in pairs]),
        ("ratio", [on / off for on, off in pairs]),
    ):
        low, high = percentile(samples, 0.1), percentile(samples, 0.9)
        sys.stdout.write(f"{clock} {what:<16} {statistics.median(samples):9.3f}   ({low:.3f} to {high:.3f})\n")


def make_suite(folder: Path, modules: int, tests: int) -> None:
    """A suite of modules with tests that nobody runs."""
    body = "".join(f"def test_{number}():\n    assert True\n\n\n" for number in range(tests))
    for number in range(modules):
        (folder / f"test_module_{number}.py").write_text(body)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    wall_ms: float
    cpu_ms: float


def round_of(figures: Figures, folder: Path, plugin_first: bool) -> tuple[Cost, Cost]:
    """The cost with the plugin, and without it."""
    probe(figures)
    costs: dict[bool, Cost] = {}
    for plugin in (plugin_first, not plugin_first):
        costs[plugin] = collect(folder, *(() if plugin else WITHOUT))
        name = f"pytest --collect-only {'with' if plugin else 'without'} the plugin"
        figures.add(f"{name}: wall, ms", costs[plugin].wall_ms)
        figures.add(f"{name}: CPU, ms", costs[plugin].cpu_ms)
    return costs[True], costs[False]


def collect(folder: Path, *options: str) -> Cost:
    """Collect the suite in a process of its own."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    command += ["--rootdir", str(folder)]
    before_s = _children_cpu_s()
    wall_ms = timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=folder))
    return Cost(wall_ms, (_children_cpu_s() - before_s) * 1e3)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
