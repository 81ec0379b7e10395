"""How the services of a Compose file come up beside the scenario's, in an engine that a test plays."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from midsession.errors import HarnessError
from midsession.testbeds.docker.dependencies import Wait
from midsession.testbeds.docker.model import HostOrder, Project
from midsession.testbeds.docker.neighbours import Neighbours
from tests.testbeds.test_docker_parts import PROJECT
from tests.waiting import eventually_here

APP = HostOrder("the-app", "server", "10.0.0.2", "the-app.agent", "app")
LATER = HostOrder("later", "server", "10.0.0.3", "later.agent", "later")
WITHIN_S = 20.0


class Events:
    """The engine's stream of events: what a test has put into it, as soon as it `comes`; then it is `over`."""

    def __init__(self, *events: Mapping[str, Any]) -> None:
        self._events, self.closed = events, False
        self.comes, self.over = threading.Event(), threading.Event()
        self.comes.set()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        self.comes.wait(WITHIN_S)
        yield from self._events
        self.over.set()

    def close(self) -> None:
        self.closed = True


class Engine:
    """An engine with one container for each service, and Compose, whose calls are `ups`. It starts what is brought up,
    with `health`; it is the testbed's `Workshop` as well."""

    def __init__(self, *services: str, events: Events | None = None) -> None:
        self.engine: Any = self
        self.api: Any = self
        self.states: dict[str, dict[str, Any]] = {name: {"Status": "created"} for name in services}
        self.health: dict[str, str] = {}
        self.ups: list[list[str]] = []
        self.said: dict[str, bytes] = {}
        self.published: dict[str, list[str]] = {}
        self.answers = threading.Event()
        self.answers.set()
        self._events = events or Events()

    async def call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    async def call_compose(self, _project: str, _file: Path, *words: str, **_: object) -> None:
        assert {"--no-deps", "--no-recreate", "--no-build"} <= set(words)
        wave = [word for word in words if word in self.states]
        self.ups.append(wave)
        for name in wave:
            self.states[name] = {"Status": "running", "Health": {"Status": self.health.get(name, "none")}}

    async def ports(self, name: str, _service: Mapping[str, Any], container: str) -> list[str]:
        assert self.states[container]["Status"] == "running"
        return self.published.get(name, [])

    def containers(self, **_: object) -> list[dict[str, Any]]:
        labels = {PROJECT: "p", "com.docker.compose.container-number": "1"}
        return [{"Id": name, "Labels": {**labels, "com.docker.compose.service": name}} for name in self.states]

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"State": self.states[name]}

    def events(self, **_: object) -> Events:
        return self._events

    def logs(self, name: str, *, stream: bool = False, stdout: bool = True, **_: object) -> Any:
        self.answers.wait(WITHIN_S)
        said = self.said.get(name, b"") if stdout else b""
        return iter([said]) if stream else said


class Ear:
    """The run, as far as it hears its testbed."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.doing: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def does(self, what: str) -> None:
        self.doing.append(what)


def neighbours(engine: Engine, ear: Any, beside: dict[str, set[str]], *waits: Wait, hosts: Any = (APP,)) -> Neighbours:
    needs = {name: frozenset(whom) for name, whom in beside.items()}
    services: dict[str, Any] = {"services": {name: {} for name in beside}}
    order = Project("p", ipaddress.IPv4Network("10.0.0.0/27"), list(hosts), services, needs, waits)
    return Neighbours(engine, order, Path("model.json"), ear, ear.does)  # type: ignore[arg-type]


def test_neighbours_come_up_in_waves_and_the_service_never_with_them() -> None:
    """First who needs nobody, then who needs what is up by now; each once."""
    engine, ear = Engine("app", "later", "db", "worker", "both"), Ear()
    engine.published["worker"] = ["published worker:80 at 0.0.0.0:8080"]
    beside = {"db": set[str](), "worker": {"app"}, "both": {"app", "later"}}
    made = neighbours(engine, ear, beside, hosts=(APP, LATER))

    async def main() -> None:
        await made.begin()
        assert (engine.ups, ear.notes) == ([["db"]], [])
        await made.after_start(APP, by_step=False)
        assert (engine.ups, ear.notes) == ([["db"], ["worker"]], engine.published["worker"])
        await made.after_start(LATER, by_step=True)

    asyncio.run(main())
    assert engine.ups == [["db"], ["worker"], ["both"]]
    assert engine.states["app"] == {"Status": "created"}


def test_what_the_service_waits_for_is_waited_for_and_named() -> None:
    """Until it is there; whoever waits too long is told what it was."""
    engine, ear = Engine("app", "db"), Ear()
    engine.health["db"] = "starting"
    made = neighbours(engine, ear, {"db": set()}, Wait("app", "db", "service_healthy"))

    async def main() -> None:
        doing = asyncio.ensure_future(made.begin())
        named = "waiting for db to be healthy, which app waits for: it is starting"
        await eventually_here(lambda: named in ear.doing, WITHIN_S, "the wait is named")
        assert not doing.done()
        engine.states["db"]["Health"]["Status"] = "healthy"
        async with asyncio.timeout(WITHIN_S):
            await doing

    asyncio.run(main())


def test_a_neighbour_waits_for_the_service_beyond_its_start() -> None:
    """A health check of the service's own counts; that it is down is not the end once the timeline is under way,
    since a step may start it."""
    engine, ear = Engine("app", "worker"), Ear()
    engine.states["app"] = {"Status": "exited", "ExitCode": 137}
    made = neighbours(engine, ear, {"worker": {"app"}}, Wait("worker", "app", "service_healthy"))

    async def main() -> None:
        await made.begin()
        doing = asyncio.ensure_future(made.after_start(APP, by_step=True))
        named = "waiting for app to be healthy, which worker waits for: it has exited with code 137"
        await eventually_here(lambda: named in ear.doing, WITHIN_S, "the wait is named")
        assert engine.ups == []
        engine.states["app"] = {"Status": "running", "Health": {"Status": "healthy"}}
        async with asyncio.timeout(WITHIN_S):
            await doing

    asyncio.run(main())
    assert engine.ups == [["worker"]]


def test_a_service_waits_for_another_that_is_up_by_now() -> None:
    """The run starts the later one when that is healthy, and not when it has started."""
    engine, ear = Engine("app", "later"), Ear()
    made = neighbours(engine, ear, {}, Wait("later", "app", "service_healthy"), hosts=(APP, LATER))
    engine.states["app"] = {"Status": "running", "Health": {"Status": "starting"}}

    async def main() -> None:
        await made.begin()
        assert ear.doing == []
        doing = asyncio.ensure_future(made.after_start(APP, by_step=False))
        named = "waiting for app to be healthy, which later waits for: it is starting"
        await eventually_here(lambda: named in ear.doing or doing.done(), WITHIN_S, "the wait is named")
        assert not doing.done()
        engine.states["app"]["Health"]["Status"] = "healthy"
        async with asyncio.timeout(WITHIN_S):
            await doing

    asyncio.run(main())


def test_what_can_never_be_is_an_error_unless_it_need_not_be() -> None:
    """`required: false` lets the service start without."""
    for required in (True, False):
        engine, ear = Engine("app", "db"), Ear()
        engine.health["db"], engine.said["db"] = "unhealthy", b"no disk\n"
        made = neighbours(engine, ear, {"db": set()}, Wait("app", "db", "service_healthy", required))
        if required:
            with pytest.raises(HarnessError, match=r"db to be healthy.*it is unhealthy; its last lines: no disk"):
                asyncio.run(made.begin())
        else:
            asyncio.run(made.begin())


@pytest.mark.parametrize("state", [{"Status": "running", "Health": {"Status": "unhealthy"}}, {"Status": "exited"}])
def test_before_the_timeline_nobody_starts_a_service_of_the_scenario_again(state: dict[str, Any]) -> None:
    """So what a neighbour waits for in vain is an error at once, with the words of the service."""
    engine, ear = Engine("app", "worker"), Ear()
    engine.states["app"], engine.said["app"] = state, b"no disk\n"
    made = neighbours(engine, ear, {"worker": {"app"}}, Wait("worker", "app", "service_healthy"))

    async def main() -> None:
        await made.begin()
        async with asyncio.timeout(WITHIN_S):
            await made.after_start(APP, by_step=False)

    with pytest.raises(
        HarnessError, match=r"app to be healthy, which worker .*cannot be: it .*no disk.*dependency-not"
    ):
        asyncio.run(main())
    assert engine.ups == []


def test_the_end_of_a_neighbour_is_told_and_what_it_said_is_kept(tmp_path: Path) -> None:
    """Not that of the service, of which the run knows by itself; a file for nothing is not there."""

    def event(action: str, service: str, **more: str) -> dict[str, Any]:
        return {"Action": action, "Actor": {"Attributes": {"com.docker.compose.service": service, **more}}}

    stream = Events(
        event("die", "worker", exitCode="7"), event("die", "app", exitCode="1"), event("health_status: unhealthy", "db")
    )
    engine, ear = Engine("app", "db", "worker", events=stream), Ear()
    engine.said["worker"] = b"oh\n"
    made = neighbours(engine, ear, {"db": set(), "worker": set()})
    (tmp_path / "logs").mkdir()

    async def main() -> None:
        await made.begin()
        await eventually_here(lambda: len(ear.notes) == 2, WITHIN_S, "two notes")
        engine.answers.clear()
        asyncio.get_running_loop().call_soon(engine.answers.set)
        await made.save_logs(tmp_path)
        logs.extend((tmp_path / "logs").iterdir())

    logs: list[Path] = []
    asyncio.run(main())
    assert ear.notes == ["worker of the Compose file has exited with code 7", "db of the Compose file is unhealthy"]
    assert {path.name: path.read_bytes() for path in logs} == {"worker.neighbour.1.stdout.log": b"oh\n"}
    assert stream.closed


def test_nothing_is_heard_of_neighbours_that_are_being_removed() -> None:
    """Their ends are the run's own doing by then; there may be nothing yet that could be heard."""
    stream = Events({"Action": "die", "Actor": {"Attributes": {"com.docker.compose.service": "db", "exitCode": "137"}}})
    engine, ear = Engine("app", "db", events=stream), Ear()
    made = neighbours(engine, ear, {"db": set()})

    async def main() -> None:
        made.close()
        stream.comes.clear()
        await made.begin()
        made.close()
        stream.comes.set()
        async with asyncio.timeout(WITHIN_S):
            await asyncio.to_thread(stream.over.wait)

    asyncio.run(main())
    assert (stream.closed, ear.notes) == (True, [])
