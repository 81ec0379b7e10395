"""The docker testbed's parts that need no engine: frames, owners, subnets, models, removal that goes on past errors."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import msgspec
import pytest

from midsession.agent.protocol import Freeze, Thaw
from midsession.core.logfile import read_log
from midsession.core.plan import (
    At,
    ClientPlan,
    GroupPlan,
    ImageService,
    Plan,
    Program,
    ReferenceService,
    Service,
    Step,
)
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker import archive, model, owner
from midsession.testbeds.docker.attached import STDERR, STDOUT, Demultiplexer, open_outputs
from midsession.testbeds.docker.container import ContainerHost
from midsession.testbeds.docker.journal import SUBNETS_VARIABLE, Entry, Journal, pick_subnets
from midsession.testbeds.docker.owner import Owner, me
from midsession.testbeds.docker.reaper import Watch, wait_until_harness_is_gone
from midsession.testbeds.docker.sweep import (
    OWNER,
    PROJECT,
    clear,
    labels,
    owners,
    remove_project,
    remove_unsettled,
    sweep,
    undecided,
)
from midsession.testbeds.docker.workshop import Workshop
from midsession.testbeds.registry import choose
from tests.agent.conductor import wait_dead

SPACE = ipaddress.IPv4Network("10.213.0.0/16")
MARKS = {PROJECT: "p", OWNER: "o"}


# --- attached streams ----------------------------------------------------------------------------------------------


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_frames_come_out_whole_wherever_they_are_cut() -> None:
    """Each stream's bytes are the same for every cut point."""
    data = frame(STDOUT, b"hello\n") + frame(STDERR, b"") + frame(STDERR, b"oh") + frame(STDOUT, b"world")
    for cut in range(len(data) + 1):
        frames = Demultiplexer()
        heard = {STDOUT: b"", STDERR: b""}
        for part in (data[:cut], data[cut:]):
            for stream, piece in frames.receive(part):
                heard[stream] += piece
        assert heard == {STDOUT: b"hello\nworld", STDERR: b"oh"}


def test_what_is_no_frame_is_an_error() -> None:
    """A container with a terminal sends no frames; its bytes must not be taken for lengths."""
    with pytest.raises(HarnessError, match="attach-garbled"):
        list(Demultiplexer().receive(b"plain text"))


def test_a_programs_garbled_stream_is_told_once() -> None:
    """What was said before counts; nothing after it is taken for output, and nothing is raised at the event loop."""
    heard, told = list[bytes](), list[HarnessError]()

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        outputs = await open_outputs(ours, lambda _, piece: heard.append(piece), told.append)
        with theirs:
            theirs.sendall(frame(STDOUT, b"hello\n") + b"a terminal says this\r\n")
            async with asyncio.timeout(20):
                await outputs.ended

    asyncio.run(main())
    assert heard == [b"hello\n"]
    assert [error.slug for error in told] == ["attach-garbled"]


# --- owners --------------------------------------------------------------------------------------------------------


def dead_owner() -> Owner:
    """A process of this machine that has been."""
    code = "from midsession.testbeds.docker.owner import me; print(me())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    owner = Owner.parse(done.stdout.strip())
    assert owner is not None
    return owner


def test_only_a_process_that_is_proven_dead_is_dead() -> None:
    """Not ourselves, not init, not one of another machine or of a PID namespace that we do not see."""
    dead = dead_owner()
    assert dead.is_dead()
    assert not me().is_dead()
    assert msgspec.structs.replace(dead, namespace="1").is_dead() == owner.sees_all()
    assert not msgspec.structs.replace(dead, boot="another", machine="another").is_dead()
    assert not msgspec.structs.replace(dead, boot="another", machine="").is_dead()


def test_a_reused_pid_is_another_process() -> None:
    """The start time tells; and a machine that was booted anew has no process of before."""
    assert msgspec.structs.replace(me(), start=me().start - 1).is_dead()
    if me().machine:
        earlier = msgspec.structs.replace(me(), boot="before")
        assert earlier.is_dead()
        assert not earlier.is_dead(machine_is_ours=False), "a clone of this machine, on the same engine far away"


def test_the_owner_in_a_namespace_that_is_gone_is_dead() -> None:
    """A harness in a CI container that was killed with its PID namespace; while anybody is in there, it lives.

    Only root in the first PID namespace sees every process: to anybody else it never is proven dead.
    """
    code = "from midsession.testbeds.docker.owner import me; import sys; print(me(), flush=True); sys.stdin.readline()"
    apart = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
    inside = subprocess.Popen(
        [*apart, sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert inside.stdout is not None
    found = Owner.parse(inside.stdout.readline().strip())
    assert found is not None
    assert found.namespace != me().namespace
    assert not found.is_dead()
    inside.communicate("go\n")
    assert found.is_dead() == owner.sees_all()


def test_an_owner_survives_its_label() -> None:
    """Read back what was written; take nothing else for one."""
    assert Owner.parse(labels("p", me())[OWNER]) == me()
    assert labels("p", me())[PROJECT] == "p"
    for text in ("", "x", "a/b/c/d/e", "//c/1/2", f"{me()}/more"):
        assert Owner.parse(text) is None


# --- subnets and the journal ---------------------------------------------------------------------------------------


def test_sixty_runs_at_once_have_subnets_of_their_own(tmp_path: Path) -> None:
    """From sixty threads with a journal each, as sixty processes would: no two overlap."""

    def begin(n: int) -> Entry:
        return Journal(tmp_path).begin(f"p{n}", "engine", [11, 3], ["10.213.0.0/24", "172.17.0.0/16"])

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(begin, range(60)))
    subnets = [ipaddress.IPv4Network(s) for entry in entries for s in entry.subnets]
    assert len(subnets) == 120
    assert len(set(subnets)) == 120
    assert all(s.subnet_of(SPACE) and not s.overlaps(ipaddress.IPv4Network("10.213.0.0/24")) for s in subnets)
    Journal(tmp_path).end("p7")
    assert sorted(e.project for e in Journal(tmp_path).entries()) == sorted(f"p{n}" for n in range(60) if n != 7)


def test_a_subnet_holds_its_hosts_and_a_full_range_says_so() -> None:
    """Network, gateway and broadcast are no host's; what is taken is stepped over, whatever its size."""
    for hosts, prefix in ((1, 27), (29, 27), (30, 26), (1000, 22)):
        (subnet,) = pick_subnets(SPACE, [hosts], [])
        assert (subnet.prefixlen, subnet.num_addresses >= hosts + 3) == (prefix, True)
    half = ipaddress.IPv4Network("10.213.0.0/17")
    (subnet,) = pick_subnets(SPACE, [5], [half])
    assert str(subnet) == "10.213.128.0/27"
    with pytest.raises(EnvironmentLacks, match="midsession prune"):
        pick_subnets(half, [5], [SPACE])


def test_subnets_may_be_taken_from_a_part_that_others_hardly_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sixteenth of the range, by chance; all of a range that is small already."""
    monkeypatch.setattr("random.choice", lambda parts: parts[-1])
    journal = Journal(tmp_path)
    assert journal.begin("near", "here", [5], []).subnets == ["10.213.0.0/27"]
    assert journal.begin("far", "here", [5], [], apart=True).subnets == ["10.213.240.0/27"]
    monkeypatch.setenv(SUBNETS_VARIABLE, "10.214.0.0/21")
    assert journal.begin("small", "here", [5], [], apart=True).subnets == ["10.214.0.0/27"]
    monkeypatch.setenv(SUBNETS_VARIABLE, "10.214.0.1/21")
    with pytest.raises(EnvironmentLacks, match="bad-subnets"):
        journal.begin("none", "here", [5], [])


def test_a_journal_is_its_users_own_and_nobody_waits_for_it_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made where it is missing; what has no entry any more may end once more."""
    monkeypatch.setattr("midsession.testbeds.docker.journal._LOCK_S", 0)
    journal = Journal(tmp_path / "state" / "docker")
    assert journal.directory.stat().st_mode & 0o777 == 0o700
    journal.end("nobody")
    with filelock.FileLock(journal.directory / "lock"), pytest.raises(HarnessError, match="journal-locked"):
        journal.begin("p", "here", [1], [])
    assert list(journal.entries()) == []


def test_where_no_journal_can_be_written_the_folder_and_the_remedy_are_told(tmp_path: Path) -> None:
    """A home that is none, a disk that takes no more: nothing was made in the engine by then."""
    (tmp_path / "home").write_text("")
    (tmp_path / "state" / "p.new").mkdir(parents=True)
    told = r"cannot be written \(.*\), .*XDG_STATE_HOME.*state-folder"
    with pytest.raises(EnvironmentLacks, match=f"home/docker {told}"):
        Journal(tmp_path / "home" / "docker")
    with pytest.raises(EnvironmentLacks, match=f"state {told}"):
        Journal(tmp_path / "state").begin("p", "here", [1], [])


def test_a_half_written_entry_is_nobodys(tmp_path: Path) -> None:
    """Its writer died before it made anything."""
    journal = Journal(tmp_path)
    (tmp_path / "torn.json").write_bytes(b'{"project":"to')
    assert list(journal.entries()) == []


def test_the_reaper_knows_what_was_begun_and_not_ended() -> None:
    """Whatever pieces the pipe hands it; a process that is gone is not followed."""
    for cut in range(20):
        watch = Watch()
        data = f"+a\n+b\n-a\n@{os.getpid()}\n@999999999\n".encode()
        watch.hear(data[:cut])
        watch.hear(data[cut:])
        assert watch.projects == {"b"}
        assert list(watch.children) == [os.getpid()]


@contextmanager
def running(*argv: str, group: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone in the end, in a `group` of its own or in ours."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=group) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if group else process.kill()


SLEEP = ("sleep", "600")


def test_the_reaper_ends_what_the_harness_has_started_and_nothing_else() -> None:
    """With all that is in its group. Who has the number of one that is gone lives on; who leads no group hinders it
    not."""
    with (
        running(*SLEEP) as groupless,
        running(*SLEEP, group=True) as other,
        running("sh", "-c", "sleep 600 & echo $!; wait", group=True) as started,
    ):
        assert started.stdout is not None
        inner = int(started.stdout.readline())
        watch = Watch()
        for process in (groupless, other, started):
            watch.hear(f"@{process.pid}\n".encode())
        watch.children[other.pid] -= 1
        watch.kill_children()
        assert started.wait(20) == -signal.SIGKILL
        wait_dead(inner)
        watch.kill_children()
        assert (groupless.poll(), other.poll()) == (None, None)


def test_the_reaper_waits_for_the_pipes_end_and_not_long_beyond_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may hold the pipe; what was told in it before counts, and what was started is ended."""
    monkeypatch.setattr("midsession.testbeds.docker.reaper._END_OF_PIPE_S", 0.05)
    with running(*SLEEP) as harness, running(*SLEEP, group=True) as started:
        life = os.pidfd_open(harness.pid)
        pipe, told = os.pipe()
        os.write(told, f"+p\n@{started.pid}\n".encode())
        harness.kill()
        harness.wait()
        watch = Watch()
        wait_until_harness_is_gone(pipe, life, watch)
        assert watch.projects == {"p"}
        assert started.wait(20) == -signal.SIGKILL
    with running(*SLEEP) as living:
        os.close(life)
        life = os.pidfd_open(living.pid)
        os.close(told)
        wait_until_harness_is_gone(pipe, life, Watch())
    os.close(life)
    os.close(pipe)


# --- the model -----------------------------------------------------------------------------------------------------


def plan(services: list[Service], clients: int = 2) -> Plan:
    people = [ClientPlan(n + 1, 0.0, "00") for n in range(clients)]
    groups = [GroupPlan("askers", services[0].name, services[0].port, [], people)]
    return Plan("n", "n.scenario.yaml", 1, 10.0, services, groups, [], [])


REFERENCE = ReferenceService(name="server", port=4000)
IMAGE = ImageService(name="db", port=1, image="my/db", argv=["db", "$HOME"], env={"A": "$x"})


def test_every_container_is_fenced_in() -> None:
    """No privilege, no port, no name of its own; our own are read-only and have no capability at all."""
    made = model.project_of("p", plan([REFERENCE, IMAGE]), "r", ipaddress.IPv4Network("10.213.0.0/27"), 2, MARKS).model
    assert set(made["services"]) == {"server", "db.agent", "db.program", "client-1", "client-2"}
    for name, service in made["services"].items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"mem_limit", "pids_limit", "ulimits"} <= set(service)
        assert not {"ports", "container_name", "privileged", "pid", "ipc"} & set(service)
        assert service["labels"] == MARKS
        if name != "db.program":
            assert service["read_only"]
            assert "cap_add" not in service
    assert made["networks"][model.DATA]["internal"] is True
    assert "NET_ADMIN" not in str(made)


def step(verb: str, **args: Any) -> Step:
    return Step(id="step", when=At(at_s=1.0), verb=verb, args=args)


@pytest.mark.parametrize(
    ("broken", "able"),
    [
        (step("kill", target="db"), set[str]()),
        (step("partition", target="db"), {"db.agent"}),
        (step("loss", target="server", every=2), {"server"}),
        (step("flap", target="askers", up_s=1.0, down_s=1.0, times=1), {"client-1", "client-2"}),
        (step("reset", target="askers"), {"client-1", "client-2"}),
        (step("reset", target="askers-2"), {"client-2"}),
        (step("reset", target="askers", end="server"), {"server"}),
    ],
    ids=lambda value: f"{value.verb}-{value.args}" if isinstance(value, Step) else None,
)
def test_net_admin_is_where_a_fault_needs_it(broken: Step, able: set[str]) -> None:
    """The agent of a host that a fault of the plan breaks becomes an ordinary user with it; nobody else has it."""
    asked = msgspec.structs.replace(plan([REFERENCE, IMAGE]), timeline=[broken])
    made = model.project_of("p", asked, "r", ipaddress.IPv4Network("10.213.0.0/27"), 2, MARKS).model["services"]
    assert {name for name, service in made.items() if "NET_ADMIN" in service.get("cap_add", [])} == able
    for name in able:
        assert made[name]["cap_add"] == ["NET_ADMIN", "NET_RAW", "SETGID", "SETUID"]
        assert made[name]["environment"]["MIDSESSION_USER"] == "1000"
    assert {name for name, service in made.items() if "user" in service} == able


def test_a_host_that_is_to_move_has_an_address_in_reserve() -> None:
    """Behind those of all hosts, and the engine gives it to nobody; every agent has the power to tell of the move."""
    network = ipaddress.IPv4Network("10.213.0.0/27")
    asked = msgspec.structs.replace(plan([REFERENCE, IMAGE]), timeline=[step("readdress", target="db")])
    made = model.project_of("p", asked, "r", network, 2, MARKS)
    assert {host.name: host.spare for host in made.hosts} == {
        "server": None,
        "db": "10.213.0.6",
        "client-1": None,
        "client-2": None,
    }
    assert {host.address for host in made.hosts} == {f"10.213.0.{n}" for n in range(2, 6)}
    reserved = {"subnet": str(network), "aux_addresses": {"db": "10.213.0.6"}}
    assert made.model["networks"][model.DATA]["ipam"] == {"config": [reserved]}
    able = {name for name, service in made.model["services"].items() if "NET_ADMIN" in service.get("cap_add", [])}
    assert able == {"server", "db.agent", "client-1", "client-2"}


def test_a_project_without_that_reserve_serves_no_run_that_needs_it() -> None:
    """Nor one of another host's."""
    network = ipaddress.IPv4Network("10.213.0.0/27")
    moves = [[], [step("readdress", target="server")], [step("readdress", target="db")]]
    plans = [msgspec.structs.replace(plan([REFERENCE, IMAGE]), timeline=timeline) for timeline in moves]
    hosts = [model.hosts_of(asked, network, 1) for asked in plans]
    assert hosts[0] != hosts[1] != hosts[2] != hosts[0]


@pytest.mark.parametrize("verb", ["readdress", "dns"])
def test_a_client_in_an_image_is_told_the_name_where_it_is_to_look_it_up(verb: str) -> None:
    """Who is told the address could not notice that the name leads elsewhere."""
    more = {"says": "nxdomain"} if verb == "dns" else {}
    of_image = driven(Program(image="my/driver", argv=["run"]))
    asked = msgspec.structs.replace(of_image, timeline=[step(verb, target="server", **more)])
    made = model.project_of("p", asked, "r", ipaddress.IPv4Network("10.213.0.0/27"), 1, MARKS)
    assert made.model["services"]["drivers-2.program"]["environment"]["MIDSESSION_HOST"] == "server"


def test_an_images_program_joins_the_network_of_its_agent() -> None:
    """The agent owns the service's name and address; the program's dollars stay dollars."""
    project = model.project_of("p", plan([REFERENCE, IMAGE]), "r", ipaddress.IPv4Network("10.213.0.0/27"), 1, MARKS)
    services = project.model["services"]
    assert services["db.agent"]["networks"][model.DATA] == {"ipv4_address": "10.213.0.3", "aliases": ["db"]}
    assert services["db.program"]["network_mode"] == "service:db.agent"
    assert "networks" not in services["db.program"]
    assert (services["db.program"]["command"], services["db.program"]["environment"]) == (
        ["db", "$$HOME"],
        {
            "A": "$$x",
            "MIDSESSION_RUN": "r",
            "MIDSESSION_SEED": "1",
            "MIDSESSION_SERVICE": "db",
            "MIDSESSION_PORT": "1",
            "MIDSESSION_LOGS": "/logs",
        },
    )
    assert len({host.address for host in project.hosts}) == 3


def driven(program: Program) -> Plan:
    """Two client programs beside the two scripted clients."""
    asked = plan([REFERENCE])
    people = [ClientPlan(n, 0.0, "00") for n in (1, 2)]
    drivers = GroupPlan("drivers", "server", 4000, [], people, program=program)
    return msgspec.structs.replace(asked, groups=[*asked.groups, drivers])


def test_a_client_program_has_a_host_of_its_own() -> None:
    """Of an image a pair, whose program knows who it is and finds its files; of a command one of our own containers."""
    network = ipaddress.IPv4Network("10.213.0.0/27")
    of_image = driven(Program(image="my/driver", argv=["run", "a.py", "$x"], files={"a.py": "print()"}))
    made = model.project_of("p", of_image, "r", network, 1, MARKS)
    assert [(host.name, host.program, host.files) for host in made.hosts] == [
        ("server", None, None),
        ("drivers-1", "drivers-1.program", {"a.py": "print()"}),
        ("drivers-2", "drivers-2.program", {"a.py": "print()"}),
        ("client-1", None, None),
    ]
    second = made.model["services"]["drivers-2.program"]
    assert second["command"] == ["run", "/midsession/a.py", "$$x"]
    assert second["network_mode"] == "service:drivers-2.agent"
    told = second["environment"]
    assert (told["MIDSESSION_CLIENT"], told["MIDSESSION_NUMBER"]) == ("drivers-2", "2")
    assert (told["MIDSESSION_HOST"], told["MIDSESSION_PORT"]) == (made.hosts[0].address, "4000")
    of_command = model.project_of("p", driven(Program(argv=["driver"])), "r", network, 1, MARKS)
    assert [host.program for host in of_command.hosts] == [None] * 4
    assert set(of_command.model["services"]) == {"server", "drivers-1", "drivers-2", "client-1"}
    assert model.fleets_for(of_image, None) == 1


# --- files into and out of containers ------------------------------------------------------------------------------


def test_files_are_packed_for_all_to_read() -> None:
    """And there is a directory for logs that anybody may write to."""
    with tarfile.open(fileobj=io.BytesIO(archive.packed({"a.py": "é"}))) as tar:
        entries = {entry.name: (entry.isdir(), oct(entry.mode), entry.size) for entry in tar}
    assert entries == {
        "logs": (True, "0o1777", 0),
        "midsession": (True, "0o755", 0),
        "midsession/a.py": (False, "0o444", 2),
    }
    assert archive.path_of("a.py") == "/midsession/a.py"


def hostile() -> bytes:
    """What a program may have made of its directory for logs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, len(content)
            tar.addfile(entry, io.BytesIO(content))

        add("logs", tarfile.DIRTYPE)
        for name in ("logs/../../out", "/logs/out", "../out", "logs/.hidden", "logs/inner/file", "logs/a\nb", "logs"):
            add(name, content=b"bad")
        add("logs/passwd", tarfile.SYMTYPE, "/etc/passwd")
        add("logs/hard", tarfile.LNKTYPE, "logs/passwd")
        add("logs/null", tarfile.CHRTYPE)
        add("logs/pipe", tarfile.FIFOTYPE)
        add("logs/trace.txt", content=b"traced" * 1000)
    return data.getvalue()


@pytest.mark.parametrize("piece", [1, 511, 513, 10**9])
def test_only_plain_files_come_out_of_a_container(tmp_path: Path, piece: int) -> None:
    """Whatever a program has put there, and in whatever pieces the engine hands it over."""
    data = hostile()
    into = tmp_path / "run" / "logs"
    into.parent.mkdir()
    archive.unpack_logs((data[at : at + piece] for at in range(0, len(data), piece)), into)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {"run/logs/trace.txt"}
    assert (into / "trace.txt").read_bytes() == b"traced" * 1000


def test_an_empty_directory_for_logs_leaves_nothing(tmp_path: Path) -> None:
    """Not even a directory."""
    archive.unpack_logs([archive.packed({})], tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_auto_takes_docker_for_what_only_containers_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image or a Compose service; also a machine that lets nobody make namespaces."""
    monkeypatch.setattr("midsession.testbeds.registry._works", lambda command: True)
    assert choose("auto", [plan([REFERENCE])]) == "netns"
    assert choose("auto", [plan([REFERENCE]), plan([IMAGE])]) == "docker"
    monkeypatch.setattr("midsession.testbeds.registry._works", lambda command: command[0] == "docker")
    assert choose("auto", [plan([REFERENCE])]) == "docker"


# --- a program's end -----------------------------------------------------------------------------------------------


class FakeContainer:
    """An engine's API with one container, which refuses to be killed; it `runs` or has ended just now."""

    def __init__(self, runs: bool) -> None:
        self._runs = runs

    def kill(self, container: str, signal: str) -> None:
        import docker.errors

        raise docker.errors.APIError(f"Cannot kill container: {container}: Container {container} is not running")

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": self._runs}}


class NoLink:
    """An agent that is not asked."""

    inbox: Any = None


@pytest.mark.parametrize("runs", [False, True])
def test_a_program_that_ended_just_before_it_was_killed_is_dead_enough(runs: bool) -> None:
    """The engine refuses to kill what does not run; one that runs and cannot be killed is told."""

    async def end() -> None:
        api: Any = FakeContainer(runs)
        link: Any = NoLink()
        await ContainerHost("cache", "10.0.0.2", api, "c0", link, link)._end_now()

    with pytest.raises(HarnessError, match="agent-refused") if runs else nullcontext():
        asyncio.run(end())


class FakeFreezer:
    """An engine's API with one container, which can be paused while it `runs`."""

    def __init__(self, runs: bool) -> None:
        self._runs, self.paused = runs, False
        self.calls: list[str] = []

    def pause(self, container: str) -> None:
        self._switch("pause", container, True)

    def unpause(self, container: str) -> None:
        self._switch("unpause", container, False)

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": self._runs, "Paused": self.paused, "Status": "running"}}

    def _switch(self, call: str, container: str, paused: bool) -> None:
        import docker.errors

        self.calls.append(call)
        if not self._runs:
            raise docker.errors.APIError(f"Container {container} is not running")
        self.paused = paused


class Running(NamedTuple):
    """What a host knows of its program."""

    runs: bool

    def close(self) -> None: ...


class SilentLink(NoLink):
    """An agent that has nothing to say."""

    async def ask(self, request: Any) -> None: ...

    def records(self, batch: Any) -> None: ...


@pytest.mark.parametrize(("runs", "calls"), [(False, ["pause"]), (True, ["pause", "unpause"])])
def test_a_freeze_that_is_healed_at_once_is_healed(tmp_path: Path, runs: bool, calls: list[str]) -> None:
    """Its cure waits for what it does, and has nothing to do where it could do nothing."""
    api: Any = FakeFreezer(runs)

    async def play() -> list[Any]:
        link: Any = SilentLink()
        host: Any = ContainerHost("cache", "10.0.0.2", api, "c0", link, link)
        host._program = Running(runs)
        (tmp_path / "events").mkdir()
        await host.configure("r", 1, "p", tmp_path)
        asked = [host.ask(Freeze(id=0, fault="hang")), host.ask(Thaw(id=0, fault="hang", cure=True))]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        host.close()
        return answers

    freeze, cure = asyncio.run(play())
    assert isinstance(freeze, HarnessError) is not runs
    assert not isinstance(cure, BaseException)
    assert (api.calls, api.paused) == (calls, False)
    (book,) = (tmp_path / "events").iterdir()
    events = [r.event for r in read_log(book.read_bytes()).records]
    assert events == (["injected", "frozen", "thawed", "healed"] if runs else [])


# --- removal -------------------------------------------------------------------------------------------------------


class FakeEngine:
    """An engine's API that holds labelled things, and whose n-th removal fails."""

    def __init__(self, fails_at: int = -1, owner: str = "", late: Collection[int] = (), stays: str = "") -> None:
        """`late`: a network of the project appears whenever the engine is asked for its networks for the n-th time.
        `stays`: what is called so cannot be removed."""
        marked = {PROJECT: "p", OWNER: owner}
        self._late, self.asked, self.stays = late, 0, stays
        self.things = {
            "containers": [{"Id": f"c{n}", "Names": [f"/c{n}"], "Labels": marked} for n in range(2)],
            "networks": [{"Id": "n0", "Name": "n0", "Labels": marked}],
            "volumes": [{"Name": "v0", "Labels": marked}],
        }
        self.fails_at = fails_at
        self.calls = 0

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return list(self.things["containers"])

    def networks(self, **_: object) -> list[dict[str, Any]]:
        self.asked += 1
        if self.asked in self._late:
            self.things["networks"].append({"Id": "late", "Name": "late", "Labels": {PROJECT: "p"}})
        return list(self.things["networks"])

    def volumes(self, **_: object) -> dict[str, Any]:
        return {"Volumes": list(self.things["volumes"]) or None}

    def remove_container(self, name: str, **_: object) -> None:
        self._remove("containers", "Id", name)

    def remove_network(self, name: str) -> None:
        self._remove("networks", "Id", name)

    def remove_volume(self, name: str) -> None:
        self._remove("volumes", "Name", name)

    def _remove(self, kind: str, key: str, name: str) -> None:
        import docker.errors

        number, self.calls = self.calls, self.calls + 1
        if number == self.fails_at or name == self.stays:
            raise docker.errors.APIError("the disk is full")
        self.things[kind] = [thing for thing in self.things[kind] if thing[key] != name]

    def left(self) -> Iterator[Any]:
        return (thing for things in self.things.values() for thing in things)


@pytest.mark.parametrize("fails_at", range(4))
def test_removal_goes_on_past_every_error_and_tells_of_it(fails_at: int) -> None:
    """Each call fails in turn: everything else is gone, and the one that is not is named."""
    engine: Any = FakeEngine(fails_at)
    problems = remove_project(engine, "p")
    assert len(problems) == 1
    assert "the disk is full" in problems[0]
    assert (engine.calls, len(list(engine.left()))) == (4, 1)
    assert remove_project(engine, "p") == []
    assert list(engine.left()) == []


def test_a_sweep_that_fails_keeps_its_entry(tmp_path: Path) -> None:
    """So that the next one tries again; an owner that lives is left alone."""
    journal = Journal(tmp_path)
    engine: Any = FakeEngine(fails_at=2, owner=str(dead_owner()))
    journal.begin("p", "here", [1], [])
    assert owners(engine)["p"].is_dead()
    removed, problems = sweep(engine, "here", journal)
    assert (removed, len(problems), [entry.project for entry in journal.entries()]) == ([], 1, ["p"])
    removed, problems = sweep(engine, "here", journal)
    assert (len(removed), problems, list(journal.entries())) == (1, [], [])
    alive: Any = FakeEngine(owner=str(me()))
    assert sweep(alive, "here", journal) == ([], [])


def test_whose_owner_nobody_can_look_at_is_named_and_left_alone(tmp_path: Path) -> None:
    """It goes when it is asked for by its name, and not otherwise."""
    afar = msgspec.structs.replace(me(), machine="another", boot="another")
    engine: Any = FakeEngine(owner=str(afar))
    journal = Journal(tmp_path)
    assert sweep(engine, "here", journal) == ([], [])
    assert undecided(engine, "here", journal) == ["p"]
    removed, problems = clear(engine, journal, "p")
    assert (len(removed), problems, undecided(engine, "here", journal)) == (4, [], [])
    assert undecided(FakeEngine(owner=str(me())), "here", journal) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("late", "scans"), [(2, 3), (5, 3), (8, 3), (14, 8)])
def test_what_an_engine_makes_for_nobody_is_taken_away(late: int, scans: int) -> None:
    """A request whose asker was killed is carried out all the same: one look that finds nothing proves nothing."""
    engine: Any = FakeEngine(late=[late])
    assert remove_unsettled(engine, ["p"], within_s=20, scans=scans) == []
    assert list(engine.left()) == []
    assert engine.calls == 5


def test_whatever_comes_late_makes_the_wait_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has found something has proven that requests are under way: as many empty looks as before are due again."""
    monkeypatch.setattr(sys.modules[remove_unsettled.__module__], "_PAUSE_S", 0)
    engine: Any = FakeEngine(late=[5, 11])
    assert remove_unsettled(engine, ["p"], within_s=20, scans=3) == []
    assert (list(engine.left()), engine.calls, engine.asked) == ([], 6, 2 * 9)


def test_what_cannot_be_taken_away_is_named() -> None:
    """At the end of its time, and not forgotten."""
    engine: Any = FakeEngine(fails_at=2)
    assert remove_unsettled(engine, ["p"], within_s=0) == ["n0 cannot be removed: the disk is full"]


class Interrupted:
    """Stands for Compose, an engine's door and a guard; the Compose call is broken off, and makes a network later."""

    def __init__(self, api: FakeEngine) -> None:
        self.api, self.host = api, "here"
        self.begun: list[str] = []
        self.told: list[str] = []

    async def call(self, *words: Any, **_: object) -> Any:
        if words[0] == "--project-name":
            raise asyncio.CancelledError
        function, *arguments = words
        return function(*arguments)

    def begins(self, project: str) -> None:
        self.begun.append(project)

    def ended(self, project: str) -> None:
        self.told.append(project)


def test_a_project_is_known_before_anything_of_it_is_made(tmp_path: Path) -> None:
    """To the journal and to the reaper, by a name of its own; its subnets are none that the engine has."""
    api = FakeEngine()
    configs: list[Any] = [
        {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.213.0.0/24"}, {}]},
        {"Config": None},
        None,
    ]
    api.things["networks"] = [{"IPAM": config} for config in configs]
    parts: Any = Interrupted(api)
    workshop = Workshop(parts, Journal(tmp_path), parts, parts)
    first, second = (asyncio.run(workshop.begin(sizes)) for sizes in ([5, 40], [3]))
    assert parts.begun == [first.project, second.project]
    assert sorted(Journal(tmp_path).entries(), key=lambda e: e.project != first.project) == [first, second]
    assert first.project != second.project
    assert (first.engine, first.subnets, second.subnets) == (
        "here",
        ["10.213.1.0/27", "10.213.1.64/26"],
        ["10.213.1.32/27"],
    )


def test_a_project_that_came_to_a_good_end_is_removed_at_once(tmp_path: Path) -> None:
    """One look tells that nothing is left: what was made well is not waited for."""
    api = FakeEngine()
    parts: Any = Interrupted(api)
    workshop = Workshop(parts, Journal(tmp_path), parts, parts)
    with workshop.unsettled("p"), workshop.unsettled("p"):
        pass
    asyncio.run(workshop.remove("p"))
    assert (list(api.left()), parts.told, api.asked) == ([], ["p"], 2)


def test_what_is_left_of_a_project_is_told_and_stays_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reaper goes on watching it, too, until it is gone."""
    monkeypatch.setattr("midsession.testbeds.docker.workshop._AGAIN_WITHIN_S", 0)
    api = FakeEngine(stays="n0")
    parts: Any = Interrupted(api)
    journal = Journal(tmp_path)
    journal.begin("p", "here", [1], [])
    workshop = Workshop(parts, journal, parts, parts)
    with pytest.raises(HarnessError, match=r"n0 cannot be removed: the disk is full.*cleanup-failed"):
        asyncio.run(workshop.remove("p"))
    assert ([entry.project for entry in journal.entries()], parts.told) == (["p"], [])
    api.stays = ""
    asyncio.run(workshop.remove("p"))
    assert (list(journal.entries()), parts.told) == ([], ["p"])


def test_what_an_engine_would_not_remove_at_first_is_tried_again(tmp_path: Path) -> None:
    """A network is in use until its container is quite gone."""
    api = FakeEngine(fails_at=2)
    parts: Any = Interrupted(api)
    asyncio.run(Workshop(parts, Journal(tmp_path), parts, parts).remove("p"))
    assert (list(api.left()), parts.told) == ([], ["p"])


def test_a_project_whose_compose_was_broken_off_is_looked_after_for_longer(tmp_path: Path) -> None:
    """Nothing of it is left when it is said to be gone, though something else of it was made well meanwhile."""
    api = FakeEngine(late=[3])
    parts: Any = Interrupted(api)
    workshop = Workshop(parts, Journal(tmp_path), parts, parts)

    async def main() -> None:
        with workshop.unsettled("p"), pytest.raises(asyncio.CancelledError):
            await workshop.call_compose("p", tmp_path, "create")
        await workshop.remove("p")

    asyncio.run(main())
    assert (list(api.left()), parts.told) == ([], ["p"])
    assert api.calls == 5  # what came late was there, and went
