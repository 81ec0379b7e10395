"""What of a project serves several runs, and how the containers of programs are made for one. Without an engine."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.core.plan import (
    At,
    ClientPlan,
    CommandService,
    ComposeService,
    Connect,
    GroupPlan,
    ImageService,
    Plan,
    Program,
    ReferenceService,
    Repeat,
    Service,
    Step,
    Wait,
)
from midsession.errors import HarnessError
from midsession.testbeds.docker import model
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.live import Lingering, is_denied, programs_of
from midsession.testbeds.docker.programs import Programs
from midsession.testbeds.docker.workshop import Workshop

NETWORK = ipaddress.IPv4Network("10.213.0.0/27")
AGENTS = {"db.agent": "agent-of-db", "drivers-1.agent": "agent-of-1", "drivers-2.agent": "agent-of-2"}


def plan(service: Service | None = None, clients: int = 2, image: str = "my/driver", **step: Any) -> Plan:
    """A service and a group of client programs, by image both."""
    served = service or ImageService(name="db", port=1, image="my/db", argv=["db", "$HOME"], env={"A": "$x"})
    people = [ClientPlan(n + 1, 0.0, "00") for n in range(clients)]
    group = GroupPlan("drivers", served.name, 1, [], people, program=Program(image=image, files={"a.py": "print()"}))
    timeline = [Step(id="step", when=At(at_s=1.0), args={"target": "db"}, **step)] if step else []
    return Plan("n", "n.scenario.yaml", 1, 10.0, [served], [group], timeline, [])


def order(asked: Plan, run: str = "r") -> model.Project:
    """The project of that plan."""
    return model.project_of("p", asked, run, NETWORK, 0, {"midsession.project": "p"})


SAME: list[Plan] = [
    plan(ImageService(name="db", port=2, image="other/db", env={"B": "y"}, files={"b": "text"}, argv=["other"])),
    plan(image="other/driver"),
    plan(verb="kill"),
]
OTHER: list[Plan] = [
    plan(clients=3),
    plan(ImageService(name="cache", port=1, image="my/db")),
    plan(verb="partition"),
    plan(ComposeService(name="db", port=1, file="compose.yaml", service="db.program")),
]


@pytest.mark.parametrize("asked", SAME)
def test_what_a_program_is_and_is_told_is_no_matter_of_the_project(asked: Plan) -> None:
    """Images, commands, environment, files and ports: another run of the same agents may have others."""
    assert order(asked, "another").lasting == order(plan()).lasting
    assert order(asked).may_last
    assert len(order(asked).of_images) == 3


@pytest.mark.parametrize("asked", OTHER)
def test_what_an_agent_is_and_may_do_is(asked: Plan) -> None:
    """Hosts, names, addresses, capabilities; a service of a Compose file is never served by a project that was kept."""
    made = order(asked)
    assert made.lasting != order(plan()).lasting or not made.may_last


COMMAND = CommandService(name="db", port=40000, argv=["db"])
OURS = ReferenceService(name="db", port=1)


ASKED = Lingering({1}, {1})
"""The service's port, which the last program asked for with SO_REUSEADDR."""


@pytest.mark.parametrize(
    ("service", "host", "left", "again", "denied"),
    [
        (None, "db", Lingering({1}), True, True),
        (None, "db", Lingering({33000}), False, False),
        (None, "db", Lingering({2}), False, True),
        (None, "drivers-1", Lingering({33000}), False, False),
        (None, "drivers-1", Lingering({5000}), False, True),
        (None, "db", ASKED, False, True),
        (None, "db", ASKED, True, False),
        (None, "db", Lingering({1, 2}, {1}), True, True),
        (COMMAND, "db", Lingering({40000}), False, True),
        (COMMAND, "db", Lingering({40001}), False, False),
        (OURS, "db", Lingering({1}), False, False),
    ],
)
def test_a_port_in_time_wait_that_a_program_may_ask_for_is_denied(
    service: Service | None, host: str, left: Lingering, again: bool, denied: bool
) -> None:
    """A service's own, and every port that the last program must have asked for; not those that a kernel gives out, nor
    what the same program gets again by SO_REUSEADDR."""
    lingering = {"drivers-2": Lingering(), host: left}
    assert is_denied(plan(service), lingering, {host} if again else ()) is denied


def test_a_port_in_time_wait_that_a_script_connects_from_is_denied() -> None:
    """However deep it stands in the script; any other is as good as free on a host of our own clients."""
    within = Repeat(script=[Wait(signal="go"), Repeat(script=[Connect(source_port=5000)], times=2)], times=2)
    group = GroupPlan("askers", "db", 1, [Connect(), within], [ClientPlan(1, 0.0, "00")])
    asked = msgspec.structs.replace(plan(OURS), groups=[group])
    assert is_denied(asked, {"client-1": Lingering({5000})})
    assert not is_denied(asked, {"client-1": Lingering({5001})})


def test_a_program_is_the_same_when_all_that_is_said_of_it_is() -> None:
    """And its image, which may have been built anew under its name."""
    images = {"my/db": "sha256:1", "my/driver": "sha256:2"}
    assert programs_of(plan(), images) == programs_of(plan(verb="kill"), images)
    assert set(programs_of(plan(), images)) == {"db", "drivers-1", "drivers-2"}
    rebuilt = programs_of(plan(), {**images, "my/driver": "sha256:3"})
    assert rebuilt["db"] == programs_of(plan(), images)["db"]
    assert rebuilt["drivers-1"] != programs_of(plan(), images)["drivers-1"]
    assert programs_of(SAME[0], images)["db"] != programs_of(plan(), images)["db"]


class FakeApi:
    """An engine's API that makes containers; the n-th call that changes something fails."""

    def __init__(self, fails_at: int = -1) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.put: list[str] = []
        self.removed: list[str] = []
        self._left = fails_at

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_container(self, image: str, command: list[str] | None, **options: Any) -> dict[str, str]:
        self._happens()
        identity = f"c{len(self.made)}"
        self.made[identity] = {"image": image, "command": command, **options}
        return {"Id": identity}

    def put_archive(self, container: str, _path: str, _data: bytes) -> None:
        self._happens()
        self.put.append(container)

    def remove_container(self, container: str, *, v: bool, force: bool) -> None:
        self._happens()
        assert v
        assert force
        self.removed.append(container)

    def _happens(self) -> None:
        import docker.errors

        self._left -= 1
        if self._left == -1:
            raise docker.errors.APIError("the disk is full")


class FakeEngine:
    """Calls the API at once."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import docker.errors

        try:
            return function(*arguments)
        except docker.errors.APIError as error:
            raise HarnessError(str(error), "docker-refused") from error


def workshop(api: FakeApi, state: Path) -> Workshop:
    """One whose engine has that API."""
    engine: Any = FakeEngine(api)
    nobody: Any = None
    return Workshop(engine, Journal(state), nobody, nobody)


def test_a_program_is_made_as_the_model_says(tmp_path: Path) -> None:
    """In its agent's network, fenced in, with its dollars, and with a name that the last one did not have."""
    api = FakeApi()
    programs = Programs(workshop(api, tmp_path))

    async def make() -> tuple[dict[str, str], dict[str, str]]:
        await programs.wait_until_gone()  # there was none
        first = await programs.make(order(plan()), AGENTS)
        programs.retire()
        await programs.wait_until_gone()
        return first, await programs.make(order(plan()), AGENTS)

    first, second = asyncio.run(make())
    assert set(first) == set(second) == {"db", "drivers-1", "drivers-2"}
    assert sorted(api.removed) == sorted(first.values())
    assert sorted(api.put) == sorted([*first.values(), *second.values()])
    assert len({made["name"] for made in api.made.values()}) == 6
    made = api.made[second["db"]]
    assert (made["image"], made["command"], made["environment"]["A"]) == ("my/db", ["db", "$HOME"], "$x")
    assert made["labels"]["midsession.project"] == "p"
    assert made["labels"]["com.docker.compose.service"] == "db.program"
    assert "com.docker.compose.config-hash" in made["labels"]  # else Compose does not see it
    service = order(plan()).model["services"]["db.program"]
    fence = {key: service[key] for key in ("cap_add", "cap_drop", "security_opt", "mem_limit", "pids_limit")}
    assert made["host_config"] == fence | {
        "network_mode": "container:agent-of-db",
        "log_config": {"type": "none", "config": {}},
        "ulimits": [{"name": "nofile", "soft": 20000, "hard": 20000}],
    }


@pytest.mark.parametrize("fails_at", range(6))
def test_a_program_that_cannot_be_made_is_told_when_all_others_are(tmp_path: Path, fails_at: int) -> None:
    """Each call fails in turn: the rest is done, so that nothing is under way any more."""
    api = FakeApi(fails_at)
    programs = Programs(workshop(api, tmp_path))
    with pytest.raises(HarnessError, match="the disk is full"):
        asyncio.run(programs.make(order(plan()), AGENTS))
    assert len(api.made) + len(api.put) in (4, 5)  # a container that was not made is given nothing


@pytest.mark.parametrize("fails_at", range(6, 9))
def test_a_program_that_cannot_be_removed_is_told_to_who_wants_to_go_on(tmp_path: Path, fails_at: int) -> None:
    """All others are removed; the project is no more of use."""
    api = FakeApi(fails_at)
    programs = Programs(workshop(api, tmp_path))

    async def make() -> None:
        await programs.make(order(plan()), AGENTS)
        programs.retire()
        await programs.wait_until_gone()

    with pytest.raises(HarnessError, match="the disk is full"):
        asyncio.run(make())
    assert len(api.removed) == 2


def test_who_waits_for_a_removal_may_be_cancelled(tmp_path: Path) -> None:
    """An interrupt at that moment: the removal goes on, and whoever takes the project away waits for it."""
    api = FakeApi()
    programs = Programs(workshop(api, tmp_path))

    async def make() -> None:
        await programs.make(order(plan()), AGENTS)
        programs.retire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await programs.wait_until_gone()
        await programs.wait_until_gone()

    asyncio.run(make())
    assert len(api.removed) == 3


class BusyEngine(FakeEngine):
    """Makes nothing before it is `free`; a call that has begun goes on though its asker was cancelled."""

    def __init__(self, api: FakeApi) -> None:
        super().__init__(api)
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.asked.set()
        await self.free.wait()
        return await super().call(function, *arguments)


def test_what_an_engine_is_making_is_waited_for_though_its_asker_was_cancelled(tmp_path: Path) -> None:
    """An interrupt at that moment: all that will come is there when the project is removed."""
    api = FakeApi()

    async def make() -> None:
        engine: Any = BusyEngine(api)
        nobody: Any = None
        programs = Programs(Workshop(engine, Journal(tmp_path), nobody, nobody))
        await programs.wait_until_made()  # nothing was asked for
        making = asyncio.ensure_future(programs.make(order(plan()), AGENTS))
        await engine.asked.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        asyncio.get_running_loop().call_soon(engine.free.set)
        await programs.wait_until_made()

    asyncio.run(make())
    assert (len(api.made), len(api.put)) == (3, 3)
