"""Round trips a second of the fleet beside a bare uvloop client and a C client on raw epoll (the limit).

    python -m benchmarks.fleet [--rounds N] [--seconds S]

One uvloop echo server on core 0, one client after the other on core 1, 64-byte lines, ping-pong on 100 and on 1,000
connections. The fleet runs its whole session machine (`repeat: [send, expect]`) and writes every record (`sent`,
`received`, `replied`) to a file before it goes on. Rounds are interleaved, because the machine is shared: only ratios
within a round mean anything, and the spread says how far. Under a minute with the defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from midsession.core import plan as p
from midsession.core.job import READY_LINE, Go, Job
from midsession.core.logfile import LogState, read_log

Contestant = Callable[[int, int, float], float]
_HERE = Path(__file__).parent
_HEADER = {"run": "b", "host": "h", "writer": "program", "incarnation": 1, "clock": "c", "seed": 1, "plan": "x"}


def on_core(core: int, argv: list[str]) -> list[str]:
    """Pinned, where the machine has that many cores and a `taskset`."""
    enough = (os.cpu_count() or 1) > core
    return ["taskset", "-c", str(core), *argv] if enough else argv


@contextmanager
def server() -> Iterator[int]:
    """An echo server; yields its port."""
    argv = on_core(0, [sys.executable, "-m", "benchmarks.fleet.peers", "server"])
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def counted(argv: list[str]) -> float:
    """Round trips a second, from a client that prints count and seconds."""
    out = subprocess.run(on_core(1, argv), capture_output=True, check=True, timeout=60).stdout.split()
    return int(out[0]) / float(out[1])


def limit(directory: Path) -> Contestant:
    """The C client, compiled here."""
    binary = directory / "limit"
    subprocess.run(["cc", "-O2", "-o", binary, _HERE / "limit.c"], check=True)
    return lambda port, connections, seconds: counted([str(binary), str(port), str(connections), str(seconds)])


def bare(port: int, connections: int, seconds: float) -> float:
    """The bare uvloop client."""
    argv = [sys.executable, "-m", "benchmarks.fleet.peers", "client"]
    return counted([*argv, str(port), str(connections), str(seconds)])


def fleet(port: int, connections: int, seconds: float) -> float:
    """The fleet as a run starts it, with every record written; counted from its own log, which must be complete."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "events.jsonl")
        job = Path(directory, "job.json")
        job.write_bytes(msgspec.json.encode(_job(port, connections, seconds)))
        environment = {**os.environ, "MIDSESSION_EVENT_FILE": str(log), "MIDSESSION_HEADER": json.dumps(_HEADER)}
        argv = on_core(1, [sys.executable, "-m", "client", "--job", str(job)])
        _play(argv, environment, connections)
        return _rate(log.read_bytes(), connections)


def _job(port: int, connections: int, seconds: float) -> Job:
    send = p.Send(p.Payload(text="x" * 63, line=True))
    script: list[p.Instruction] = [
        p.Barrier("all"),
        p.Repeat([send, p.Expect(5.0, line="x" * 63)], for_s=seconds),
        p.End(),
    ]
    clients = [p.ClientPlan(n, 0.0, p.substream(1, "client", str(n))) for n in range(1, connections + 1)]
    return Job(run="b", groups=[p.GroupPlan("talkers", "127.0.0.1", port, script, clients)])


def _play(argv: list[str], environment: dict[str, str], connections: int) -> None:
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY_LINE.encode()
        process.stdin.write(msgspec.json.encode(Go(time.monotonic_ns())) + b"\n")
        process.stdin.flush()
        _wait_for_all(process.stdout, "mark", connections)
        process.stdin.write(b'{"order":"release","group":"talkers","name":"all"}\n')
        process.stdin.flush()
        _wait_for_all(process.stdout, "done", connections)


def _wait_for_all(account: Iterator[bytes], event: str, count: int) -> None:
    seen = 0
    for line in account:
        for word in line.decode().split():
            name, _, number = word.partition("=")
            if name == event and number.isdecimal():
                seen += int(number)
        seen += f": {event}" in line.decode()
        if seen >= count:
            return
    raise RuntimeError(f"the fleet ended with {seen} of {count} {event}")


def _rate(data: bytes, connections: int) -> float:
    found = read_log(data)
    assert found.state is LogState.COMPLETE, found.why
    replies = [record.t_ns for record in found.records if record.event == "replied"]
    assert len(replies) > connections
    return len(replies) / ((replies[-1] - replies[0]) / 1e9)


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=4)
    asked.add_argument("--seconds", type=float, default=1.0)
    asked.add_argument("--connections", type=int, nargs="*", default=[100, 1000])
    options = asked.parse_args()
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {
            "C epoll": limit(Path(stack.enter_context(tempfile.TemporaryDirectory()))),
            "bare uvloop": bare,
            "fleet": fleet,
        }
        port = stack.enter_context(server())
        for connections in options.connections:
            rates: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(options.rounds):
                for name, contestant in contestants.items():
                    rates[name].append(contestant(port, connections, options.seconds))
            show(connections, rates)


def show(connections: int, rates: dict[str, list[float]]) -> None:
    """One line a contestant: median rate, and the ratio to each other one, round by round, with its spread."""
    for name, mine in rates.items():
        told = [f"{connections:>6} connections  {name:<12} {statistics.median(mine) / 1000:7.1f} k round trips/s"]
        for other, theirs in rates.items():
            if other != name and name == "fleet":
                ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
                told.append(f"{statistics.median(ratios):.2f} of {other} ({min(ratios):.2f}..{max(ratios):.2f})")
        sys.stdout.write("  ".join(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
