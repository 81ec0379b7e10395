"""How fast an agent is: start to hello, a program's write to the conductor's read, a kill.

    python benchmarks/agent_latency.py [--rounds 5]

Prints one line per quantity: median and 99th percentile over all rounds, beside a noise probe that is measured in the
same rounds: one byte to a child process and back through pipes. Only the ratio to the probe means anything on a shared
machine. The conductor here is bare (blocking reads on the agent's pipe), so that it is the agent that is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from midsession.agent.protocol import (
    Configure,
    Hello,
    Kill,
    Records,
    Reply,
    Request,
    Shutdown,
    Start,
    Subscribe,
    decode_from_agent,
    encode,
)
from midsession.core.record import Record, decode_line

ROOT = Path(__file__).parent.parent
SPARSE = 200
BUSY = 200
PROGRAM = """
import os, sys, time, msgspec
from midsession.core.record import Header, Log
header = msgspec.convert({**msgspec.json.decode(os.environ["MIDSESSION_HEADER"]), "pid": os.getpid()}, Header)
fd = os.open(os.environ["MIDSESSION_EVENT_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
log = Log(header, lambda line: os.write(fd, line), time.monotonic_ns)
busy, marks = sys.argv[1] == "busy", int(sys.argv[2])
for n in range(marks):
    if busy:
        for _ in range(100): log.append("sent", client="a-1", fields={"n": n})
    else:
        time.sleep(0.003)
    log.append("mark", client="a-1", fields={"n": n})
log.append("done")
while True: log.append("sent", client="a-1")
"""


class Agent:
    """An agent on pipes, and a conductor that blocks."""

    def __init__(self, directory: Path) -> None:
        began_ns = time.monotonic_ns()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "midsession.agent", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.arrivals: list[tuple[Record, int]] = []
        self._last_id = 0
        assert isinstance(self._next(), Hello)
        self.start_ns = time.monotonic_ns() - began_ns
        self.ask(Configure(id=0, run="r", host="h", seed=1, plan="p", directory=str(directory)))
        self.ask(Subscribe(id=0, events=["mark", "done", "exited"]))

    def ask(self, request: Request) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._last_id += 1
        self._process.stdin.write(encode(msgspec.structs.replace(request, id=self._last_id)) + b"\n")
        self._process.stdin.flush()
        while True:
            message = self._next()
            if isinstance(message, Reply):
                assert message.error is None, message.error
                return message.value

    def wait_for(self, event: str) -> int:
        """When the record of that event arrived."""
        while not (found := [arrived for record, arrived in self.arrivals if record.event == event]):
            self._next()
        return found[0]

    def end(self) -> None:
        self.ask(Shutdown(id=0))
        self._process.wait(10)

    def _next(self) -> Hello | Reply | Records:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        now = time.monotonic_ns()
        message: Hello | Reply | Records = decode_from_agent(line)
        if isinstance(message, Records):
            self.arrivals += [(decode_line(bytes(raw), "h", message.writer, 1), now) for raw in message.records]
        return message


def probe(times: int) -> list[int]:
    """A byte to another Python process and back."""
    echo = "import os\nwhile data := os.read(0, 1): os.write(1, data)"
    with subprocess.Popen([sys.executable, "-c", echo], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        found = []
        for _ in range(times + 1):
            began = time.monotonic_ns()
            os.write(process.stdin.fileno(), b"x")
            os.read(process.stdout.fileno(), 1)
            found.append(time.monotonic_ns() - began)
        process.stdin.close()
    return found[1:]  # the first one waits for the interpreter


def measure(seen: dict[str, list[int]], kind: str, marks: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="midsession-bench-"))
    agent = Agent(directory)
    try:
        seen["start to hello"].append(agent.start_ns)
        agent.ask(Start(id=0, argv=[sys.executable, "-c", PROGRAM, kind, str(marks)]))
        agent.wait_for("done")
        seen[f"write to read, {kind} writer"] += [
            arrived - record.t_ns for record, arrived in agent.arrivals if record.event == "mark"
        ]
        asked = time.monotonic_ns()
        value = agent.ask(Kill(id=0, fault="crash"))
        seen["kill: asked to before the call"].append(value["began_ns"] - asked)
        seen["kill: asked to after the call"].append(value["t_ns"] - asked)
        seen["kill: asked to exited read"].append(agent.wait_for("exited") - asked)
    finally:
        agent.end()
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast an agent is.")
    parser.add_argument("--rounds", type=int, default=5)
    seen: dict[str, list[int]] = defaultdict(list)
    for _ in range(parser.parse_args().rounds):
        seen["noise probe: byte there and back"] += probe(SPARSE)
        measure(seen, "sparse", SPARSE)
        measure(seen, "busy", BUSY)
    probe_us = statistics.median(seen["noise probe: byte there and back"]) / 1000
    for name, values in seen.items():
        low, high = statistics.median(values) / 1000, sorted(values)[int(len(values) * 0.99)] / 1000
        sys.stdout.write(
            f"{name:36} n={len(values):5}  median {low:9.0f} µs ({low / probe_us:6.1f} probes)  p99 {high:9.0f} µs\n"
        )


if __name__ == "__main__":
    main()
