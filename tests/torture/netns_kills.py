"""L1 in full: `python -m tests.torture.netns_kills [KILLS] [WITHIN_S]` (100 and 1 s by default).

SIGKILLs the harness at random moments of a run on netns, and compares the machine with what it was before: network
namespaces, links, mounts and processes. Ends with 0 only when nothing was ever left after WITHIN_S, and nine of ten
runs were fully built when they were killed. The test suite does the same with few kills.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "scenarios/kill/server-dies-mid-session.scenario.yaml"
HOSTS = 2
MOST_S = 2.0
"""A run is killed up to that long after its hosts are up; it lasts longer."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs make of a machine: inodes of network namespaces, names of links, mounts, and our descendants."""

    namespaces: frozenset[str]
    links: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[int]

    def left_over(self, before: Machine) -> set[str]:
        """What there is more than before."""
        return {
            *(self.namespaces - before.namespaces),
            *(self.links - before.links),
            *(self.mounts - before.mounts),
            *(f"process {pid}" for pid in self.processes - before.processes),
        }


def look(ours: Callable[[int], bool]) -> Machine:
    """The machine now. `ours` says which processes count, and so whose network namespaces."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and ours(int(entry))]
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return Machine(
        frozenset(filter(None, map(namespace_of, pids))),
        frozenset(link["ifname"] for link in links if not link["ifname"].startswith(("veth", "br-", "docker"))),
        frozenset(mount for mount in mounts if "/docker/" not in mount),
        frozenset(pid for pid in pids if is_alive(pid)),
    )


def namespace_of(pid: int) -> str:
    """The network namespace of a process; empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def has_mark(mark: str) -> Callable[[int], bool]:
    """Whether a process has the mark in its environment: it, or who forked it, was started by this kill."""

    def ours(pid: int) -> bool:
        try:
            return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    return ours


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill: how many network namespaces the run had, how long they took to go, and what stayed."""

    namespaces: int
    gone_after_s: float
    left: set[str]


def kill_one(after_s: float, within_s: float, runs: Path, number: int) -> Killed:
    """Start a run, kill its harness `after_s` after the first sign of its services, and look."""
    mark = f"TORTURED={os.getpid()}-{number}"
    ours = has_mark(mark)
    before = look(ours)
    command = [sys.executable, "-m", "midsession", "run", str(SCENARIO), "--testbed", "netns", "--runs", str(runs)]
    environment = {**os.environ, **dict([mark.split("=", 1)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as harness:
        assert harness.stdout is not None
        for line in harness.stdout:
            if "started, pid" in line:
                break
        with suppress(subprocess.TimeoutExpired):  # a run that is over by then was not built, and is not counted
            harness.wait(after_s)
        built = len(look(ours).namespaces - {namespace_of(os.getpid())})
        harness.kill()
        harness.wait()
        began = time.monotonic()
        left = set[str]()

        def is_clean() -> bool:
            nonlocal left
            left = look(ours).left_over(before)
            return not left

        with suppress(AssertionError):  # what is left is counted, and told in the end
            eventually(is_clean, within_s, "nothing left", pause_s=0)  # a look takes a while itself
        return Killed(built, time.monotonic() - began, left)


def torture(kills: int, within_s: float, seed: int = 1) -> Iterator[Killed]:
    """Kill that many runs at moments drawn from the seed."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as runs:
        for number in range(kills):
            yield kill_one(draw.uniform(0.0, MOST_S), within_s, Path(runs), number)


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    within_s = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    done = list(torture(kills, within_s))
    built = sum(one.namespaces > HOSTS for one in done)
    slow = sorted(one.gone_after_s for one in done)
    unclean = [one for one in done if one.left]
    for one in unclean:
        print(f"left: {sorted(one.left)}")  # noqa: T201 - a command's own output
    median, most = slow[len(slow) // 2] * 1e3, slow[-1] * 1e3
    print(  # noqa: T201 - as above
        f"{kills} kills, {built} of runs that were fully built; {len(unclean)} left something after {within_s:g} s; "
        f"gone after {median:.0f} ms in the median, {most:.0f} ms at most (a look takes a part of that)"
    )
    return int(bool(unclean) or built < 0.9 * kills)


if __name__ == "__main__":
    sys.exit(main())
