"""How services and fleets are started."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.core.contract import client_environment
from midsession.core.job import READY_LINE, Job, decode_job
from midsession.core.plan import (
    ClientPlan,
    CommandService,
    ComposeService,
    GroupPlan,
    ImageService,
    Program,
    ReferenceService,
)
from midsession.programs import programs_directory, start_client, start_fleet, start_service


@dataclass
class Image:
    """A host whose image has a Python of its own."""

    python: tuple[str, ...] = ("python3", "-B")
    programs: str | None = "/app"


def test_the_programs_are_where_they_are_looked_for() -> None:
    """Both, as packages that `python -m` can run from there."""
    for program in ("server", "client"):
        assert (programs_directory() / program / "__main__.py").is_file()


def test_the_reference_server_is_run_by_the_hosts_own_python() -> None:
    """With its behaviour, and with less time to end in than it is given before it is killed."""
    service = ReferenceService(name="server", port=4321, behaviour="echo", grace_s=5.0)
    start = start_service(service, Image(), "r", 7, fault="return")
    assert start.argv[:4] == ["python3", "-B", "-m", "server"]
    assert start.argv[4:] == ["--port", "4321", "--behaviour", "echo", "--grace", "4"]
    assert (start.cwd, start.fault) == ("/app", "return")


def test_a_command_is_run_as_it_stands() -> None:
    """Ready by its line where it has one, else when its port listens."""
    service = CommandService(name="db", port=5432, argv=["postgres", "-D", "$HOME; x"], env={"A": "b"}, cwd="/db")
    start = start_service(service, Image(), "r", 7)
    told = {"MIDSESSION_RUN": "r", "MIDSESSION_SEED": "7", "MIDSESSION_SERVICE": "db", "MIDSESSION_PORT": "5432"}
    assert (start.argv, start.env, start.cwd) == (["postgres", "-D", "$HOME; x"], {"A": "b", **told}, "/db")
    assert start.logs
    assert (start.ready_port, start.ready_line) == (5432, None)
    service = CommandService(name="db", port=5432, argv=["postgres"], ready_line="ready to accept")
    start = start_service(service, Image(), "r", 7)
    assert (start.ready_port, start.ready_line) == (None, "ready to accept")


def test_a_container_holds_what_it_runs() -> None:
    """Its host is told only when it counts as up, and which step starts it."""
    start = start_service(ImageService(name="db", port=1, image="postgres:17"), Image(), "r", 7, fault="return")
    assert (start.argv, start.ready_port, start.ready_line, start.fault) == ([], 1, None, "return")
    start = start_service(ImageService(name="db", port=1, image="postgres:17", ready_line="ready"), Image(), "r", 7)
    assert (start.ready_port, start.ready_line) == (None, "ready")
    compose = ComposeService(name="db", port=2, file="compose.yaml", service="pg")
    start = start_service(compose, Image(), "r", 7)
    assert (start.argv, start.ready_port, start.ready_line) == ([], 2, None)
    compose = ComposeService(name="db", port=2, file="compose.yaml", service="pg", ready_line="up")
    start = start_service(compose, Image(), "r", 7)
    assert (start.ready_port, start.ready_line) == (None, "up")


def test_a_client_program_is_told_who_it_is() -> None:
    """The contract's variables, which its own cannot hide; one in a container has them there."""
    program = Program(argv=["talk", "x"], env={"A": "b", "MIDSESSION_RUN": "mine"}, cwd="/c", files={"x": "text"})
    group = GroupPlan("drivers", "server", 4000, [], [ClientPlan(3, 0.0, "ab")], program=program)
    told = client_environment(group, group.clients[0], "r", 7, {"server": "10.0.0.2"})
    start = start_client(program, told)
    assert start.env == {
        "A": "b",
        "MIDSESSION_RUN": "r",
        "MIDSESSION_SEED": "7",
        "MIDSESSION_CLIENT": "drivers-3",
        "MIDSESSION_GROUP": "drivers",
        "MIDSESSION_NUMBER": "3",
        "MIDSESSION_HOST": "10.0.0.2",
        "MIDSESSION_PORT": "4000",
    }
    assert (start.argv, start.cwd, start.files, start.logs) == (["talk", "x"], "/c", {"x": "text"}, True)
    assert start_client(Program(image="my/driver"), told).argv == []


def test_a_client_program_may_be_told_no_address() -> None:
    """A group without `connect` knows its addresses by itself."""
    group = GroupPlan("drivers", "", 0, [], [ClientPlan(1, 0.0, "ab")], program=Program(argv=["talk"]))
    told = client_environment(group, group.clients[0], "r", 7, {"server": "10.0.0.2"})
    assert told["MIDSESSION_CLIENT"] == "drivers-1"
    assert not {"MIDSESSION_HOST", "MIDSESSION_PORT"} & told.keys()


def test_a_fleet_finds_its_job_in_a_file_that_the_agent_writes() -> None:
    """The argv names the file, the file holds the job, and readiness is the line that fleets print."""
    clients = [ClientPlan(number=3, arrive_s=0.5, key="ab")]
    job = Job(run="r", groups=[GroupPlan("g", "server", 1, [], clients)], addresses={"server": "10.0.0.2"})
    start = start_fleet(job, Image())
    assert start.argv[2:] == ["-m", "client", "--job", *start.files]
    assert [decode_job(text.encode()) for text in start.files.values()] == [job]
    assert start.ready_line == READY_LINE
