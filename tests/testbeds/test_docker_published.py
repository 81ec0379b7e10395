"""Ports that a Compose file asks to have published: reached from outside the run, and hit by its faults."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from midsession.core.record import Event, Record
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.runner.listener import Listener
from midsession.testbeds.docker import published
from tests.testbeds.test_docker_derived import adopted, changed
from tests.testbeds.test_docker_file import heard, perform, play, problems, program, python, written
from tests.waiting import eventually_here

WITHIN_S = 90.0
ASKS = {"x-midsession": {"ports": True}}
OPEN = {"x-midsession": {"internal": False}}


# --- what becomes of a file ----------------------------------------------------------------------------------------

PORT = {"target": 80, "protocol": "tcp", "mode": "ingress"}


def test_a_hosts_ports_are_its_agents_and_a_neighbours_its_own() -> None:
    """So that what comes in passes the interface where faults stand. Who does not ask has none."""
    file = changed({"pg": {"ports": [PORT], **ASKS}, "vault": {"ports": [PORT], **ASKS}}, {"back": OPEN})
    made = adopted(file).model["services"]
    assert made["db.agent"]["ports"] == [PORT]
    assert "ports" not in made["pg"]
    assert made["vault"]["ports"] == [PORT]
    file = changed({"pg": {"ports": [PORT]}, "vault": {"ports": [PORT], "x-midsession": {"ports": False}}})
    assert not [name for name, service in adopted(file).model["services"].items() if "ports" in service]


@pytest.mark.parametrize("far", [OPEN, {"external": True}])
def test_a_neighbours_way_out_may_be_a_network_of_its_own(far: dict[str, Any]) -> None:
    """The network under test stays internal."""
    made = adopted(changed({"vault": {"ports": [PORT], **ASKS}}, {"far": far})).model
    assert made["services"]["vault"]["ports"] == [PORT]
    assert made["networks"]["under-test"]["internal"] is True


def test_the_way_out_of_one_network_is_that_of_all_that_become_one_with_it() -> None:
    """Also of who is on another of them; and the engine's own bridge has always one."""
    made = adopted(
        changed(
            {"pg": {"networks": {"back": None, "front": None}}, "worker": {"ports": [PORT], **ASKS}}, {"front": OPEN}
        )
    ).model
    assert (made["services"]["worker"]["ports"], made["networks"]["under-test"]["internal"]) == ([PORT], False)
    alone = {"networks": None, "network_mode": "bridge", "ports": [PORT], **ASKS}
    assert adopted(changed({"vault": alone})).model["services"]["vault"]["ports"] == [PORT]


@pytest.mark.parametrize(
    ("services", "nets", "said"),
    [
        ({"pg": {"ports": [PORT], **ASKS}}, {}, "no network that it is on ('back') has a way out"),
        ({"vault": {"ports": [PORT], **ASKS}}, {}, "('back', 'far') has a way out"),
        ({"pg": {"ports": [PORT], **ASKS}}, {"far": OPEN}, "('back') has a way out"),
        ({"side": {"ports": [PORT], **ASKS}}, {"back": OPEN}, "its network is not its own (service:pg)"),
        ({"worker": ASKS}, {"back": OPEN}, "'worker' of compose.yaml asks that its ports be published"),
    ],
)
def test_ports_that_would_be_published_nowhere_are_refused(services: Any, nets: Any, said: str) -> None:
    """The engine publishes none on an internal network, and says nothing of it."""
    with pytest.raises(EnvironmentLacks, match=rf"{re.escape(said)}.*compose-ports-nowhere"):
        adopted(changed(services, nets))


@pytest.mark.parametrize(
    ("services", "nets", "said"),
    [
        ({"pg": {"x-midsession": {"port": True}}}, {}, "unknown key 'port'; did you mean 'ports'?"),
        ({"vault": {"x-midsession": {"ports": "yes"}}}, {}, "'ports' in x-midsession of the service 'vault' of "),
        ({"vault": {"x-midsession": True}}, {}, "is true; write it like {ports: true}"),
        ({}, {"far": {"x-midsession": {"intern": False}}}, "unknown key 'intern'; did you mean 'internal'?"),
        ({}, {"back": {"x-midsession": {"internal": None}}}, "is null; write true or false"),
    ],
)
def test_what_the_extension_does_not_know_is_refused(services: Any, nets: Any, said: str) -> None:
    """A typo would leave a port closed, or a network without its way out."""
    with pytest.raises(EnvironmentLacks, match=rf"{re.escape(said)}.*compose-extension"):
        adopted(changed(services, nets))


def test_the_extension_of_a_whole_file_is_refused() -> None:
    """It would mean nothing."""
    with pytest.raises(EnvironmentLacks, match="say it in a service or in a network"):
        adopted({**changed(), "x-midsession": {"ports": True}})


# --- what an engine says of it -------------------------------------------------------------------------------------

SERVICE = {"ports": [PORT | {"published": "8080"}, PORT | {"target": 53, "protocol": "udp"}]}
ENDPOINT = "driver failed programming external connectivity on endpoint p-web-1 (b115e7): "


@pytest.mark.parametrize(
    "said",
    [
        f"{ENDPOINT}Bind for 0.0.0.0:8080 failed: port is already allocated",
        f"{ENDPOINT}Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: address already in use",
        f"{ENDPOINT}failed to bind host port for 0.0.0.0:8080:172.19.0.2:80/tcp: address already in use",
        "Ports are not available: exposing port TCP 0.0.0.0:8080 -> 0.0.0.0:0: listen tcp 0.0.0.0:8080: bind: ...",
    ],
)
def test_a_taken_port_is_named_with_what_to_do(said: str) -> None:
    """Also by engines newer than the one here."""
    told = published.taken("web", SERVICE, HarnessError(f"docker compose up: {said}", "compose-failed"))
    assert told is not None
    assert str(told).startswith("port 8080 is taken, and the service 'web'")
    assert '(`ports: ["80", "53/udp"]`)' in str(told)
    assert "b115e7" not in str(told)
    assert told.slug == "port-taken"


def test_another_refusal_is_no_taken_port() -> None:
    """Nor is another's port, nor any of a service without ports."""
    other = HarnessError(f"{ENDPOINT}Bind for 0.0.0.0:80 failed: port is already allocated")
    assert published.taken("web", SERVICE, other) is None
    assert published.taken("web", SERVICE, HarnessError("no space left on device")) is None
    assert published.taken("web", {}, HarnessError("the name is already in use")) is None


def test_where_a_port_is_published_is_told_once_for_all_addresses() -> None:
    """IPv4 and IPv6 are one where the port is the same; one address alone is told as it is."""
    every = [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    one = [{"HostIp": "::1", "HostPort": "5353"}]
    found = {"State": {"Running": True}, "NetworkSettings": {"Ports": {"80/tcp": every, "53/udp": one, "9/tcp": None}}}
    assert published.told("web", SERVICE, found) == [
        "published web:80 at 0.0.0.0:8080",
        "published web:53/udp at [::1]:5353",
    ]
    assert published.told("web", SERVICE, {**found, "State": {"Running": False}}) == []
    with pytest.raises(HarnessError, match=r"the port 80/tcp of web.*port-not-published"):
        published.told("web", SERVICE, {**found, "NetworkSettings": {"Ports": {}}})


# --- on real containers --------------------------------------------------------------------------------------------


class Watcher(Listener):
    """What the run has told so far, for whoever waits for it on the same event loop."""

    def __init__(self) -> None:
        self.told: list[Record] = []
        self._news = asyncio.Event()

    def on_record(self, record: Record) -> None:
        self.told.append(record)
        self._news.set()

    async def until(self, look: Callable[[Record], str | None]) -> str:
        """What `look` finds in a record, once it finds something."""
        async with asyncio.timeout(WITHIN_S):
            while (found := next(filter(None, map(look, self.told)), None)) is None:
                self._news.clear()
                await self._news.wait()
            return found

    async def port(self, name: str) -> int:
        """Where a port of a service is published."""
        return int((await self.until(lambda r: _published(r, name))).rpartition(":")[2])

    async def effective(self, step: str) -> None:
        """That a step took effect."""
        await self.until(lambda r: step if r.event == Event.EFFECTIVE and r.fields["step"] == step else None)

    async def up(self) -> None:
        """That the service listens: before, the engine's proxy would take the connection, and drop it."""
        await self.until(lambda r: "yes" if r.event == Event.LISTENING and r.host == "app" else None)


def _published(record: Record, name: str) -> str | None:
    text = str(record.fields.get("text", ""))
    return text if record.event == Event.NOTE and text.startswith(f"published {name} at ") else None


class Visitor:
    """A connection from this machine's loopback."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Visitor:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def says(self, line: str, within_s: float = WITHIN_S) -> bytes:
        """The reply. Raises TimeoutError."""
        self._writer.write(f"{line}\n".encode())
        async with asyncio.timeout(within_s):
            return await self._reader.readline()

    def leaves(self) -> None:
        self._writer.close()


def open_file(**app: Any) -> dict[str, Any]:
    return {"services": {"app": python("server.py", **ASKS, **app)}, "networks": {"default": OPEN}}


docker = pytest.mark.docker


@docker
def test_a_fault_of_the_host_hits_who_comes_in_and_one_that_names_others_does_not(tmp_path: Path) -> None:
    """A visitor passes the host's one interface, and is none of the run's clients."""
    timeline: list[dict[str, Any]] = [
        {"id": "some", "when": heard("outside"), "partition": {"target": "app", "with": "talkers"}},
        {"id": "over", "when": heard("spared"), "heal": "some"},
        {"id": "whole", "when": {"after": "over"}, "partition": "app"},
        {"id": "healed", "when": {"after": "whole", "wait": "4s"}, "heal": "whole"},
        {"when": {"all": [{"after": "healed"}, heard("cut")]}, "signal": "goodbye"},
    ]
    scenario = written(tmp_path, open_file(ports=["4000"]), timeline)

    async def visit(watcher: Watcher) -> None:
        await watcher.up()
        visitor = await Visitor.to(await watcher.port("app:4000"))
        assert await visitor.says("outside") == b"pong\n"
        await watcher.effective("some")
        assert await visitor.says("spared") == b"pong\n"
        await watcher.effective("whole")
        with pytest.raises(TimeoutError):
            await visitor.says("cut", within_s=2)
        assert await visitor.says("ping") == b"pong\n", "the reply that had been cut off"
        visitor.leaves()

    async def main() -> None:
        watcher = Watcher()
        async with asyncio.TaskGroup() as both:
            playing = both.create_task(play(scenario, watcher))
            both.create_task(visit(watcher))
        assert playing.result().passed, playing.result().explain()

    asyncio.run(main())


def is_served(port: int) -> bool:
    """Whether there is a page at that port of this machine."""
    try:
        with urlopen(f"http://127.0.0.1:{port}", timeout=0.5) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


@docker
def test_two_runs_at_once_are_reached_at_ports_of_their_own(tmp_path: Path) -> None:
    """The engine chooses, and each run notes which; a neighbour is published beside the host, at its own address."""
    web = python("-m", "http.server", "80", **ASKS, ports=["127.0.0.1::80"])
    file = open_file(ports=["4000"])
    file["services"]["web"] = web
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    timeline = [{"when": heard("outside"), "signal": "goodbye"}]
    scenarios = [written(folder, file, timeline) for folder in folders]
    ports: list[int] = []
    both_up = asyncio.Barrier(2)

    async def visit(watcher: Watcher) -> None:
        await watcher.up()
        ports.extend([await watcher.port("app:4000"), await watcher.port("web:80")])
        await both_up.wait()
        # The engine's proxy accepts before the neighbour listens.
        await eventually_here(lambda: is_served(ports[-1]), 30, "a page of the neighbour's")
        visitor = await Visitor.to(await watcher.port("app:4000"))
        assert await visitor.says("outside") == b"pong\n"
        visitor.leaves()

    async def main() -> None:
        watchers = [Watcher(), Watcher()]
        async with asyncio.TaskGroup() as all_:
            runs = [all_.create_task(play(s, w)) for s, w in zip(scenarios, watchers, strict=True)]
            for watcher in watchers:
                all_.create_task(visit(watcher))
        for run in runs:
            assert run.result().passed, run.result().explain()

    asyncio.run(main())
    assert len(set(ports)) == 4


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port of this machine that a program holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@docker
@pytest.mark.parametrize("who", ["app", "web"])
def test_a_taken_port_is_an_error_with_its_name(tmp_path: Path, who: str) -> None:
    """Of a host and of a neighbour; nothing is left of the run."""
    with held_port() as port:
        file = open_file(ports=["4000"])
        file["services"]["web"] = program("sleep", "1000", **ASKS, ports=["127.0.0.1::80"])
        file["services"][who]["ports"] = [f"127.0.0.1:{port}:4000"]
        run = perform(tmp_path, file)
    assert run.why_ended == "error"
    assert f"port {port} is taken, and the service '{who}' of the Compose file" in problems(run)
    assert "[port-taken]" in problems(run)


@docker
def test_what_a_file_says_to_us_is_heard_through_compose(tmp_path: Path) -> None:
    """With its variables, also behind a profile: Compose's model in JSON alone would not have it."""
    file = open_file(profiles=["some"])
    file["services"]["app"]["x-midsession"] = {"ports": "${NOBODY_SET_THIS:-perhaps}"}
    with pytest.raises(EnvironmentLacks, match="is 'perhaps'; write true or false"):
        perform(tmp_path, file)
