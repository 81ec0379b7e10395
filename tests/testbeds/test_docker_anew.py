"""A kept project with programs by image: its agents stay, and every program has a container that was never used."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.agent.protocol import Start
from midsession.core.plan import Plan
from midsession.door import Bench, Run
from midsession.language import plans
from midsession.runner import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.images import SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.sweep import PROJECT, left_of
from tests.waiting import eventually, eventually_here

pytestmark = pytest.mark.docker

IMAGE = "midsession-test-squatter"
DOCKERFILE = f"FROM {SERVER_IMAGE}\nUSER root\nENTRYPOINT []\nVOLUME /data\nWORKDIR /work\n"
ROOT = Path(__file__).parents[2]
SERVICE = "com.docker.compose.service"

SQUATTER = """\
import os, signal, socket, subprocess, sys
places = ["/", "/data", "/logs", "/tmp", "/dev/shm", "/dev/mqueue", "/midsession", "/work"]
tables = ["/proc/net/tcp", "/proc/net/unix", "/proc/sysvipc/shm"]
others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
files = {place: sorted(os.listdir(place)) for place in places}
files["/midsession"] = {name: open(f"/midsession/{name}").read()[-20:] for name in files["/midsession"]}
held = {table: [line.split()[1] for line in open(table)][1:] for table in tables}
print("found", [files, held, others, [name for _, name in socket.if_nameindex()]], os.environ.get("TOLD"), flush=True)
open("/dev/mqueue/left", "w").close()  # which holds no directory
for place in set(places) - {"/dev/mqueue", "/work"}:
    os.makedirs(place + "/left/by/me", exist_ok=True)
    os.chmod(place + "/left", 0)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
hidden = socket.socket(socket.AF_UNIX)
hidden.bind("\\0hidden")
hidden.listen()
also = socket.create_server(("", 5000))
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, sys.argv[1] != "close rudely")
server.bind(("", 4000))
server.listen()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", flush=True)
clients = []
while True:
    client, _ = server.accept()
    client.sendall(b"hello\\n")
    if sys.argv[1].startswith("close"):
        client.close()
    clients.append(client)
"""
VISITOR = """\
import os, socket, struct
print("found", sorted(os.listdir("/")), sorted(os.listdir("/logs")), flush=True)
open("/left", "w").close()
open("/logs/trace.txt", "w").close()
peer = socket.create_connection((os.environ["MIDSESSION_HOST"], int(os.environ["MIDSESSION_PORT"])))
peer.recv(100)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
SCENARIO = """\
name: A server that leaves a mess
services:
  server:
    image: IMAGE
    command: [python, squatter.py, 'END']
    env: {TOLD: 'SAID $$'}
    files: [squatter.py]
    port: 4000
    ready: {line: ready}
clients:
  callers:
    count: 1
    connect: "server:4000"
    script:
      - expect: {line: hello, within: 5s}
      - CLIENTS_END
  visitors:
    count: 2
    connect: "server:4000"
    image: IMAGE
    command: [python, visitor.py]
    files: [visitor.py]
timeline:
  - id: cut
    when: {every: callers, event: done}
    flap: {target: server, down: 10ms, up: 10ms}
checks:
  - log: {service: server, contains: found}
  - exit: {clients: visitors}
    code: 0
"""


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    """An image with a volume of its own, whose programs are root."""
    build = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(build, input=DOCKERFILE, text=True, check=True, capture_output=True)
    yield
    subprocess.run(["docker", "rmi", IMAGE], check=True, capture_output=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Bench, DockerTestbed]]:
    """A testbed of its own."""
    testbed = DockerTestbed(state=tmp_path / "state")
    bench = Bench(testbed, tmp_path)
    with asyncio.Runner() as loop:
        yield loop, bench, testbed
        loop.run(bench.shut())


@pytest.fixture
def engine() -> Iterator[Engine]:
    """The engine."""
    made = Engine()
    yield made
    made.close()


def squatter(folder: Path, end: str = "keep", says: str = "it") -> Plan:
    """A server and two clients by image leave files, volumes and processes behind; `end` is what the server does with
    its connections, `says` what it is told."""
    (folder / "squatter.py").write_text(f"{SQUATTER}# {says}\n")
    (folder / "visitor.py").write_text(VISITOR)
    scenario = folder / f"{end}-{says}.scenario.yaml"
    text = SCENARIO.replace("IMAGE", IMAGE).replace("CLIENTS_END", "end" if end.startswith("close") else "abort")
    scenario.write_text(text.replace("END", end).replace("SAID", says))
    (plan,) = plans(scenario, 1)
    return plan


def found(run: Run) -> list[str]:
    """What the programs found, host by host."""
    assert run.verdict.status == "pass", run.verdict
    lines = [(r.host, str(r.fields["text"])) for r in run.events("line")]
    said = sorted(f"{host}: {text}" for host, text in lines if text.startswith("found"))
    assert [line.partition(":")[0] for line in said] == ["server", "visitors-1", "visitors-2"]
    return said


def project(run: Run) -> str:
    """Where it ran."""
    return str(json.loads((run.directory / "compose.json").read_text())["name"])


def containers(engine: Engine, name: str) -> dict[str, list[str]]:
    """Those of a project, by the Compose service."""
    by_service: dict[str, list[str]] = {}
    for one in engine.api.containers(all=True, filters={"label": f"{PROJECT}={name}"}):
        by_service.setdefault(one["Labels"][SERVICE], []).append(one["Names"][0])
    return by_service


def test_a_further_run_has_programs_that_know_of_no_other(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], engine: Engine, tmp_path: Path
) -> None:
    """Files, volumes, logs, processes, ports, sockets: what a program has left is gone; the agents are the same."""
    loop, testbed, _ = bench
    runs = [loop.run(testbed.perform(squatter(tmp_path))) for _ in range(3)]
    assert [found(run) for run in runs] == [found(runs[0])] * 3
    assert "left" not in found(runs[0])[0]
    assert "hidden" not in found(runs[0])[0]
    assert len({project(run) for run in runs}) == 1
    assert all((run.directory / "logs" / "visitors-1" / "trace.txt").exists() for run in runs)
    assert all((run.directory / "logs" / "server.agent.stderr.log").exists() for run in runs)


def test_a_further_run_may_tell_its_programs_something_else(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], tmp_path: Path
) -> None:
    """Files, environment and command belong to the program, which is made anew: the same agents serve it."""
    loop, testbed, _ = bench
    runs = [loop.run(testbed.perform(squatter(tmp_path, says=says))) for says in ("one", "other")]
    for run, says in zip(runs, ("one", "other"), strict=True):
        assert found(run)[0].endswith(f"{says} $$")
        assert f"# {says}" in found(run)[0]
    assert len({project(run) for run in runs}) == 1


@pytest.mark.parametrize(
    ("ends", "projects"), [(["close", "close"], 1), (["close", "keep"], 2), (["close rudely"] * 2, 2)]
)
def test_a_program_that_may_be_denied_its_port_runs_in_a_new_project(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], tmp_path: Path, ends: list[str], projects: int
) -> None:
    """The last server closed its connections, so that its port is in TIME_WAIT: only the same program, which is seen to
    ask with SO_REUSEADDR, is sure to get it."""
    loop, testbed, _ = bench
    runs = [loop.run(testbed.perform(squatter(tmp_path, end))) for end in ends]
    assert len([found(run) for run in runs]) == 2
    assert len({project(run) for run in runs}) == projects


def is_making_anew(engine: Engine, name: str) -> bool:
    """A program of a second run has a container."""
    return any(title.endswith("program-2") for titles in containers(engine, name).values() for title in titles)


class Volumes(Listener):
    """Looks which volumes a run's programs have, when they are made."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._directory = engine, Path()
        self.names: list[str] = []

    def on_open(self, plan: Plan, run: str, directory: Path) -> None:
        self._directory = directory

    def on_phase(self, phase: str) -> None:
        if phase == "programs":
            name = json.loads((self._directory / "compose.json").read_text())["name"]
            marked = {"label": [f"{PROJECT}={name}", f"{SERVICE}=server.program"]}
            for found in self._engine.api.containers(all=True, filters=marked):
                mounts = self._engine.api.inspect_container(found["Id"])["Mounts"]
                self.names += [mount["Name"] for mount in mounts]


def test_nothing_of_a_program_is_left_when_its_project_rests(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], engine: Engine, tmp_path: Path
) -> None:
    """Its container and its volume go with the run, and not with the project."""
    loop, testbed, docker = bench
    volumes = Volumes(engine)
    run = loop.run(testbed.perform(squatter(tmp_path), volumes))
    assert found(run)
    assert len(docker.kept) == 1
    loop.run(eventually_here(lambda: len(containers(engine, project(run))) == 4, 10, "the programs' containers gone"))
    assert all(name.endswith(".agent") or name == "client-1" for name in containers(engine, project(run)))
    (volume,) = volumes.names
    assert volume not in {made["Name"] for made in engine.api.volumes()["Volumes"] or ()}


class Nobody:
    """An inbox of a run in which nothing happens."""

    def records(self, batch: object) -> None:
        """Not looked at."""

    def gone(self, host: str, why: str) -> None:
        """The run is broken off."""

    def note(self, text: str) -> None:
        """Not looked at."""


def directory(folder: Path) -> Path:
    """A run directory."""
    for name in ("events", "logs"):
        (folder / name).mkdir(parents=True)
    return folder


def test_a_run_that_did_not_come_to_its_end_leaves_no_project(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], engine: Engine, tmp_path: Path
) -> None:
    """Its programs were not seen to end."""
    loop, _, testbed = bench

    async def crash() -> str:
        await testbed.open(squatter(tmp_path), "r", directory(tmp_path / "r"), Nobody())
        await testbed.services["server"].ask(Start(id=0, argv=[]))
        name = str(json.loads((tmp_path / "r" / "compose.json").read_text())["name"])
        assert len(left_of(engine.api, name)) > 7
        await testbed.close()
        return name

    assert left_of(engine.api, loop.run(crash())) == []
    assert testbed.kept == []


def test_a_run_that_is_broken_off_while_its_programs_are_made_leaves_nothing(
    bench: tuple[asyncio.Runner, Bench, DockerTestbed], engine: Engine, tmp_path: Path
) -> None:
    """Whatever the engine was asked for: the project goes, with what is still to come of it."""
    loop, runs, testbed = bench
    name = project(loop.run(runs.perform(squatter(tmp_path))))

    async def break_off() -> None:
        opening = asyncio.ensure_future(testbed.open(squatter(tmp_path), "r", directory(tmp_path / "r"), Nobody()))
        await eventually_here(lambda: is_making_anew(engine, name), 10, "a program's second container", pause_s=0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await testbed.close()

    loop.run(break_off())
    assert (left_of(engine.api, name), testbed.kept) == ([], [])


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_ended_while_its_programs_are_made_leaves_nothing(
    engine: Engine, tmp_path: Path, signal_: signal.Signals
) -> None:
    """By SIGKILL, nothing is there after ten seconds; by Ctrl-C, nothing when it ends, which it does in seven."""
    squatter(tmp_path)
    argv = ["run", str(tmp_path / "keep-it.scenario.yaml"), "--testbed", "docker", "--runs", str(tmp_path / "runs")]
    environment, journal = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}, tmp_path / "midsession" / "docker"
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "midsession", *argv, "--repeat", "20"],  # until it keeps one
            env=environment, cwd=ROOT, stdout=file, stderr=file,
        )  # fmt: skip

    def known() -> list[str]:
        return [entry.project for entry in Journal(journal).entries()] if journal.exists() else []

    def makes_anew() -> bool:
        assert process.poll() is None, said.read_text()
        return any(is_making_anew(engine, name) for name in known())

    try:
        eventually(makes_anew, 60, "a second program", pause_s=0)
        projects = known()
        process.send_signal(signal_)
        began_s = time.monotonic()
        status = process.wait(20)
        took_s = time.monotonic() - began_s
    finally:
        process.kill()
        process.wait()
    if signal_ == signal.SIGINT:
        assert (status, took_s < 7) == (2, True)
        assert [left_of(engine.api, name) for name in projects] == [[]] * len(projects)
    eventually(lambda: not any(left_of(engine.api, name) for name in projects), 10, "nothing left")
    eventually(lambda: not known(), 30, "an empty journal")
