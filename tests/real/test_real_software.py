"""Real servers and real clients, as Debian ships them, killed in mid-session: see docs/real-software.md."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from midsession.core.faultless import has_faults, without_faults
from midsession.core.plan import ImageService, Plan
from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.language import collect, plans
from midsession.rundir import audit_run, mending
from midsession.testbeds.docker import DockerTestbed

pytestmark = pytest.mark.docker

FOLDER = Path(__file__).parents[2] / "scenarios" / "real"
IMAGE = "midsession-real:local"
BASE = "midsession-base:local"
SCENARIOS = collect([FOLDER])
SEED = 20260


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Bench]]:
    """The image, built as its Dockerfile says, and one testbed for all."""
    build = ["docker", "build", "--quiet", "--tag", IMAGE, "--build-arg", f"BASE={BASE}", str(FOLDER / "images")]
    subprocess.run(build, check=True, capture_output=True)
    bench = Bench(DockerTestbed(state=tmp_path_factory.mktemp("state")), tmp_path_factory.mktemp("runs"))
    with asyncio.Runner() as loop:
        yield loop, bench
        loop.run(bench.shut())


def perform(bench: tuple[asyncio.Runner, Bench], plan: Plan) -> Run:
    loop, door = bench
    return loop.run(door.perform(plan))


def plan_of(name: str) -> Plan:
    (plan,) = plans(FOLDER / f"{name}.scenario.yaml", SEED)
    return plan


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.partition(".")[0])
def test_real_software_keeps_its_promises(bench: tuple[asyncio.Runner, Bench], path: Path) -> None:
    """Killed by what it or its clients said, started again, judged by exits and lines; nothing is left undecided, and
    each check could have failed (T6)."""
    (plan,) = plans(path, SEED)
    run = perform(bench, plan)
    assert [f"{f.status}: {f.promise}: {f.seen}" for f in run.verdict.findings if f.status is not Status.PASS] == []
    audited = audit_run(run.directory)
    assert len(audited) == len(plan.checks) > 0
    assert [one.promise for one in audited if not one.can_fail] == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name.partition(".")[0])
def test_real_software_needs_its_faults(bench: tuple[asyncio.Runner, Bench], path: Path) -> None:
    """T6: with nothing broken, one of its own checks at least does not pass."""
    (plan,) = plans(path, SEED)
    assert has_faults(plan, mending(plan))
    run = perform(bench, without_faults(plan, mending(plan)))
    assert run.verdict.status is not Status.ERROR
    assert [f.promise for f in run.own_findings if f.status is not Status.PASS] != []


def test_there_is_real_software() -> None:
    """The suite above has something to run."""
    assert len(SCENARIOS) >= 5


def test_the_durability_check_can_fail(bench: tuple[asyncio.Runner, Bench]) -> None:
    """Of a Redis that keeps nothing, the promise of the one that keeps all is broken, and by that check alone."""
    remembers = plan_of("redis-remembers")
    (cache,) = remembers.services
    assert isinstance(cache, ImageService)
    forgetful = [*(cache.argv or [])[: (cache.argv or []).index("--appendonly")], "--save", ""]
    sham = msgspec.structs.replace(remembers, services=[msgspec.structs.replace(cache, argv=forgetful)])
    verdict = perform(bench, sham).verdict
    assert verdict.status is Status.FAIL
    (broken,) = [f for f in verdict.findings if f.status is not Status.PASS]
    assert "found 100 of 100" in broken.promise


WIRE = """\
name: What the peer of a container sees
timeout: 60s
services:
  cache:
    image: midsession-real:local
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --dir, /tmp, --save, ""]
    port: 6379
    ready: {within: 30s}
clients:
  idle:
    connect: cache:6379
    on_loss: {reconnect: {first: 50ms, max: 100ms, attempts: 1000}}
    script:
      - repeat:
          until: goodbye
          script:
            - send: {text: "PING\\r\\n"}
            - expect: {exact: "+PONG\\r\\n", within: 30s}
            - wait: {signal: speak}
      - end
timeline:
  - id: break
    when: {event: replied, of: idle}
    FAULT
  - id: speak
    when: {after: LAST, wait: 300ms}
    signal: speak
  - when: {event: replied, of: idle, since: speak}
    signal: goodbye
checks:
  - CHECK
  - {every: idle, meets: replied, since: speak, within: 30s}
"""
START = "kill: cache\n  - id: return\n    when: {after: break, wait: 500ms}\n    start: cache"
SEEN = {
    "kill": (START, "return", "{every: idle, meets: lost, as: eof, since: break, within: 10s}"),
    "refused after a kill": (START, "return", "{every: idle, meets: lost, as: refused, since: break, within: 10s}"),
    "stop": (START.replace("kill", "stop"), "return", "{every: idle, meets: lost, as: eof, since: break, within: 10s}"),
    "restart": ("restart: {target: cache, after: 300ms}", "break", "{every: idle, meets: lost, as: eof, since: break}"),
    "pause": ("pause: cache\n    for: 1s", "break", "never: {event: lost, of: idle}"),
    "power_off": (
        START.replace("kill: cache", "power_off: cache\n    for: 300ms"),
        "return",
        "{every: idle, meets: lost, since: break, within: 10s}",
    ),
}
"""A fault and what follows, the step after which the client speaks again, and what it must have seen on the wire.

The network namespace is the agent's, and outlives the program: so a kill is FIN and then refusals, a pause is silence
with everything open, and of a host without power nothing is heard until it is back.
"""


@pytest.mark.parametrize("fault", SEEN)
def test_what_a_containers_peer_sees(bench: tuple[asyncio.Runner, Bench], fault: str, tmp_path: Path) -> None:
    """The same as of a program of ours, though the container is stopped, frozen or killed as a whole."""
    text, last, check = SEEN[fault]
    path = tmp_path / "wire.scenario.yaml"
    path.write_text(WIRE.replace("FAULT", text).replace("LAST", last).replace("CHECK", check))
    (plan,) = plans(path, SEED)
    run = perform(bench, plan)
    assert [f"{f.status}: {f.promise}: {f.seen}" for f in run.verdict.findings if f.status is not Status.PASS] == []
    if fault == "power_off":
        lost, injected = run.events("lost").first, run.events("injected").first
        assert lost is not None
        assert injected is not None
        assert lost.t_ns - injected.fields["began_ns"] > 250_000_000, "nothing is heard while it has no power"
