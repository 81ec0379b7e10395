"""Network faults on the docker testbed, and what its containers may do for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.calibration import CASES, calibrate
from midsession.core.plan import Plan
from midsession.door import Bench
from midsession.faults import FAULTS, build
from midsession.language import collect, plans
from midsession.runner import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.sweep import PROJECT
from tests.faults.test_contract import LIES, LOOKED_UP
from tests.faults.test_packets import perform as datagrams

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
SEED = 20260


def abilities(plan: Plan) -> set[str]:
    """What agents must be able to do for the plan's faults."""
    faults = [build(step.verb, step.args) for step in plan.timeline if step.verb in FAULTS]
    return {ability for fault in faults for ability in fault.abilities()}


def is_for_docker(plan: Plan) -> bool:
    """It breaks a network, and the docker testbed does not refuse it."""
    testbed = DockerTestbed()
    return bool(abilities(plan)) and not any(testbed.remedy_for(ability) for ability in abilities(plan))


BROKEN = [
    plan
    for path in collect([ROOT / "scenarios" / "faults"])
    for plan in plans(path.relative_to(ROOT), SEED)
    if is_for_docker(plan)
]
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


class Powers(Listener):
    """What each container of the run may do, and each process in it does have, while the clients talk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._directory = Path()
        self.containers: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, list[dict[str, str]]] = {}
        self.programs: dict[str, list[dict[str, str]]] = {}

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        self._directory = directory

    def on_phase(self, phase: str) -> None:
        if phase == "run":
            api = self._engine.api
            project = json.loads((self._directory / "compose.json").read_text())["name"]
            for found in api.containers(filters={"label": f"{PROJECT}={project}"}):
                name = found["Labels"]["com.docker.compose.service"]
                self.containers[name] = api.inspect_container(found["Id"])
                self.agents[name], self.programs[name] = [], []
                for pid, *words in api.top(found["Id"], "-eo pid,args")["Processes"]:
                    kind = self.agents if "midsession.agent" in " ".join(words) else self.programs
                    kind[name].append(status(int(pid)))


def status(pid: int) -> dict[str, str]:
    """What /proc says of a process of this machine."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Bench]]:
    """One testbed for all."""
    folder = tmp_path_factory.mktemp("docker")
    bench = Bench(DockerTestbed(state=folder / "state"), folder)
    with asyncio.Runner() as loop:
        yield loop, bench
        loop.run(bench.shut())


def test_packets_are_those_of_the_wire(tmp_path: Path) -> None:
    """Of a stream that comes in pieces of 64 KiB, exactly these segments are lost, and none that is short enough."""
    names = ("each tenth lost of a stream", "two lost of a stream", "mtu")
    cases = [case for case in CASES if case.name in names]
    outcomes = calibrate(DockerTestbed(state=tmp_path), cases, lambda _: None)
    assert len(outcomes) == len(names)
    assert [(o.case.name, o.broken, o.measured, o.why) for o in outcomes if not o.kept] == []


def test_fragments_are_packets(docker: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """Though connection tracking, which Docker's resolver needs, puts a datagram together before most rules see it."""
    run, said = datagrams(docker, tmp_path, "loss: {target: echo, with: asker, every: 15}", 4000)
    (healed,) = run.events("healed")
    assert (said, healed.fields["packets"], healed.fields["seen"]) == ("answered 4", 1, 15)
    run, said = datagrams(docker, tmp_path, "mtu: {target: echo, size: 1500B}", 4000)
    (healed,) = run.events("healed")
    assert (said, healed.fields["packets"]) == ("answered 5", 0)


def test_there_are_networks_to_break() -> None:
    """The suite below has something to run."""
    assert len(BROKEN) >= 14


@pytest.mark.parametrize("plan", BROKEN, ids=lambda plan: f"{Path(plan.source).name}{plan.matrix or ''}")
def test_a_network_is_broken_with_no_more_power_than_that_takes(
    docker: tuple[asyncio.Runner, Bench], engine: Engine, plan: Plan
) -> None:
    """The scenario passes; nobody has NET_ADMIN but agents whose hosts are broken, and none of them is root (I8)."""
    loop, bench = docker
    seen = Powers(engine)
    run = loop.run(bench.perform(plan, seen))
    assert run.verdict.status == "pass", run.verdict
    assert len(seen.containers) >= 2
    faults = {step.id: build(step.verb, step.args) for step in plan.timeline if step.verb in FAULTS}
    broken = {r.host for r in run.events("injected") if faults[r.fields["fault"]].abilities()}
    assert broken
    for name, container in seen.containers.items():
        host = container["HostConfig"]
        assert (host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"]) == (["ALL"], False, True)
        assert ("CAP_NET_ADMIN" in str(host["CapAdd"]), bool(host["CapAdd"])) == (name in broken, name in broken)
        assert "docker.sock" not in json.dumps(container["Mounts"])
        agents, programs = seen.agents[name], seen.programs[name]
        assert agents
        assert programs
        assert {int(process["CapEff"], 16) for process in agents} == {NET_ADMIN | NET_RAW if name in broken else 0}
        assert {int(process[of], 16) for process in programs for of in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
        assert {user for process in (*agents, *programs) for user in process["Uid"].split()} == {"1000"}
        assert {process["NoNewPrivs"] for process in (*agents, *programs)} == {"1"}


@pytest.mark.parametrize(("lie", "how", "lost"), LIES)
def test_who_connects_hears_what_the_resolver_says(
    docker: tuple[asyncio.Runner, Bench], tmp_path: Path, lie: str, how: str, lost: int
) -> None:
    """As on netns: the agent is asked before the engine's resolver, which is in its namespace, hears of it."""
    loop, bench = docker
    path = tmp_path / "lie.scenario.yaml"
    path.write_text(LOOKED_UP.format(fault=lie, how=how, lost=lost))
    (plan,) = plans(path, SEED)
    run = loop.run(bench.perform(plan))
    assert run.verdict.status == "pass", run.verdict
    assert [str(r.client) for r in run.events("lost")] == ["talkers-2"] * lost
