"""What a run's project costs on Docker, beside plain Compose.

    python benchmarks/docker_project.py [ROUNDS] [own|images]

`own`: our own programs, each in the container of its agent, beside plain Compose with the same containers. `images`:
programs by `image:`, each in a container of its own that joins its agent's, so twice as many containers; beside plain
Compose with the same ones (`same`), and with nothing but the programs, as one would have without agents (`programs`).

Up: from the order to every agent answering and every container made (ours), or to `docker compose up --wait` being over
(plain Compose). Run, of images: until every program has been started, too, as it has under plain Compose; no run starts
its programs all at once, so that is the harshest comparison. Down: until nothing is left. Again, run again: the same
from the end of a run, in a project that is kept. Rounds are interleaved, because the machine is shared: only the ratios
mean anything. Goals: up, run and down at most 1.3 times plain Compose with the same containers; again at most 300 ms.
Then what the first run of a command pays besides. Needs an engine and the images (`make images`).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from midsession.agent.protocol import Finish, Start
from midsession.core.plan import ClientPlan, GroupPlan, ImageService, Plan, Program, ReferenceService
from midsession.testbeds import Host
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import compose_command
from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.workshop import Workshop

SIZES = (1, 4, 10)
IMAGE = "midsession-cost:program"
DOCKERFILE = f'FROM {SERVER_IMAGE}\nENTRYPOINT ["sleep", "infinity"]\n'

Times = dict[str, float]
"""What took how long, in seconds."""


class Nobody:
    """An inbox for agents that have nothing to say."""

    def records(self, batch: object) -> None:
        """Not expected."""

    def gone(self, host: str, why: str) -> None:
        """An agent that goes makes the next request fail."""

    def note(self, text: str) -> None:
        """Not expected."""


def plan_of_own(clients: int) -> Plan:
    """One service, one group with a client for each container."""
    return _plan(ReferenceService(name="server", port=4000), clients, None)


def plan_of_images(clients: int) -> Plan:
    """The same, of images."""
    return _plan(ImageService(name="server", port=4000, image=IMAGE), clients, Program(image=IMAGE))


def _plan(service: Any, clients: int, program: Program | None) -> Plan:
    people = [ClientPlan(n + 1, 0.0, "00") for n in range(clients)]
    group = GroupPlan("clients", "server", 4000, [], people, program=program)
    return Plan("cost", "cost", 1, 60.0, [service], [group], [], [])


# --- ours ----------------------------------------------------------------------------------------------------------


async def ours(plan_of: Callable[[int], Plan], clients: int, state: Path) -> Times:
    """One project, on a testbed of its own, which has had its first run."""
    testbed = DockerTestbed(fleets=max(SIZES), state=state)
    try:
        times = {"first": await first(state)}
        await one_run(testbed, plan_of_own(0))
        times |= await one_run(testbed, plan_of(clients))
        times |= {f"{what} again": took for what, took in (await one_run(testbed, plan_of(clients))).items()}
        (project,) = testbed.kept[-1:]
        times["down"] = await _timed(project.remove())
        testbed.kept.remove(project)
        return times
    finally:
        await testbed.shut()


async def first(state: Path) -> float:
    """What the first run of a command pays besides: the sweep, the reaper, the look for Compose. In seconds."""
    began = time.perf_counter()
    workshop = await Workshop.open(Journal(state))
    took = time.perf_counter() - began
    workshop.close()
    return took


async def one_run(testbed: DockerTestbed, plan: Plan) -> Times:
    """How long it takes until the hosts of a run are there, and until the programs by image have been started."""
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("events", "logs"):
            Path(scratch, folder).mkdir()
        up = await _timed(testbed.open(plan, "cost", Path(scratch), Nobody()))
        hosts = [*testbed.services.values(), *testbed.foreign.values(), *testbed.fleets]
        assert len(hosts) == 1 + len(plan.groups[0].clients)
        times = {"up": up}
        if isinstance(plan.services[0], ImageService):
            times["run"] = up + await _timed(_started(hosts))
        await asyncio.gather(*(host.ask(Finish(id=0)) for host in hosts))
        await testbed.close()
        return times


async def _started(hosts: Sequence[Host]) -> None:
    await asyncio.gather(*(host.ask(Start(id=0, argv=[])) for host in hosts))


async def _timed(doing: Awaitable[None]) -> float:
    began = time.perf_counter()
    await doing
    return time.perf_counter() - began


# --- plain Compose -------------------------------------------------------------------------------------------------

WAITING: Mapping[str, Any] = {"entrypoint": ["sleep", "infinity"], "init": True}


def own_containers(clients: int) -> dict[str, Any]:
    """Those of our own programs; they wait for a conductor that never comes."""
    return {
        name: {"image": (SERVER_IMAGE, CLIENT_IMAGE)[name != "server"], "read_only": True, "networks": ["data"]}
        for name in _names(clients)
    }


def same_containers(clients: int) -> dict[str, Any]:
    """Those of programs by image, and those of their agents."""
    programs = {f"{n}.program": {"image": IMAGE, "network_mode": f"service:{n}"} for n in _names(clients)}
    return own_containers(clients) | programs


def programs_alone(clients: int) -> dict[str, Any]:
    """Those of programs by image, each on the network by itself."""
    return {name: {"image": IMAGE, "networks": ["data"]} for name in _names(clients)}


def _names(clients: int) -> list[str]:
    return ["server", *(f"client-{n + 1}" for n in range(clients))]


def plain(services: Mapping[str, Any], network: int) -> Times:
    """These containers up and down under plain Compose."""
    model = {
        "services": {name: {**service, **WAITING} for name, service in services.items()},
        "networks": {"data": {"ipam": {"config": [{"subnet": f"10.214.{network}.0/27"}]}, "internal": True}},
    }
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "compose.json")
        file.write_text(json.dumps(model))
        compose = [*compose_command(), "--project-name", f"midsession-cost-{network}", "--file", str(file)]
        began = time.perf_counter()
        subprocess.run([*compose, "up", "--detach", "--wait"], check=True, capture_output=True)
        up = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([*compose, "down", "--timeout", "1"], check=True, capture_output=True)
        return {"up": up, "run": up, "down": time.perf_counter() - began}


# --- the table -----------------------------------------------------------------------------------------------------

KINDS: Mapping[str, tuple[Callable[[int], Plan], Mapping[str, Callable[[int], dict[str, Any]]]]] = {
    "own": (plan_of_own, {"same": own_containers}),
    "images": (plan_of_images, {"same": same_containers, "programs": programs_alone}),
}
"""How a plan is made, and beside which containers under plain Compose."""


async def main(rounds: int, kinds: Sequence[str]) -> None:
    """Interleaved rounds, then medians with their extremes."""
    openings: list[float] = []
    with tempfile.TemporaryDirectory() as state, _image():
        for kind in kinds:
            plan_of, peers = KINDS[kind]
            for clients in SIZES:
                mine, theirs = [], {name: list[Times]() for name in peers}
                for n in range(rounds):
                    mine.append(await ours(plan_of, clients, Path(state)))
                    for name, containers in peers.items():
                        theirs[name].append(plain(containers(clients), n))
                openings += [times.pop("first") for times in mine]
                for line in _lines(mine, theirs):
                    sys.stdout.write(f"{kind:7}1+{clients:<3}{line}\n")
                sys.stdout.flush()
    sys.stdout.write(f"the first run of a command besides: {_spread(openings)}\n")


@contextmanager
def _image() -> Iterator[None]:
    """A small image of a program that does nothing."""
    build = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(build, input=DOCKERFILE.encode(), check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "rmi", IMAGE], check=True, capture_output=True)


def _lines(mine: Sequence[Times], theirs: Mapping[str, Sequence[Times]]) -> Iterator[str]:
    """A line for everything that was measured, with what plain Compose took for it."""
    for what in mine[0]:
        took = [times[what] for times in mine]
        beside = {name: [times[what.removesuffix(" again")] for times in all_] for name, all_ in theirs.items()}
        peers = [
            f"plain, {name} {_spread(all_)} ÷ {statistics.median(took) / statistics.median(all_):.2f}"
            for name, all_ in beside.items()
        ]
        yield "   ".join([f"{what:10} ours {_spread(took)}", *peers])


def _spread(seconds: list[float]) -> str:
    ms = [round(1000 * s) for s in seconds]
    return f"{round(statistics.median(ms)):5} ms ({min(ms)}–{max(ms)})"


if __name__ == "__main__":
    words = sys.argv[1:]
    chosen = [kind for kind in KINDS if kind in words] or list(KINDS)
    asyncio.run(main(next((int(word) for word in words if word.isdecimal()), 5), chosen))
