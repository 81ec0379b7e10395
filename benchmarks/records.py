"""What a durable record costs: `python -m benchmarks.records`.

Ours is one `write(2)` of one whole line with its checksum, on a real file, as the programs do it. Beside it runs what
it is measured against: `json.dumps` of the same record to a buffered file, which a SIGKILL would empty. Rounds are
interleaved and only their ratios are judged; the noise line is the same json round against itself.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from midsession.core.record import Header, Log

ROUNDS, RECORDS = 100, 4000
HEADER = Header(run="r", host="server", writer="program", incarnation=1, pid=1, clock="c", seed=1, plan="p")
TEXT = "Hi from client 12, message 1234 👋\n"


def _durable(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
    log = Log(HEADER, partial(os.write, descriptor), time.monotonic_ns)
    for _ in range(RECORDS):
        log.append("received", "talkers-12", 3, {"bytes": 37, "text": TEXT})
    log.close()
    os.close(descriptor)


def _batched(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
    log = Log(HEADER, partial(os.write, descriptor), time.monotonic_ns)
    for _ in range(RECORDS // 2):
        now = time.monotonic_ns()
        log.add("received", "talkers-12", 3, {"bytes": 37, "text": TEXT}, now)
        log.add("sent", "talkers-12", 3, {"bytes": 37, "text": TEXT}, now)
        log.flush()
    log.close()
    os.close(descriptor)


def _buffered_json(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(RECORDS):
            record = {
                "event": "received",
                "seq": number,
                "t_ns": time.monotonic_ns(),
                "client": "talkers-12",
                "connection": 3,
                "fields": {"bytes": 37, "text": TEXT},
            }
            file.write(json.dumps(record) + "\n")


def _seconds(work: Callable[[Path], None], path: Path) -> float:
    began = time.process_time()  # user and system: what others do on the machine is not ours to measure
    work(path)
    return time.process_time() - began


def main() -> None:
    """Run all rounds and print the table."""
    contestants = {
        "json.dumps, buffered (noise)": _buffered_json,
        "Log.append: a write each": _durable,
        "Log.add twice, flush": _batched,
    }
    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(ROUNDS):
            peer = _seconds(_buffered_json, Path(directory, "peer"))
            for name, work in contestants.items():
                ratios[name].append(peer / _seconds(work, Path(directory, "ours")))
    print("times faster than json.dumps to a buffered file: median (5th … 95th percentile)")  # noqa: T201 -- its result
    for name, values in ratios.items():
        low, *_, high = statistics.quantiles(values, n=20)
        print(f"{name:30} {statistics.median(values):5.2f} ({low:.2f} … {high:.2f})")  # noqa: T201 -- its result


if __name__ == "__main__":
    main()
