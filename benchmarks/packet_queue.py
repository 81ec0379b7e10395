"""What the queue of packets does to datagrams, on the netns testbed: `python benchmarks/packet_queue.py [ROUNDS]`.

A neutral probe (midsession/calibration/probe.py) sends datagrams at a fixed pace, in bunches of a millisecond, for two
seconds; what arrives is measured one way. ROUNDS (5) of these, interleaved, without a queue beside each with one:

    5,000/s     no queue; 50 ms of delay
    20,000/s    no queue; through the queue, with nothing to do there (one of a million packets is chosen)

Per kind: median and worst of the rounds' errors (delay less what was asked, in ms) at the median and at the 99th
percentile, packets lost, packets that passed the queue unharmed because it was full, and what share of the asked pace
the probe itself kept.

The goals: 50 ms to within 1 ms in the median and 5 ms at p99; at 20,000/s no packet lost or unharmed. The machine's
load is printed with it: the probe is delayed by it just as the queue is, which the rounds without a queue show.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass

from midsession.calibration import Case, Outcome, calibrate
from midsession.testbeds.netns.testbed import NetnsTestbed

ROUNDS = 5
SECONDS = 2


@dataclass(frozen=True)
class Kind:
    """One kind of round: its pace, its fault, the delay that was asked for."""

    name: str
    per_s: int
    verb: str
    fields: str
    asked_ms: float

    def case(self) -> Case:
        """As the calibration runs it."""
        source = ("source", str(self.per_s * SECONDS), str(1 / self.per_s))
        return Case(self.name, self.verb, self.fields, source, ())


KINDS = (
    Kind("5,000/s no queue", 5_000, "", "", 0),
    Kind("5,000/s 50 ms", 5_000, "delay", "latency: 50ms, direction: to", 50),
    Kind("20,000/s no queue", 20_000, "", "", 0),
    Kind("20,000/s queue", 20_000, "reorder", "every: 1000000, direction: to", 0),
)


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    cases = [kind.case() for _ in range(rounds) for kind in KINDS]
    calibrate(NetnsTestbed(), cases, lambda outcome: found[outcome.case.name].append(outcome))
    say = sys.stdout.write
    say(f"{'error in ms: median (worst)':<28}{'p50':>16}{'p99':>16}{'lost':>8}{'unharmed':>10}{'pace':>7}\n")
    for kind in KINDS:
        say(row(kind, found[kind.name]))
    say(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {rounds} rounds\n")


def row(kind: Kind, outcomes: list[Outcome]) -> str:
    """One kind's line."""
    empty = [outcome.why for outcome in outcomes if not outcome.measured]
    assert not empty, empty
    cells = []
    for measure in ("p50_ms", "p99_ms"):
        errors = [outcome.measured[measure] - kind.asked_ms for outcome in outcomes]
        cells.append(f"{statistics.median(errors):.2f} ({max(errors):.2f})".rjust(16))
    lost = sum(round(outcome.measured["lost_share"] * outcome.measured["sent"]) for outcome in outcomes)
    unharmed = sum(outcome.measured["overrun"] for outcome in outcomes)
    pace = statistics.median(outcome.measured["sent_per_s"] for outcome in outcomes) / kind.per_s
    return f"{kind.name:<28}{''.join(cells)}{lost:>8}{unharmed:>10.0f}{pace:>7.0%}\n"


if __name__ == "__main__":
    main()
