"""The netns testbed on the real kernel: what a host is, what it cannot touch, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from midsession import rundir
from midsession.agent.protocol import Records, Start
from midsession.core.record import Event, decode_line
from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.errors import EnvironmentLacks
from midsession.language import plans
from midsession.testbeds.netns.testbed import NetnsTestbed
from tests.torture.netns_kills import HOSTS, torture

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "scenarios/lesson/server-dies.scenario.yaml"
KILL = ROOT / "scenarios/kill/server-dies-mid-session.scenario.yaml"
PATIENCE_S = 20.0

pytestmark = pytest.mark.netns


class Mailbox:
    """An inbox that keeps what comes, and can be waited on."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.exits = 0
        self._news = asyncio.Event()

    def records(self, batch: Records) -> None:
        for raw in batch.records:
            record = decode_line(bytes(raw), batch.host, batch.writer, batch.incarnation)
            if record.event == Event.LINE:
                self.lines.append(str(record.fields["text"]))
            self.exits += record.event == Event.EXITED
        self._news.set()

    def gone(self, host: str, why: str) -> None:
        raise AssertionError(f"{host} is gone: {why}")

    async def wait_for_exits(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.exits < count:
                self._news.clear()
                await self._news.wait()


SCENARIO = """
name: Two hosts
services:
  server: {reference: {behaviour: reply}, port: 4000}
clients:
  talkers:
    count: 1
    connect: server:4000
    script: [end]
checks:
  - never: {event: lost}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "two.scenario.yaml"
    path.write_text(SCENARIO)
    return path


@asynccontextmanager
async def opened(scenario: Path, directory: Path) -> AsyncIterator[tuple[NetnsTestbed, Mailbox]]:
    from midsession.agent.protocol import Subscribe

    testbed, inbox = NetnsTestbed(), Mailbox()
    directory.mkdir()
    try:
        await testbed.open(plans(scenario, 1)[0], "r", directory, inbox)
        for host in (*testbed.services.values(), *testbed.fleets):
            await host.ask(Subscribe(id=0, events=["line", "exited"]))
        yield testbed, inbox
        await testbed.close()
    finally:
        await testbed.shut()


async def output_of(scenario: Path, directory: Path, argv: Sequence[str]) -> list[str]:
    """What a program prints that is run on the host `server`."""
    async with opened(scenario, directory) as (testbed, inbox):
        await testbed.services["server"].ask(Start(id=0, argv=list(argv)))
        await inbox.wait_for_exits(1)
        return inbox.lines


def test_a_host_has_one_address_and_its_own_name(scenario: Path, tmp_path: Path) -> None:
    """A host sees a loopback, one Ethernet interface with its address, and its own name."""
    lines = asyncio.run(output_of(scenario, tmp_path / "run", ["ip", "-j", "address"]))
    links = {link["ifname"]: link for link in json.loads("".join(lines))}
    assert set(links) == {"lo", "eth0"}
    assert [a["local"] for a in links["eth0"]["addr_info"] if a["family"] == "inet"] == ["10.77.0.2"]
    assert asyncio.run(output_of(scenario, tmp_path / "again", ["hostname"])) == ["server"]


def test_hosts_know_each_other_by_name(scenario: Path, tmp_path: Path) -> None:
    """The names of the plan resolve by the host's own hosts file."""
    lines = asyncio.run(output_of(scenario, tmp_path / "run", ["getent", "hosts", "server"]))
    assert lines[0].split() == ["10.77.0.2", "server"]


def test_a_name_that_is_no_host_does_not_exist(scenario: Path, tmp_path: Path) -> None:
    """The world has a name service of its own: hosts by DNS too, and NXDOMAIN (not a time-out) for all else."""
    code = (
        "import socket\n"
        "for name in ('server', 'example.org'):\n"
        "    packet = b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(\n"
        "        bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n"
        "    s.sendto(packet, ('10.77.0.1', 53)); r = s.recv(512)\n"
        "    print(r[3] & 15, socket.inet_ntoa(r[-4:]) if r[7] else '-')\n"
        "try: socket.getaddrinfo('example.org', 80)\n"
        "except socket.gaierror as error: print(error.errno == socket.EAI_NONAME)\n"
    )
    lines = asyncio.run(output_of(scenario, tmp_path / "run", [sys.executable, "-c", code]))
    assert lines == ["0 10.77.0.2", "3 -", "True"]


def test_a_program_sees_no_process_but_its_host_s(scenario: Path, tmp_path: Path) -> None:
    """A host is a PID namespace with a /proc of its own: the agent is PID 1 in it."""
    code = "import os; print(*sorted(int(n) for n in os.listdir('/proc') if n.isdigit()), os.getpid())"
    (line,) = asyncio.run(output_of(scenario, tmp_path / "run", [sys.executable, "-c", code]))
    assert line == "1 2 2"


def test_a_program_can_write_nowhere_but_in_its_run_and_its_tmp(scenario: Path, tmp_path: Path) -> None:
    """The file system is read-only but for the run directory; /tmp is private and empty."""
    outside = tmp_path / "outside"
    outside.mkdir()
    places = [outside, ROOT, Path("/etc"), Path("/var/tmp"), tmp_path / "run", Path("/tmp")]
    code = (
        "import sys\n"
        "for place in sys.argv[1:]:\n"
        "    try: open(place + '/written', 'w').close(); print('written')\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )
    lines = asyncio.run(output_of(scenario, tmp_path / "run", [sys.executable, "-c", code, *map(str, places)]))
    assert lines[4:] == ["written", "written"]
    assert "written" not in lines[:4]
    assert not Path("/tmp/written").exists()


def test_a_service_that_needs_an_image_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """netns has no containers, and says which testbed has."""
    path = tmp_path / "image.scenario.yaml"
    path.write_text(SCENARIO.replace("reference: {behaviour: reply}", "image: redis"))
    testbed = NetnsTestbed()
    with pytest.raises(EnvironmentLacks, match="--testbed docker"):
        asyncio.run(testbed.open(plans(path, 1)[0], "r", tmp_path, Mailbox()))


# --- leave no trace ------------------------------------------------------------------------------------------------


def processes() -> dict[int, int]:
    """pid → parent pid of every process that is not a zombie, in all PID namespaces."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def descendants(of: int) -> set[int]:
    parents = processes()
    family = {of}
    while new := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= new
    return family


def wait_until_gone(pids: set[int]) -> None:
    """Wait on a pidfd of each, so that nothing is polled."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            import select

            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(PATIENCE_S * 1000), f"process {pid} lives on"
        finally:
            os.close(fd)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, in mid-session."""
    with subprocess.Popen(
        [sys.executable, "-m", "midsession", "run", str(KILL), "--testbed", "netns", "--runs", str(tmp_path / "runs")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " of 50 connected" in line:
                break
        yield process
        process.kill()


def test_a_harness_that_is_killed_at_random_leaves_nothing() -> None:
    """L1, in small: namespaces, links, mounts and processes are as before. In full: `tests.torture.netns_kills`."""
    done = list(torture(kills=4, within_s=PATIENCE_S))
    assert [one.left for one in done] == [set()] * 4
    assert sum(one.namespaces > HOSTS for one in done) >= 3, "the runs were fully built"


@pytest.mark.parametrize("attempt", range(2))
def test_a_killed_harness_leaves_nothing(harness: subprocess.Popen[str], attempt: int) -> None:
    """L1: SIGKILL of the harness in mid-run takes every process of its world with it."""
    family = descendants(harness.pid)
    assert len(family) >= 8, "the run was fully built"
    harness.kill()
    harness.wait(PATIENCE_S)
    wait_until_gone(family)


def test_an_interrupted_run_keeps_its_logs_and_leaves_nothing(harness: subprocess.Popen[str], tmp_path: Path) -> None:
    """L5: Ctrl-C ends the run in order: exit 2, logs and partial report kept, every process gone."""
    family = descendants(harness.pid)
    harness.send_signal(signal.SIGINT)
    assert harness.wait(PATIENCE_S) == 2
    wait_until_gone(family)
    (directory,) = (tmp_path / "runs").iterdir()
    history = rundir.read_history(directory)
    assert history.events("connected").count > 0
    assert (directory / "report.html").exists()


@pytest.mark.parametrize("fault", ["partition", "delay", "flap", "readdress"])
def test_the_machine_s_own_network_is_never_touched(tmp_path: Path, fault: str) -> None:
    """L4: links, addresses, routes, rules and mounts are the same before, during and after a run, and while a fault
    that writes rules, queues packets, switches links or moves addresses is in force.

    The machine is one of our own (a user, network and mount namespace with a bridge and rules), so that nobody else
    changes it meanwhile.
    """
    machine = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    scenario = ROOT / "scenarios/faults" / f"{fault}.scenario.yaml"
    command = [sys.executable, "-m", "tests.testbeds.untouched", str(tmp_path), str(scenario)]
    done = subprocess.run([*machine, *command], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    first = seen.pop("before")
    assert "br9" in first["ip -j link"]
    assert "rule-of-the-machine" in first["nft list ruleset"]
    assert "192.0.2.9" in first["iptables-save"]
    assert "7Mbit" in first["tc qdisc show"]
    assert len(seen) >= 6
    assert seen.keys() >= {"effective", "after"}
    assert {when for when, state in seen.items() if state != first} == set()


def test_no_privilege_is_needed(tmp_path: Path) -> None:
    """A process without capabilities runs a scenario: user namespaces are enough.

    Root keeps CAP_SETFCAP alone, which the kernel asks of whoever maps the machine's root into a user namespace
    (user_namespaces(7)); an ordinary user maps itself and needs none.
    """
    drop = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all", "--no-new-privs"]
    prefix = drop if os.geteuid() == 0 else []
    scenario = ROOT / "scenarios/lesson/server-dies.scenario.yaml"
    command = [sys.executable, "-m", "midsession", "run", str(scenario), "--testbed", "netns", "--runs", str(tmp_path)]
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout


def test_a_run_works_where_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench outlives a change of the working directory: relative run directories and commands mean the new one."""

    async def both() -> list[Run]:
        bench = Bench.of("netns", Path("runs"))
        try:
            made = []
            for name in ("first", "second"):
                (tmp_path / name).mkdir()
                monkeypatch.chdir(tmp_path / name)
                made.append(await bench.perform(lesson))
            return made
        finally:
            await bench.shut()

    (lesson,) = plans(LESSON, 1)
    runs = asyncio.run(both())
    assert [run.verdict.status for run in runs] == [Status.PASS] * 2
