"""The docker testbed's parts that need no engine: frames, owners, subnets, models, removal that goes on past errors."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.core.plan import (
    At,
    ClientPlan,
    ComposeService,
    GroupPlan,
    ImageService,
    Plan,
    ReferenceService,
    Service,
    Step,
)
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker import derived, model
from midsession.testbeds.docker.attached import STDERR, STDOUT, Demultiplexer
from midsession.testbeds.docker.journal import Entry, Journal, pick_subnets
from midsession.testbeds.docker.owner import Owner, me
from midsession.testbeds.docker.reaper import Watch
from midsession.testbeds.docker.sweep import OWNER, PROJECT, orphans, remove_project, sweep
from midsession.testbeds.registry import choose

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
    assert not msgspec.structs.replace(dead, namespace="1").is_dead()
    assert not msgspec.structs.replace(dead, boot="another", machine="another").is_dead()
    assert not msgspec.structs.replace(dead, boot="another", machine="").is_dead()


def test_a_reused_pid_is_another_process() -> None:
    """The start time tells; and a machine that was booted anew has no process of before."""
    assert msgspec.structs.replace(me(), start=me().start - 1).is_dead()
    if me().machine:
        assert msgspec.structs.replace(me(), boot="before").is_dead()


def test_an_owner_survives_its_label() -> None:
    """Read back what was written; take nothing else for one."""
    assert Owner.parse(str(me())) == me()
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


# --- the model -----------------------------------------------------------------------------------------------------


def plan(services: list[Service], clients: int = 2) -> Plan:
    people = [ClientPlan(n + 1, 0.0, "00") for n in range(clients)]
    groups = [GroupPlan("askers", services[0].name, services[0].port, [], people)]
    return Plan("n", "n.scenario.yaml", 1, 10.0, services, groups, [], [])


REFERENCE = ReferenceService(name="server", port=4000)
IMAGE = ImageService(name="db", port=1, image="my/db", argv=["db", "$HOME"], env={"A": "$x"})


def test_every_container_is_fenced_in() -> None:
    """No privilege, no port, no name of its own; our own are read-only and have no capability at all."""
    made = model.project_of("p", plan([REFERENCE, IMAGE]), ipaddress.IPv4Network("10.213.0.0/27"), 2, MARKS).model
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
    assert made["networks"]["data"]["internal"] is True
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
        (step("reset", target="askers", client=2), {"client-2"}),
        (step("reset", target="askers", end="server"), {"server"}),
    ],
    ids=lambda value: f"{value.verb}-{value.args}" if isinstance(value, Step) else None,
)
def test_net_admin_is_where_a_fault_needs_it(broken: Step, able: set[str]) -> None:
    """The agent of a host that a fault of the plan breaks becomes an ordinary user with it; nobody else has it."""
    asked = msgspec.structs.replace(plan([REFERENCE, IMAGE]), timeline=[broken])
    made = model.project_of("p", asked, ipaddress.IPv4Network("10.213.0.0/27"), 2, MARKS).model["services"]
    assert {name for name, service in made.items() if "NET_ADMIN" in service.get("cap_add", [])} == able
    for name in able:
        assert made[name]["cap_add"] == ["NET_ADMIN", "SETGID", "SETUID"]
        assert made[name]["environment"]["MIDSESSION_USER"] == "1000"
    assert {name for name, service in made.items() if "user" in service} == able


def test_an_images_program_joins_the_network_of_its_agent() -> None:
    """The agent owns the service's name and address; the program's dollars stay dollars."""
    project = model.project_of("p", plan([REFERENCE, IMAGE]), ipaddress.IPv4Network("10.213.0.0/27"), 1, MARKS)
    services = project.model["services"]
    assert services["db.agent"]["networks"]["data"] == {"ipv4_address": "10.213.0.3", "aliases": ["db"]}
    assert services["db.program"]["network_mode"] == "service:db.agent"
    assert "networks" not in services["db.program"]
    assert (services["db.program"]["command"], services["db.program"]["environment"]) == (
        ["db", "$$HOME"],
        {"A": "$$x"},
    )
    assert len({host.address for host in project.hosts}) == 3


CANONICAL: dict[str, Any] = {
    "name": "app",
    "services": {
        "pg": {
            "build": {"context": "/app"},
            "container_name": "pg",
            "ports": [{"target": 1}],
            "hostname": "pg.example",
            "networks": {"back": {"aliases": ["postgres"]}},
            "depends_on": {"vault": {"condition": "service_healthy", "required": True}},
            "volumes": [{"type": "volume", "source": "data", "target": "/data"}],
        },
        "vault": {"image": "v", "networks": {"back": None}, "healthcheck": {"test": ["CMD", "true"]}},
        "worker": {"image": "w", "container_name": "w", "depends_on": {"pg": {"condition": "service_healthy"}}},
    },
    "networks": {"back": {"name": "app_back", "ipam": {}}, "wan": {"external": True, "name": "wan"}},
    "volumes": {"data": {"name": "app_data"}},
}


def adopted(canonical: dict[str, Any] = CANONICAL, service: str = "pg") -> model.Project:
    services: list[Service] = [ComposeService(name="db", port=5432, file="compose.yaml", service=service)]
    project = model.project_of("p", plan(services), ipaddress.IPv4Network("10.213.0.0/27"), 1, MARKS)
    back = {"back": ipaddress.IPv4Network("10.213.1.0/27")}
    derived.adopt(project, services, canonical, back, MARKS)
    return project


def test_a_compose_service_keeps_everything_but_its_network_side() -> None:
    """Names, networks and aliases go to its agent; volumes, build and dependencies stay."""
    services = adopted().model["services"]
    pg, agent = services["pg"], services["db.agent"]
    assert pg["network_mode"] == "service:db.agent"
    assert not {"networks", "hostname", "container_name", "ports"} & set(pg)
    assert (pg["volumes"], pg["depends_on"]) == (
        CANONICAL["services"]["pg"]["volumes"],
        CANONICAL["services"]["pg"]["depends_on"],
    )
    assert pg["image"] == "app-pg"
    assert agent["hostname"] == "pg.example"
    assert agent["networks"]["back"]["aliases"] == ["pg", "postgres"]
    assert agent["networks"]["data"]["aliases"] == ["db", "pg"]


def test_other_services_come_up_beside_it() -> None:
    """They wait for no service that the timeline starts, and collide with no other run."""
    project = adopted()
    assert project.beside == ["vault", "worker"]
    assert project.model["services"]["vault"]["healthcheck"] == {"test": ["CMD", "true"]}
    assert not {"depends_on", "container_name"} & set(project.model["services"]["worker"])
    assert project.model["networks"]["back"]["internal"] is True
    assert "name" not in project.model["networks"]["back"]
    assert project.model["networks"]["wan"] == {"external": True, "name": "wan"}
    assert project.model["volumes"]["data"] == {"labels": MARKS}
    open_ = {**CANONICAL, "networks": {"back": {"x-midsession": {"internal": False}}}}
    assert adopted(open_).model["networks"]["back"]["internal"] is False


@pytest.mark.parametrize(
    ("change", "service", "slug"),
    [
        ({}, "pgg", "no-such-compose-service"),
        ({"pg": {"image": "x", "network_mode": "host"}}, "pg", "compose-network-mode"),
        ({"client-1": {"image": "x"}}, "pg", "name-taken"),
    ],
)
def test_a_compose_file_that_cannot_be_taken_in_is_refused(change: dict[str, Any], service: str, slug: str) -> None:
    """With the name of what is in the way."""
    with pytest.raises(EnvironmentLacks, match=slug):
        adopted({**CANONICAL, "services": {**CANONICAL["services"], **change}}, service)


def test_auto_takes_docker_for_what_only_containers_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image or a Compose service; also a machine that lets nobody make namespaces."""
    monkeypatch.setattr("midsession.testbeds.registry._has_namespaces", lambda: True)
    assert choose("auto", [plan([REFERENCE])]) == "netns"
    assert choose("auto", [plan([REFERENCE]), plan([IMAGE])]) == "docker"
    monkeypatch.setattr("midsession.testbeds.registry._has_namespaces", lambda: False)
    assert choose("auto", [plan([REFERENCE])]) == "docker"


# --- removal -------------------------------------------------------------------------------------------------------


class FakeEngine:
    """An engine's API that holds labelled things, and whose n-th removal fails."""

    def __init__(self, fails_at: int = -1, owner: str = "") -> None:
        marked = {PROJECT: "p", OWNER: owner}
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
        if number == self.fails_at:
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
    assert orphans(engine) == {"p"}
    removed, problems = sweep(engine, "here", journal)
    assert (removed, len(problems), journal.has("p")) == ([], 1, True)
    removed, problems = sweep(engine, "here", journal)
    assert (len(removed), problems, journal.has("p")) == (1, [], False)
    assert orphans(FakeEngine(owner=str(me()))) == set()  # type: ignore[arg-type]
