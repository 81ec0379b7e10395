"""Run a scenario on netns and print, as JSON, what a machine's links, rules and mounts were before, during and after.

To be run as root of a network namespace of its own, see `test_netns`: with the folder of the runs, and the scenario.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

from midsession.core.record import Event, Record
from midsession.language import plans
from midsession.runner import Listener, run_plan
from midsession.testbeds.netns.testbed import NetnsTestbed

LOOKS = (
    ["ip", "-j", "link"],
    ["ip", "-j", "address"],
    ["ip", "-j", "route"],
    ["nft", "list", "ruleset"],
    ["iptables-save"],
    ["tc", "qdisc", "show"],
)
MADE = (
    ["ip", "link", "add", "br9", "type", "bridge"],
    ["tc", "qdisc", "add", "dev", "br9", "root", "tbf", "rate", "7mbit", "burst", "10kb", "latency", "10ms"],
    ["iptables", "-A", "INPUT", "-s", "192.0.2.9", "-j", "DROP"],
)
"""What the machine has of its own, besides `RULES`."""
RULES = 'table inet t { chain c { type filter hook input priority 0; accept comment "rule-of-the-machine"; }; }'


def look() -> dict[str, str]:
    """The machine's state, by the command that shows it."""
    shown = {" ".join(c): subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in LOOKS}
    shown["iptables-save"] = re.sub("(?m)^#.*\\n", "", shown["iptables-save"])  # it begins with the time of day
    return shown | {"mounts": "\n".join(mounts())}


def mounts() -> list[str]:
    """All mounts but those of other tests' containers, which come and go as they please."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not re.search(r" /(run|var/run|var/lib)/docker/", line)]


class Looker(Listener):
    """Looks at each phase of a run, and while its faults are in force."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, str]] = {}

    def on_phase(self, phase: str) -> None:
        self.seen[phase] = look()

    def on_record(self, record: Record) -> None:
        if record.event == Event.EFFECTIVE:
            self.seen[record.event] = look()


async def perform(runs: Path, scenario: Path, looker: Looker) -> None:
    testbed = NetnsTestbed()
    try:
        await run_plan(plans(scenario, 1)[0], testbed, runs, looker)
    finally:
        await testbed.shut()


def main() -> None:
    for command in MADE:
        subprocess.run(command, check=True)
    subprocess.run(["nft", "-f", "-"], input=RULES, text=True, check=True)
    looker = Looker()
    before = look()
    asyncio.run(perform(Path(sys.argv[1]), Path(sys.argv[2]), looker))
    json.dump({"before": before, **looker.seen, "after": look()}, sys.stdout)


if __name__ == "__main__":
    main()
