"""How long does a question over many records take, from bytes on disk to the answer?

    python -m benchmarks.history [--records 1000000] [--rounds 3]

The question: for each client, the first loss after the kill. Our way (chain verified, every record decoded, merged over
all hosts, then asked) stands beside a plain loop of the standard library's json over the same bytes, which verifies
nothing. Rounds are interleaved, because a shared machine's speed varies; only the ratio means anything. Each way runs
in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from midsession.core.history import History
from midsession.core.logfile import read_log
from midsession.core.plan import At, ClientPlan, End, GroupPlan, Plan, ReferenceService, Step
from midsession.core.record import Header, Log, event_file_name

CLIENTS = 1000
FLEETS = 4
KILL_NS = 500_000_000_000


def the_plan() -> Plan:
    """A thousand talkers, one kill."""
    group = GroupPlan("talkers", "server", 4000, [End()], [ClientPlan(n + 1, 0.0, "00") for n in range(CLIENTS)])
    step = Step("crash", At(at_s=500.0), "kill", {"target": "server"})
    return Plan("bench", "bench", 1, 60.0, [ReferenceService(name="server", port=4000)], [group], [step], [])


def write_run(directory: Path, records: int) -> None:
    """A run's files: talk, one loss per client after the kill, more talk."""
    per_fleet = records // FLEETS
    for fleet in range(1, FLEETS + 1):
        with _Writer(directory, f"client-{fleet}", "program") as log:
            clients = [f"talkers-{n}" for n in range(fleet, CLIENTS + 1, FLEETS)]
            for i in range(per_fleet):
                _talk(log, clients, i, i * (1_000_000_000_000 // per_fleet), per_fleet)
    with _Writer(directory, "server", "agent") as log:
        log.append("injected", fields={"fault": "crash", "verb": "kill", "began_ns": KILL_NS}, t_ns=KILL_NS + 1000)
    with _Writer(directory, "conductor", "conductor") as log:
        log.append("triggered", fields={"step": "crash", "verb": "kill"}, t_ns=KILL_NS - 1000)


def _talk(log: Log, clients: list[str], i: int, t_ns: int, per_fleet: int) -> None:
    client = clients[i % len(clients)]
    if 0 <= i - per_fleet // 2 - 10 < len(clients):
        log.append("lost", client, 1, {"how": "eof"}, t_ns)
    elif i % 3 == 0:
        log.append("sent", client, 1, {"n": i, "bytes": 40, "text": f"Hi from client {i % 7}, message {i} 👋"}, t_ns)
    elif i % 3 == 1:
        log.append("received", client, 1, {"bytes": 24, "text": "Got your message ✅\n"}, t_ns)
    else:
        log.append("replied", client, 1, {"n": i, "text": "Got your message ✅", "rtt_ns": 123456}, t_ns)


class _Writer:
    def __init__(self, directory: Path, host: str, writer: str) -> None:
        header = Header(
            run="r", host=host, writer=writer, incarnation=1, pid=1, clock="c", seed=1, plan=the_plan().hash
        )
        self._file = (directory / event_file_name(host, writer, 1)).open("wb")
        self.log = Log(header, self._file.write, lambda: 0)

    def __enter__(self) -> Log:
        return self.log

    def __exit__(self, *_: object) -> None:
        self.log.close()
        self._file.close()


def ours(directory: Path) -> dict[str, int]:
    """Verify, decode, merge, ask."""
    files = {path.name: read_log(path.read_bytes()) for path in sorted(directory.glob("*.jsonl"))}
    history = History.of(the_plan(), files)
    lost = history.events("lost").of("talkers").since("crash").by_client()
    return {client: selection[0].t_ns for client, selection in lost.items()}


def json_loop(directory: Path) -> dict[str, int]:
    """The loop that one would write."""
    records = []
    for path in sorted(directory.glob("*.jsonl")):
        with path.open() as lines:
            records += [record for line in lines if "event" in (record := json.loads(line))]
    records.sort(key=lambda r: r["t_ns"])
    kill_ns = next(r["fields"]["began_ns"] for r in records if r["event"] == "injected")
    first: dict[str, int] = {}
    for r in records:
        if r["event"] == "lost" and r["t_ns"] >= kill_ns:
            first.setdefault(r["client"], r["t_ns"])
    return first


WAYS = {"ours": ours, "json": json_loop}


def one(way: str, directory: Path) -> None:
    """One round of one way, in this process: print seconds, peak MiB and the number of answers."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    answer = WAYS[way](directory)
    took_s = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([took_s, peak / 1024, len(answer), before / 1024]))  # noqa: T201 - its only output


def main() -> None:
    """Interleaved rounds, medians, the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_run(directory, args.records)
        rounds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way in WAYS:
                code = f"from pathlib import Path; from benchmarks.history import one; one({way!r}, Path({folder!r}))"
                rounds[way].append(
                    json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
                )
        _report(args.records, rounds)


def _report(records: int, rounds: dict[str, list[list[float]]]) -> None:
    for way, all_rounds in rounds.items():
        seconds = [r[0] for r in all_rounds]
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        line = f"{way:5} {statistics.median(seconds):6.2f} s ({spread})  peak {max(r[1] for r in all_rounds):5.0f} MiB"
        print(f"{line}  {all_rounds[0][2]:.0f} answers over {records} records")  # noqa: T201 - the report
    ratio = statistics.median(j[0] / o[0] for j, o in zip(rounds["json"], rounds["ours"], strict=True))
    print(f"json / ours: {ratio:.2f}")  # noqa: T201 - the report


if __name__ == "__main__":
    main()
