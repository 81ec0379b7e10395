"""Network faults on the docker testbed, and what its containers may do for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.core.plan import Plan
from midsession.door import Bench
from midsession.faults import FAULTS
from midsession.language import collect, plans
from midsession.runner import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.sweep import PROJECT

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
SEED = 20260
BROKEN = [
    plan
    for path in collect([ROOT / "scenarios" / "faults"])
    for plan in plans(path.relative_to(ROOT), SEED)
    if any(FAULTS[step.verb].needs for step in plan.timeline if step.verb in FAULTS)
]
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


class Powers(Listener):
    """What each container of the run may do, and each process in it does have, while the clients talk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._directory = Path()
        self.containers: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, dict[int, dict[str, str]]] = {}

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        self._directory = directory

    def on_phase(self, phase: str) -> None:
        if phase == "run":
            api = self._engine.api
            project = json.loads((self._directory / "compose.json").read_text())["name"]
            for found in api.containers(filters={"label": f"{PROJECT}={project}"}):
                name = found["Labels"]["com.docker.compose.service"]
                self.containers[name] = api.inspect_container(found["Id"])
                processes = api.top(found["Id"], "-eo pid")["Processes"]
                self.processes[name] = {at: status(int(words[0])) for at, words in enumerate(processes)}


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
    verbs = {step.id: step.verb for step in plan.timeline}
    broken = {r.host for r in run.events("injected") if FAULTS[verbs[r.fields["fault"]]].needs}
    assert broken
    for name, container in seen.containers.items():
        host = container["HostConfig"]
        assert (host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"]) == (["ALL"], False, True)
        assert ("CAP_NET_ADMIN" in str(host["CapAdd"]), bool(host["CapAdd"])) == (name in broken, name in broken)
        assert "docker.sock" not in json.dumps(container["Mounts"])
        agent, *programs = seen.processes[name].values()
        assert int(agent["CapEff"], 16) == (NET_ADMIN | NET_RAW if name in broken else 0)
        assert programs
        for process in (agent, *programs):
            assert set(process["Uid"].split()) == {"1000"}
            assert process["NoNewPrivs"] == "1"
        assert {int(process[of], 16) for process in programs for of in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
