"""How long a fault takes, from the request to its effect: `python benchmarks/faults.py [ROUNDS [TESTBED]]`.

Each fault's scenario in scenarios/faults/ is run ROUNDS times (5) on TESTBED (netns). Per fault, the median in
milliseconds:

    lag      from the record that fired the step to the begin of the call that breaks something
    call     how long that call took
    effect   from the begin of the call to the agent's witness: the first packet dropped, the link down, the exit
    client   from the begin of the call to the first connection that a client lost; none where clients hear silence

The goals: an effect in under 10 ms on netns and 30 ms on docker where traffic runs all the time; a witness by counter
cannot come before a packet meets the rule, and clients here send every 5 to 10 ms.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from midsession.door import Bench, Run
from midsession.faults import FAULTS
from midsession.language import plans
from midsession.testbeds.registry import make

SCENARIOS = Path(__file__).parents[1] / "scenarios" / "faults"
ROUNDS = 5


def times(run: Run, verb: str) -> dict[str, float]:
    """One run's times, in ms."""
    story = next(s for s in run.history.steps.values() if s.verb == verb)
    assert story.injected is not None, run.directory
    began_ns = story.injected.fields["began_ns"]
    found = {"call": (story.injected.t_ns - began_ns) / 1e6}
    if story.cause:
        found["lag"] = (began_ns - story.cause["t_ns"]) / 1e6
    if (witness := run.history.find(story.witness)) is not None:
        found["effect"] = (witness.t_ns - began_ns) / 1e6
    if (loss := run.events("lost").since(began_ns).first) is not None:
        found["client"] = (loss.t_ns - began_ns) / 1e6
    return found


async def measure(rounds: int, testbed: str) -> dict[str, list[dict[str, float]]]:
    """All faults, interleaved, on one warm testbed."""
    found: dict[str, list[dict[str, float]]] = {verb: [] for verb in FAULTS}
    with tempfile.TemporaryDirectory() as runs:
        bench = Bench(make(testbed), Path(runs))
        try:
            for seed in range(rounds):
                for verb in FAULTS:
                    (plan,) = plans(SCENARIOS / f"{verb}.scenario.yaml", seed)
                    found[verb].append(times(await bench.perform(plan), verb))
        finally:
            await bench.shut()
    return found


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    testbed = sys.argv[2] if len(sys.argv) > 2 else "netns"
    columns = ("lag", "call", "effect", "client")
    lines = [f"{'ms (median)':12}" + "".join(f"{column:>9}" for column in columns)]
    for verb, runs in asyncio.run(measure(rounds, testbed)).items():
        cells = []
        for column in columns:
            values = [run[column] for run in runs if column in run]
            cells.append(f"{statistics.median(values):9.2f}" if values else f"{'-':>9}")
        lines.append(f"{verb:12}" + "".join(cells))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
