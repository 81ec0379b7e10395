"""What a program on the netns testbed cannot do, whoever runs it: tried by one that is hostile, and by one that is
greedy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.door import Bench
from midsession.errors import EnvironmentLacks
from midsession.language import plans
from midsession.testbeds.netns.confinement import MEMORY_VARIABLE, PROCESSES_VARIABLE, Limits
from midsession.testbeds.netns.testbed import NetnsTestbed
from tests.testbeds.test_netns import ROOT, output_of, scenario

__all__ = ["scenario"]

pytestmark = pytest.mark.netns

HOSTILE = Path(__file__).with_name("hostile.py")
MIB = 2**20


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine that a program of a host may not kill."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_hostile_program_reaches_nothing_but_its_run_and_its_own_tmp(
    scenario: Path, tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    """Files, processes, sockets, disks, sysctls, mounts and the agent itself: all refused; the rest is its own."""
    outside = ["/etc", str(Path.home()), "/var/tmp", "/run", "/dev", "/sys", str(ROOT)]
    own = [str(tmp_path / "run"), "/tmp", "/dev/shm"]
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0midsession-test-" + os.urandom(4).hex())
        abstract.listen()
        name = abstract.getsockname()[1:].decode()
        todo = {"write": [f"{place}/hostile" for place in (*outside, *own)], "pid": victim.pid, "abstract": name}
        (line,) = asyncio.run(output_of(scenario, tmp_path / "run", [sys.executable, str(HOSTILE), json.dumps(todo)]))
    seen = json.loads(line)
    assert {attack for attack, outcome in seen.items() if outcome == "done"} == {f"create {p}/hostile" for p in own}
    assert len(seen) == len(outside) + len(own) + 16
    assert victim.poll() is None
    assert Path(tmp_path / "run" / "hostile").exists()
    assert not Path("/tmp/hostile").exists()
    assert not Path("/dev/shm/hostile").exists()


def test_a_program_has_no_privilege_that_reaches_out_of_its_network(scenario: Path, tmp_path: Path) -> None:
    """A low port and a ping are all that is left of root; nothing gives more."""
    code = "print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNew'))))"
    for argv in ([sys.executable, "-c", code], ["setpriv", "--inh-caps=-all", sys.executable, "-c", code]):
        (line,) = asyncio.run(output_of(scenario, tmp_path / f"run-{len(argv)}", argv))
        inherited, permitted, effective, bounding, ambient, no_new = (int(word, 16) for word in line.split())
        assert (inherited, ambient, no_new) == (0, 0, 1)
        assert permitted == effective == bounding == 1 << 10 | 1 << 13


SERVICE = """
name: A greedy service
timeout: 20s
services:
  server:
    command: [{python}, greedy.py]
    files: [greedy.py]
    port: 4000
clients:
  watchers:
    count: 1
    connect: server:4000
    on_loss: {{reconnect: {{first: 50ms, max: 50ms, attempts: 10}}}}
    script: [{{wait: 10s}}, end]
checks:
  - never: {{event: protocol_error}}
"""
GREEDY = """
import socket, sys
listener = socket.create_server(("", 4000))
held = listener.accept()
bytearray(400 * 2**20)
"""
PROLIFIC = """
import os, signal, socket, sys, time
listener = socket.create_server(("", 4000))
held = listener.accept()
children = 0
while children < 5000:
    if os.fork() == 0:
        signal.pause()
    children += 1
"""


def perform(tmp_path: Path, program: str, limits: Limits) -> tuple[str, str]:
    """The verdict, and what the finding about exits saw."""
    (tmp_path / "greedy.py").write_text(program)
    path = tmp_path / "greedy.scenario.yaml"
    path.write_text(SERVICE.format(python=sys.executable))

    async def run() -> tuple[str, str]:
        bench = Bench(NetnsTestbed(limits), tmp_path / "runs")
        try:
            done = await bench.perform(plans(path, 1)[0])
        finally:
            await bench.shut()
        (alive,) = [f for f in done.verdict.findings if f.check == "alive"]
        return str(done.verdict.status), alive.seen

    return asyncio.run(run())


def test_a_program_that_takes_too_much_memory_is_stopped_and_the_run_says_so(tmp_path: Path) -> None:
    """It gets no more; Python ends with MemoryError, and a service that ends by itself is a failure."""
    verdict, seen = perform(tmp_path, GREEDY, Limits(memory_bytes=256 * MIB))
    assert verdict == "fail"
    assert seen.startswith("server exited with code 1 by itself")
    assert seen.endswith("its last line: 'MemoryError'")


def test_a_program_that_breeds_is_stopped_and_the_run_says_so(tmp_path: Path) -> None:
    """It gets no more processes than the limit, though it may be root."""
    verdict, seen = perform(tmp_path, PROLIFIC, Limits(memory_bytes=512 * MIB, processes=400))
    assert verdict == "fail"
    assert "BlockingIOError: [Errno 11] Resource temporarily unavailable" in seen


def test_limits_can_be_set_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment; half of the machine's memory where nothing is said."""
    monkeypatch.delenv(MEMORY_VARIABLE, raising=False)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert Limits.of_environment().memory_bytes == total // 2
    monkeypatch.setenv(MEMORY_VARIABLE, "3GiB")
    monkeypatch.setenv(PROCESSES_VARIABLE, "1000")
    assert Limits.of_environment() == Limits(3 * 2**30, 1000)
    for variable, value in ((MEMORY_VARIABLE, "a lot"), (PROCESSES_VARIABLE, "-1")):
        monkeypatch.setenv(variable, value)
        with pytest.raises(EnvironmentLacks, match=r"bad-limit"):
            Limits.of_environment()
        monkeypatch.delenv(variable)
