"""A kept project: a further run finds its hosts as the first one did, or finds new ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.core.plan import Plan
from midsession.door import Bench, Run
from midsession.language import plans
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.sweep import PROJECT, left_of

pytestmark = pytest.mark.docker

SQUATTER = """\
import ctypes, os, signal, socket, subprocess, sys
places = [os.environ["TMPDIR"], "/tmp", "/dev/shm", "/dev/mqueue"]
others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
files = {place: [f for f in os.listdir(place) if not f.startswith("midsession-1-")] for place in places}
print("found", files, len(others), [name for _, name in socket.if_nameindex()], flush=True)
for place in places[:3]:
    os.makedirs(place + "/left/by/me")
    open(place + "/left/by/file", "w").write("x")
    os.chmod(place + "/left/by", int(sys.argv[1], 8))
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if sys.argv[2] == "share":
    print("shared", ctypes.CDLL(None).shmget(4242, 4096, 0o1666), flush=True)  # IPC_CREAT
server = socket.create_server(("", 4000), backlog=64)
print("ready", flush=True)
clients = []
while True:
    client, _ = server.accept()
    client.sendall(b"hello\\n")
    if sys.argv[2] == "close":
        client.close()
    clients.append(client)
"""
SCENARIO = """\
name: A server that leaves a mess
services:
  server:
    command: [python, squatter.py, "MODE", END]
    files: [squatter.py]
    port: 4000
    ready: {line: ready}
clients:
  callers:
    count: 2
    connect: "server:4000"
    script:
      - expect: {line: hello, within: 5s}
      - CLIENTS_END
timeline:
  - id: cut
    when: {every: callers, event: done}
    flap: {target: server, down: 10ms, up: 10ms}
checks:
  - log: {service: server, contains: found}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Bench]]:
    """A testbed of its own."""
    bench = Bench(DockerTestbed(state=tmp_path / "state"), tmp_path)
    with asyncio.Runner() as loop:
        yield loop, bench
        loop.run(bench.shut())


def squatter(folder: Path, mode: str = "755", end: str = "keep") -> Plan:
    """Clients call a server that leaves files and a process behind; `end` is what it does with its connections."""
    (folder / "squatter.py").write_text(SQUATTER)
    scenario = folder / f"{mode}-{end}.scenario.yaml"
    text = SCENARIO.replace("MODE", mode).replace("CLIENTS_END", "end" if end == "close" else "abort")
    scenario.write_text(text.replace("END", end))
    (plan,) = plans(scenario, 1)
    return plan


def found(run: Run) -> str:
    """What the server found on its host."""
    assert run.verdict.status == "pass", run.verdict
    return next(str(r.fields["text"]) for r in run.events("line") if str(r.fields["text"]).startswith("found"))


def project(run: Run) -> str:
    """Where it ran."""
    return str(json.loads((run.directory / "compose.json").read_text())["name"])


def test_a_further_run_finds_its_host_as_the_first_one_did(bench: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """Files, processes, ports, links: whatever a run has left is gone, in the same containers."""
    loop, testbed = bench
    runs = [loop.run(testbed.perform(squatter(tmp_path))) for _ in range(3)]
    assert {found(run) for run in runs} == {found(runs[0])}
    assert "'/tmp': []" in found(runs[0])
    assert len({project(run) for run in runs}) == 1
    assert all((run.directory / "logs" / "server.agent.stderr.log").exists() for run in runs)


@pytest.mark.parametrize(("mode", "end"), [("000", "keep"), ("755", "close"), ("755", "share")])
def test_a_project_that_cannot_be_cleaned_serves_no_further_run(
    bench: tuple[asyncio.Runner, Bench], tmp_path: Path, mode: str, end: str
) -> None:
    """A directory that nobody may empty, a port in TIME_WAIT, System V shared memory: the next run has a project of its
    own."""
    loop, testbed = bench
    first = loop.run(testbed.perform(squatter(tmp_path, mode, end)))
    second = loop.run(testbed.perform(squatter(tmp_path)))
    assert found(first) == found(second)
    assert project(first) != project(second)
    engine = Engine()
    assert left_of(engine.api, project(first)) == []
    assert len(left_of(engine.api, project(second))) >= 3
    engine.close()


def test_no_more_than_three_projects_are_kept(bench: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """Runs that need other hosts have projects of their own, until the oldest has to go."""
    loop, testbed = bench
    scenario = tmp_path / "many.scenario.yaml"
    clients = "connect: 's:4000', script: [end]"
    runs = []
    for count in (1, 2, 3, 4, 4):
        groups = "\n".join(f"  g{n}: {{{clients}}}" for n in range(count))
        scenario.write_text(
            "name: x\nservices: {s: {reference: {}, port: 4000}}\nclients:\n"
            f"{groups}\nchecks: [{{never: {{event: protocol_error}}}}]\n"
        )
        (plan,) = plans(scenario, 1)
        runs.append(loop.run(testbed.perform(plan)))
    assert {run.why_ended for run in runs} == {"done"}
    assert len({project(run) for run in runs}) == 4
    engine = Engine()
    assert [bool(left_of(engine.api, project(run))) for run in runs] == [False, True, True, True, True]
    loop.run(testbed.shut())
    assert engine.api.containers(all=True, filters={"label": [f"{PROJECT}={project(runs[-1])}"]}) == []
    engine.close()
