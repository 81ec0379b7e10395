"""The docker testbed on real containers: the same scenarios, real software in images, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midsession.core.logfile import LogState
from midsession.door import Bench, Run
from midsession.language import plans
from midsession.rundir import read_files
from midsession.runner import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.engine import Engine
from midsession.testbeds.docker.journal import Entry, Journal
from midsession.testbeds.docker.model import DATA
from midsession.testbeds.docker.owner import me
from midsession.testbeds.docker.sweep import OWNER, PROJECT, left_of, remove_project, sweep
from tests.testbeds.test_docker_parts import dead_owner
from tests.waiting import eventually

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
KILL = ROOT / "scenarios" / "kill" / "server-dies-mid-session.scenario.yaml"
GREETING = ROOT / "scenarios" / "lesson" / "greeting.scenario.yaml"
REDIS = "midsession-test-redis:local"
REDIS_DOCKERFILE = """\
FROM midsession-base:local
RUN apt-get update -q && apt-get install -qy --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
USER redis
WORKDIR /tmp
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
"""
ASKERS = """\
clients:
  askers:
    count: 5
    connect: cache:6379
    on_loss: {reconnect: {first: 50ms, max: 200ms, attempts: 100}}
    script:
      - repeat:
          until: goodbye
          script:
            - send: {text: "PING\\r\\n"}
            - expect: {exact: "+PONG\\r\\n", within: 5s}
            - wait: 5ms..10ms
      - end
"""
SCENARIO = """\
name: Redis is killed in mid-conversation
timeout: 60s
services:
  cache: {SERVICE, port: 6379}
ASKERS
timeline:
  - id: crash
    when: {event: replied, of: askers, count: 100}
    kill: cache
  - id: return
    when: {after: crash, wait: 300ms}
    start: cache
  - id: freeze
    when: {every: askers, event: replied, since: return}
    pause: cache
    for: 300ms
  - id: bounce
    when: {after: freeze, wait: 600ms}
    restart: {target: cache, after: 100ms}
  - id: cut
    when: {every: askers, event: connected, since: bounce}
    partition: cache
    for: 100ms
  - id: snap
    when: {every: askers, event: replied, since: cut}
    reset: {target: askers, end: server}
  - when: {every: askers, event: connected, since: snap}
    signal: goodbye
checks:
  - {every: askers, meets: lost, since: crash, within: 2s}
  - {every: askers, meets: connected, since: return, within: 5s}
  - never: {event: protocol_error}
  - log: {service: cache, contains: Ready to accept connections}
""".replace("ASKERS\n", ASKERS)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with Debian's Redis, built here."""
    folder = tmp_path_factory.mktemp("redis")
    (folder / "Dockerfile").write_text(REDIS_DOCKERFILE)
    subprocess.run(["docker", "build", "--quiet", "--tag", REDIS, str(folder)], check=True, capture_output=True)
    return REDIS


class Seen(Listener):
    """Looks at the run's containers while its clients talk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.containers: list[dict[str, Any]] = []
        self.networks: list[dict[str, Any]] = []

    def on_phase(self, phase: str) -> None:
        if phase == "run":
            mine = {"label": f"{OWNER}={me()}"}
            api = self._engine.api
            self.containers = [api.inspect_container(c["Id"]) for c in api.containers(all=True, filters=mine)]
            self.networks = [api.inspect_network(n["Id"]) for n in api.networks(filters=mine)]


def perform(scenario: Path, directory: Path, listener: Listener | None = None) -> Run:
    """Run a scenario here, with a journal of its own."""

    async def main() -> Run:
        bench = Bench(DockerTestbed(state=directory / "state"), directory / "runs")
        try:
            return await bench.perform(plans(scenario, 7)[0], listener)
        finally:
            await bench.shut()

    (directory / "runs").mkdir()
    run = asyncio.run(main())
    assert list(Journal(directory / "state").entries()) == []
    return run


def mine(engine: Engine, owner: object) -> list[str]:
    """What there is in the engine of an owner's."""
    marked = {"label": f"{OWNER}={owner}"}
    found = [c["Id"] for c in engine.api.containers(all=True, filters=marked)]
    found += [n["Id"] for n in engine.api.networks(filters=marked)]
    return found + [v["Name"] for v in engine.api.volumes(filters=marked)["Volumes"] or []]


# --- scenarios -----------------------------------------------------------------------------------------------------


def test_the_server_is_killed_and_everybody_comes_back(engine: Engine, tmp_path: Path) -> None:
    """The scenario that runs on every testbed, in containers that may do nothing that they need not."""
    seen = Seen(engine)
    run = perform(KILL, tmp_path, seen)
    assert run.verdict.status == "pass"
    assert {r.fields["how"] for r in run.events("lost").since("crash")} <= {"eof", "reset", "refused"}
    assert {"eof", "reset"} & {r.fields["how"] for r in run.events("lost").since("crash")}
    files = read_files(run.directory)
    assert files.pop("server.program.1.jsonl").state is LogState.CUT
    assert {log.state for log in files.values()} == {LogState.COMPLETE}
    assert len(seen.containers) == 2
    for container in seen.containers:
        host = container["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"] or [], host["Privileged"]) == (["ALL"], [], False)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["ReadonlyRootfs"]
        assert not host["PortBindings"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert "docker.sock" not in json.dumps(container["Mounts"])
        assert container["Config"]["User"] not in ("", "root", "0")
    assert [n["Internal"] for n in seen.networks] == [True]
    assert mine(engine, me()) == []


def test_a_foreign_image_is_killed_frozen_and_restarted(engine: Engine, redis: str, tmp_path: Path) -> None:
    """Redis, as it is: FIN at its clients, refused while it is away, back at the same address, silent while frozen."""
    scenario = tmp_path / "redis.scenario.yaml"
    scenario.write_text(SCENARIO.replace("SERVICE", f"image: '{redis}'"))
    seen = Seen(engine)
    run = perform(scenario, tmp_path, seen)
    assert run.verdict.status == "pass", run.verdict
    agent = read_files(run.directory)["cache.agent.1.jsonl"]
    assert agent.state is LogState.COMPLETE
    story = [r for r in agent.records if r.event not in {"line", "stalled"}]
    assert [r.event for r in story] == [
        *("started", "listening", "injected", "exited"),
        *("injected", "started", "listening"),
        *("injected", "frozen", "thawed", "healed"),
        *("injected", "exited", "started", "listening"),
        *("injected", "witnessed", "healed"),
        *("injected", "witnessed"),
        "exited",
    ]
    exits = [(r.fields["signal"], r.fields["code"], r.fields["by"]) for r in story if r.event == "exited"]
    assert exits == [("KILL", None, "crash"), (None, 0, "bounce"), (None, 0, None)]
    assert [r.fields["incarnation"] for r in story if r.event == "started"] == [1, 2, 3]
    lines = [r.fields["text"] for r in agent.records if r.event == "line"]
    assert sum("Ready to accept connections" in line for line in lines) == 3
    assert "Ready to accept" in (run.directory / "logs" / "cache.program.2.stdout.log").read_text()
    first = {}
    for record in run.events("lost").since("crash"):
        first.setdefault(record.client, record.fields["how"])
    assert len(first) == 5
    assert set(first.values()) <= {"eof", "reset"}
    assert "refused" in {r.fields["how"] for r in run.events("lost").since("crash")}
    program = next(c for c in seen.containers if c["Config"]["Image"] == redis)
    assert program["HostConfig"]["NetworkMode"].startswith("container:")
    assert program["HostConfig"]["CapDrop"] == ["ALL"]
    assert "NET_ADMIN" not in str(program["HostConfig"]["CapAdd"])
    agents = {c["Config"]["Hostname"]: c["HostConfig"]["CapAdd"] for c in seen.containers if c is not program}
    assert ["NET_ADMIN" in str(agents[host]) for host in ("cache", "client-1")] == [True, False]


PAUSED_TWICE = """\
name: A container that died while it was paused is paused again
timeout: 30s
services:
  cache: {image: IMAGE, port: 6379}
ASKERS
timeline:
  - id: freeze
    when: {every: askers, event: replied}
    pause: cache
  - id: crash
    when: {after: freeze, wait: 100ms}
    kill: cache
  - id: return
    when: {after: crash, wait: 100ms}
    start: cache
  - id: again
    when: {every: askers, event: replied, since: return}
    pause: cache
    for: 200ms
  - when: {after: again, wait: 500ms}
    signal: goodbye
checks:
  - {every: askers, meets: lost, since: crash, within: 5s}
""".replace("ASKERS\n", ASKERS)


def test_a_container_that_died_while_it_was_paused_is_paused_again(redis: str, tmp_path: Path) -> None:
    """The freeze went with the program; the next program is frozen by its own."""
    scenario = tmp_path / "twice.scenario.yaml"
    scenario.write_text(PAUSED_TWICE.replace("IMAGE", redis))
    run = perform(scenario, tmp_path)
    assert run.verdict.status == "pass", run.verdict
    assert [r.fields["step"] for r in run.events("effective")] == ["freeze", "crash", "return", "again"]


CRASHES = """\
import ctypes, signal, socket
listening = socket.create_server(("0.0.0.0", 4000))
signal.signal(signal.SIGHUP, lambda *_: print("hit", flush=True))
print("up", flush=True)
signal.pause()
ctypes.string_at(0)
"""
"""Catches HUP, lives on, and dies of SEGV: a real one, since a container's first process survives one that is sent."""

CRASHING = """\
name: It reloads, crashes, and is restarted
timeout: 15s
services:
  server: {image: IMAGE, files: [crashes.py], command: [python3, crashes.py], port: 4000, ready: {line: up}}
clients:
  idlers: {count: 1, connect: server:4000, script: [wait: {signal: goodbye}, abort]}
timeline:
  - {id: reload, when: {every: idlers, event: connected}, kill: {target: server, signal: HUP}}
  - {id: return, when: {event: exited, of: server}, start: server}
  - {id: bounce, when: {after: return}, restart: {target: server, how: kill}}
  - {when: {after: bounce}, signal: goodbye}
checks:
  - count: {event: connected, of: idlers}
    equals: 1
"""


def test_a_crash_of_a_container_is_its_own_and_a_restart_may_be_a_kill(redis: str, tmp_path: Path) -> None:
    """The signal that it survived has not ended it, so that its step has no witness; SIGKILL comes without SIGTERM."""
    (tmp_path / "crashes.py").write_text(CRASHES)
    scenario = tmp_path / "crashing.scenario.yaml"
    scenario.write_text(CRASHING.replace("IMAGE", f"'{redis}'"))
    run = perform(scenario, tmp_path)
    assert [f.check for f in run.verdict.findings if f.status == "fail"] == ["alive"], run.verdict
    assert run.history.steps["reload"].effective is None
    exits = [(r.fields["signal"], r.fields["code"], r.fields["by"]) for r in run.events("exited").on("server")]
    assert exits[:2] == [(None, 139, None), ("KILL", None, "bounce")]


COMPOSE = """\
services:
  redis:
    image: IMAGE
    container_name: midsession-test-collides
    ports: ["6379:6379"]
    depends_on: {helper: {condition: service_healthy}}
    volumes: [data:/tmp]
  helper:
    image: IMAGE
    container_name: midsession-test-collides-too
    healthcheck: {test: [CMD, redis-cli, ping], interval: 200ms}
  watcher:
    image: IMAGE
    command: [redis-cli, -h, redis, -r, "-1", -i, "0.1", ping]
    depends_on: {redis: {condition: service_started}}
volumes: {data: {}}
"""


def test_a_service_of_the_users_compose_file(engine: Engine, redis: str, tmp_path: Path) -> None:
    """Broken in the middle of its own project, under its own name for its neighbours; the project goes with the run."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "compose.yaml").write_text(COMPOSE.replace("IMAGE", redis))
    scenario = tmp_path / "compose.scenario.yaml"
    scenario.write_text(SCENARIO.replace("SERVICE", "compose: {file: app/compose.yaml, service: redis}"))
    seen = Seen(engine)
    run = perform(scenario, tmp_path, seen)
    assert run.verdict.status == "pass", run.verdict
    by_service = {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in seen.containers}
    assert set(by_service) == {"cache.agent", "redis", "helper", "watcher", "client-1"}
    assert by_service["helper"]["State"]["Health"]["Status"] == "healthy"  # the named service waits for that
    assert not [c["Name"] for c in seen.containers if "collides" in c["Name"]]
    assert not [c for c in seen.containers if c["HostConfig"]["PortBindings"]]
    assert mine(engine, me()) == []


# --- leave no trace ------------------------------------------------------------------------------------------------


class Harness:
    """A `midsession run` of its own, with a journal of its own."""

    def __init__(self, directory: Path, scenario: Path = KILL) -> None:
        directory.mkdir()
        self.state = directory / "midsession" / "docker"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(directory), "PYTHONUNBUFFERED": "1"}
        argv = ["run", str(scenario), "--testbed", "docker", "--runs", str(directory / "runs"), "--seed", "7"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "midsession", *argv],
            env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def until(self, text: str) -> None:
        """It has said that."""
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}: {''.join(said)}")

    def entry(self) -> Entry:
        """Its project, once it is journalled."""
        eventually(lambda: self.state.is_dir() and any(Journal(self.state).entries()), 20, "an entry in the journal")
        return next(Journal(self.state).entries())

    def kill(self) -> None:
        """SIGKILL, and reaped, so that nobody takes it for alive."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def reaper(self) -> int:
        """The pid of its reaper."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"midsession.testbeds.docker.reaper" in words and str(self.state).encode() in words:
                return int(folder.name)
        raise AssertionError("no reaper is on watch")


POINTS: dict[str, Callable[[Harness, Engine], object]] = {
    "journalled": lambda harness, _: harness.entry(),
    "the first thing is made": lambda harness, engine: eventually(
        lambda: bool(left_of(engine.api, harness.entry().project)), 20, "something made"
    ),
    "both containers are made": lambda harness, engine: eventually(
        lambda: len(left_of(engine.api, harness.entry().project)) == 3, 20, "everything made"
    ),
    "agents are up": lambda harness, _: harness.until("starting services"),
    "the clients talk": lambda harness, _: harness.until("begun"),
    "the fault is in force": lambda harness, _: harness.until("took effect"),
    "tear-down": lambda harness, _: harness.until("collecting logs"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_harness_leaves_nothing(engine: Engine, tmp_path: Path, point: str) -> None:
    """SIGKILL in set-up, fault and tear-down: no container, network or volume after ten seconds, and no entry."""
    harness = Harness(tmp_path / "x")
    entry = None
    try:
        if point != "tear-down":
            entry = harness.entry()
        POINTS[point](harness, engine)
    finally:
        harness.kill()
    if entry is not None:
        project = entry.project
        eventually(lambda: not left_of(engine.api, project), 10, "nothing left")
    eventually(lambda: not any(Journal(harness.state).entries()), 30, "an empty journal")


@pytest.mark.parametrize("said", ["opening the testbed", "starting services", "took effect"])
def test_an_interrupted_run_takes_everything_away(engine: Engine, tmp_path: Path, said: str) -> None:
    """Ctrl-C: within seven seconds the project is gone, the logs are there, and the exit code says what happened."""
    harness = Harness(tmp_path / "x")
    try:
        harness.until(said)
        project = harness.entry().project
        began_s = time.monotonic()
        harness.process.send_signal(signal.SIGINT)
        harness.process.communicate(timeout=20)
        took_s = time.monotonic() - began_s
    finally:
        harness.kill()
    assert (harness.process.returncode, took_s < 7) == (2, True)
    assert left_of(engine.api, project) == []
    assert list(Journal(harness.state).entries()) == []
    assert len(list((tmp_path / "x" / "runs").glob("*/events/conductor.conductor.1.jsonl"))) == 1


def test_a_killed_harness_and_reaper_leave_nothing_after_the_next_command(engine: Engine, tmp_path: Path) -> None:
    """`midsession prune` removes it all, and says what; a second one finds nothing of it."""
    harness = Harness(tmp_path / "x")
    try:
        harness.until("begun")
        project = harness.entry().project
        os.kill(harness.reaper(), signal.SIGKILL)
    finally:
        harness.kill()
    assert len(left_of(engine.api, project)) == 3
    prune = [sys.executable, "-m", "midsession", "prune"]
    done = subprocess.run(prune, env=harness.environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"{project}") == 3, done.stdout
    assert left_of(engine.api, project) == []
    assert list(Journal(harness.state).entries()) == []


def test_a_sweep_touches_only_what_is_ours_and_orphaned(engine: Engine, tmp_path: Path) -> None:
    """Look-alike names, labels without an owner, owners that cannot be read, and a living run survive every sweep."""
    api = engine.api
    sweep(api, engine.host, Journal(tmp_path))  # what other tests' dead have left
    mark = f"midsession-test-{os.getpid()}"
    innocent = {
        "name only": {},
        "no owner": {PROJECT: mark},
        "garbage": {PROJECT: mark, OWNER: "a/b/c/d/e"},
        "alive": {PROJECT: mark, OWNER: str(me())},
    }
    made = {}
    try:
        for name, labels in innocent.items():
            subnet = {"Config": [{"Subnet": f"10.215.{len(made)}.0/29"}]}
            title = f"{mark}-{name.replace(' ', '-')}"
            made[name] = api.create_network(title, labels={**labels, "mark": mark}, ipam=subnet)["Id"]
        dead = {PROJECT: f"{mark}-dead", OWNER: str(dead_owner()), "mark": mark}
        container = api.create_container("midsession-base:local", ["true"], labels=dead)["Id"]
        removed, problems = sweep(api, engine.host, Journal(tmp_path))
        assert (len(removed), problems) == (1, [])
        assert container not in {c["Id"] for c in api.containers(all=True)}
        for _ in range(50):
            assert sweep(api, engine.host, Journal(tmp_path)) == ([], [])
        assert {n["Id"] for n in api.networks(filters={"label": f"mark={mark}"})} == set(made.values())
    finally:
        for network in made.values():
            api.remove_network(network)
        remove_project(api, f"{mark}-dead")


def test_parallel_runs_do_not_collide(engine: Engine, tmp_path: Path) -> None:
    """Six at once, with a journal each, as six users would have: all pass, on networks of their own."""
    harnesses = [Harness(tmp_path / f"x{n}", GREETING) for n in range(6)]
    try:
        said = [harness.process.communicate(timeout=120)[0] for harness in harnesses]
    finally:
        for harness in harnesses:
            harness.kill()
    assert [harness.process.returncode for harness in harnesses] == [0] * 6, "\n".join(said)
    models = [json.loads(path.read_text()) for path in tmp_path.glob("x*/runs/*/compose.json")]
    assert len({m["name"] for m in models}) == 6
    assert len({m["networks"][DATA]["ipam"]["config"][0]["subnet"] for m in models}) == 6
