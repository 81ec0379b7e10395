"""What a run's project costs on Docker, beside plain Compose with the same containers.

    python benchmarks/docker_project.py [ROUNDS]

Up: from the order to every agent answering (ours), or to `docker compose up --wait` being over (plain Compose). Down:
until nothing is left. Again: from the end of a run to every agent answering in the next, in a project that is kept.
Rounds are interleaved, because the machine is shared: only the ratios mean anything. Goals: up and down at most 1.3
times plain Compose; again at most 300 ms. Then what the first run of a command pays besides. Needs an engine and the
images (`make images`).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from midsession.agent.protocol import Finish
from midsession.core.plan import ClientPlan, GroupPlan, Plan, ReferenceService
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import compose_command
from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.workshop import Workshop

SIZES = (1, 4, 10)


class Nobody:
    """An inbox for agents that have nothing to say."""

    def records(self, batch: object) -> None:
        """Not expected."""

    def gone(self, host: str, why: str) -> None:
        """An agent that goes makes the next request fail."""

    def note(self, text: str) -> None:
        """Not expected."""


def plan_of(clients: int) -> Plan:
    """One service, one group with a client for each container."""
    people = [ClientPlan(n + 1, 0.0, "00") for n in range(clients)]
    group = GroupPlan("clients", "server", 4000, [], people)
    return Plan("cost", "cost", 1, 10.0, [ReferenceService(name="server", port=4000)], [group], [], [])


async def ours(clients: int, state: Path) -> dict[str, float]:
    """Up, again and down of one project, in seconds; on a testbed of its own, which has had its first run."""
    testbed = DockerTestbed(fleets=max(SIZES), state=state)
    try:
        opening = await first(state)
        await one_run(testbed, 0)
        up = await one_run(testbed, clients)
        again = await one_run(testbed, clients)
        (project,) = [live for live in testbed.kept if len(live.hosts) == 1 + clients]
        began = time.perf_counter()
        await project.remove()
        down = time.perf_counter() - began
        testbed.kept.remove(project)
        return {"first": opening, "up": up, "again": again, "down": down}
    finally:
        await testbed.shut()


async def first(state: Path) -> float:
    """What the first run of a command pays besides: the sweep, the reaper, the look for Compose. In seconds."""
    began = time.perf_counter()
    workshop = await Workshop.open(Journal(state))
    took = time.perf_counter() - began
    workshop.close()
    return took


async def one_run(testbed: DockerTestbed, clients: int) -> float:
    """How long it takes until the hosts of a run are there, in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("events", "logs"):
            Path(scratch, folder).mkdir()
        began = time.perf_counter()
        await testbed.open(plan_of(clients), "cost", Path(scratch), Nobody())
        hosts = [*testbed.services.values(), *testbed.fleets]
        took = time.perf_counter() - began
        assert len(hosts) == 1 + clients
        for host in hosts:
            await host.ask(Finish(id=0))
        await testbed.close()
        return took


def plain(clients: int, network: int) -> dict[str, float]:
    """The same containers under plain Compose; they wait for a conductor that never comes."""
    names = ["server", *(f"client-{n + 1}" for n in range(clients))]
    waiting = {"entrypoint": ["sleep", "infinity"], "init": True, "networks": ["data"], "read_only": True}
    services = {name: {"image": (SERVER_IMAGE, CLIENT_IMAGE)[name != "server"], **waiting} for name in names}
    subnet = {"ipam": {"config": [{"subnet": f"10.214.{network}.0/27"}]}, "internal": True}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "compose.json")
        file.write_text(json.dumps({"services": services, "networks": {"data": subnet}}))
        compose = [*compose_command(), "--project-name", f"midsession-cost-{network}", "--file", str(file)]
        began = time.perf_counter()
        subprocess.run([*compose, "up", "--detach", "--wait"], check=True, capture_output=True)
        up = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([*compose, "down", "--timeout", "1"], check=True, capture_output=True)
        return {"up": up, "down": time.perf_counter() - began}


async def main(rounds: int) -> None:
    """Interleaved rounds, then medians with their extremes."""
    with tempfile.TemporaryDirectory() as state:
        openings = []
        for clients in SIZES:
            pairs = [(await ours(clients, Path(state)), plain(clients, n)) for n in range(rounds)]
            openings += [p[0]["first"] for p in pairs]
            for what in ("up", "again", "down"):
                mine, theirs = [p[0][what] for p in pairs], [p[1][what.replace("again", "up")] for p in pairs]
                ratio = statistics.median(mine) / statistics.median(theirs)
                beside = f"plain {'up' if what == 'again' else what} {_spread(theirs)}"
                sys.stdout.write(f"1+{clients:<3}{what:6} ours {_spread(mine)}  {beside}  ÷ {ratio:.2f}\n")
        sys.stdout.write(f"the first run of a command besides: {_spread(openings)}\n")


def _spread(seconds: list[float]) -> str:
    ms = [round(1000 * s) for s in seconds]
    return f"{round(statistics.median(ms)):5} ms ({min(ms)}–{max(ms)})"


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
