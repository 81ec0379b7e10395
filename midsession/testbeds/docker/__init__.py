"""The docker testbed: one Compose project for each run, with networks of its own, and nothing left of it afterwards.

Compose makes the containers (`docker compose create`), the Docker API starts and breaks them. Every agent is spoken to
over its container's attached standard streams, so no port is published and no agent listens.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from midsession.agent.protocol import Configure
from midsession.core.plan import ImageService, Plan
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds import Inbox
from midsession.testbeds.docker import derived, model
from midsession.testbeds.docker.attached import attach_socket, open_agent
from midsession.testbeds.docker.container import ContainerHost
from midsession.testbeds.docker.engine import Compose, Engine, in_thread, not_found
from midsession.testbeds.docker.guard import Guard
from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.owner import me
from midsession.testbeds.docker.sweep import PROJECT, labels, left_of, remove_project, sweep
from midsession.testbeds.hosts import AgentHost
from midsession.testbeds.link import AgentLink, fetch_files, receive_hello

CLIENTS_VARIABLE = "MIDSESSION_DOCKER_CLIENTS"
_HELLO_S = 30.0
_SUBNET_TRIES = 5
_COMPOSE_SERVICE = "com.docker.compose.service"

AnyHost = AgentHost | ContainerHost


class DockerTestbed:
    """A `Testbed` (see `midsession.testbeds`) of containers. `fleets`: how many client containers a run has at least.

    `state` is the directory of the journal.
    """

    name = "docker"

    def __init__(self, fleets: int | None = None, state: Path | None = None) -> None:
        self.services: Mapping[str, AnyHost] = {}
        self.fleets: Sequence[AgentHost] = ()
        self._wanted = fleets or _clients_wanted()
        self._journal = Journal(state)
        self._engine: Engine | None = None
        self._guard: Guard | None = None
        self._compose: Compose | None = None
        self._project: str | None = None
        self._made: list[AnyHost] = []
        self._errands: list[int] = []

    def remedy_for(self, ability: str) -> str | None:
        """Its agents can do everything: those of hosts whose network a fault breaks are given what it takes."""
        return None

    async def open(self, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        """Make the run's project, and meet its agents."""
        engine = await self._ready()
        await self._require_images(engine, plan)
        file = directory / "compose.json"
        project = await self._create(engine, plan, run, file)
        containers = await engine.call(_containers, engine.api, project.name)
        meeting = [self._meet(engine, host, containers, inbox, directory) for host in project.hosts]
        await _all(meeting)
        order = {host.name: n for n, host in enumerate(project.hosts)}
        self._made.sort(key=lambda host: order[host.name])
        names = {s.name for s in plan.services}
        self.services = {h.name: h for h in self._made if h.name in names}
        self.fleets = [h for h in self._made if isinstance(h, AgentHost) and h.name not in names]
        await _all([_configure(host, plan, run, directory) for host in self._made])
        if project.beside:
            await self._call_compose(
                project.name, file, "up", "--detach", "--no-recreate", "--no-build", *project.beside
            )

    async def collect(self, directory: Path) -> None:
        """Over the agents' streams; of programs in containers of their own, everything is written here already."""
        hosts = [*self.services.values(), *self.fleets]
        await _all([fetch_files(host.link, directory) for host in hosts if isinstance(host, AgentHost)])

    async def close(self) -> None:
        """Take the project away. Raises HarnessError, naming what could not be removed."""
        made, self._made = self._made, []
        self.services, self.fleets = {}, ()
        for host in made:
            await (host.link if isinstance(host, AgentHost) else host).close()
        for fd in self._errands:
            os.close(fd)
        self._errands = []
        if self._project is None or self._engine is None:
            return
        problems, left = await self._engine.call(_take_away, self._engine.api, self._project)
        if problems or left:
            raise HarnessError("; ".join(problems or left), "cleanup-failed")
        self._journal.end(self._project)
        if self._guard is not None:
            self._guard.ended(self._project)
        self._project = None

    async def shut(self) -> None:
        """Take away what is left, and let go of the engine; what cannot be removed is left to the reaper."""
        try:
            await self.close()
        finally:
            if self._guard is not None:
                self._guard.dismiss()
                self._guard = None
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    # --- what is needed --------------------------------------------------------------------------------------------

    async def _ready(self) -> Engine:
        """An engine that was swept, a reaper on watch, and Compose; all made once."""
        if self._engine is None:
            self._engine = await in_thread(Engine)
            await self._engine.call(sweep, self._engine.api, self._engine.host, self._journal)
        if self._guard is None:
            self._guard = await Guard.start(self._engine.host, self._journal.directory)
            self._compose = None
        if self._compose is None:
            guard, host = self._guard, self._engine.host
            self._compose = await in_thread(lambda: Compose(host, [guard.pipe], guard.spawned))
        return self._engine

    async def _require_images(self, engine: Engine, plan: Plan) -> None:
        own = [SERVER_IMAGE, *([CLIENT_IMAGE] if plan.groups else [])]
        for image in own:
            if not await engine.call(_has_image, engine.api, image):
                raise EnvironmentLacks(f"there is no image {image}", "make images", slug="no-image")
        for service in plan.services:
            if isinstance(service, ImageService) and not await engine.call(_has_image, engine.api, service.image):
                await self._pull(engine, service.image)

    async def _pull(self, engine: Engine, image: str) -> None:
        try:
            await engine.call(engine.api.pull, image)
        except HarnessError as error:
            raise EnvironmentLacks(
                f"there is no image {image}, and it cannot be pulled ({error})", f"docker pull {image}", slug="no-image"
            ) from error

    # --- the project -----------------------------------------------------------------------------------------------

    async def _create(self, engine: Engine, plan: Plan, run: str, file: Path) -> model.Project:
        """Another user of the engine may take a subnet between our look and our creation: then another one is tried."""
        theirs = await self._users_model(plan)
        for attempt in range(_SUBNET_TRIES):
            project = await self._plan_project(engine, plan, run, theirs)
            file.write_bytes(msgspec.json.format(msgspec.json.encode(project.model), indent=2))
            if builds := derived.has_builds(project):
                await self._call_compose(project.name, file, "build", *builds)
            try:
                await self._call_compose(project.name, file, "create", "--no-build")
            except HarnessError as error:
                if "overlap" not in str(error) or attempt == _SUBNET_TRIES - 1:
                    raise
                await self.close()
            else:
                break
        return project

    async def _plan_project(
        self, engine: Engine, plan: Plan, run: str, theirs: Mapping[str, Any] | None
    ) -> model.Project:
        fleets = model.fleets_for(plan, self._wanted)
        keys = derived.own_networks(theirs) if theirs else []
        sizes = [
            len(plan.services) + fleets,
            *(derived.hosts_on(theirs or {}, key) + len(plan.services) for key in keys),
        ]
        taken = await engine.call(_subnets, engine.api)
        name = f"midsession-{secrets.token_hex(6)}"
        entry = await in_thread(lambda: self._journal.begin(name, engine.host, sizes, taken))
        self._project = name
        assert self._guard is not None
        self._guard.begins(name)
        first, *others = [ipaddress.IPv4Network(subnet) for subnet in entry.subnets]
        marks = labels(name, me(), run)
        project = model.project_of(name, plan, first, fleets, marks)
        if theirs is not None:
            derived.adopt(project, plan.services, theirs, dict(zip(keys, others, strict=True)), marks)
        return project

    async def _users_model(self, plan: Plan) -> Mapping[str, Any] | None:
        files = model.foreign_files(plan.services)
        if not files:
            return None
        if len(files) > 1:
            raise EnvironmentLacks(
                f"the scenario names {len(files)} Compose files", "name one, and let it `include` the others",
                slug="several-compose-files",
            )  # fmt: skip
        assert self._compose is not None
        return await self._compose.config(Path(plan.source).parent / files[0])

    async def _call_compose(self, project: str, file: Path, *words: str) -> None:
        assert self._compose is not None
        await self._compose.call("--project-name", project, "--file", str(file), *words)

    # --- its hosts -------------------------------------------------------------------------------------------------

    async def _meet(
        self, engine: Engine, host: model.HostOrder, containers: Mapping[str, str], inbox: Inbox, directory: Path
    ) -> None:
        """Attach first, then start: nothing that the agent says is missed."""
        agent = containers[host.agent]
        log = os.open(directory / "logs" / f"{host.name}.agent.stderr.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._errands.append(log)
        attached = await engine.call(attach_socket, engine.api, agent, stdin=True)
        reader, writer = await open_agent(attached, lambda data: _note(log, data))
        await engine.call(engine.api.start, agent)
        link = AgentLink(reader, writer, await receive_hello(reader, _HELLO_S), inbox, host.name)
        made: AnyHost
        if host.program is None:
            made = AgentHost(host.name, host.address, ["python"], None, link)
        else:
            program = containers[host.program]
            made = ContainerHost(host.name, host.address, engine.api, program, link, inbox)
        self._made.append(made)


async def _configure(host: AnyHost, plan: Plan, run: str, directory: Path) -> None:
    if isinstance(host, ContainerHost):
        await host.configure(run, plan.seed, plan.hash, directory)
    else:
        await host.ask(Configure(id=0, run=run, host=host.name, seed=plan.seed, plan=plan.hash))


async def _all(doing: Sequence[Awaitable[None]]) -> None:
    """All at once; the first error is raised when all are over."""
    for outcome in await asyncio.gather(*doing, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _note(log: int, data: bytes) -> None:
    os.write(log, data)


def _containers(api: Any, project: str) -> dict[str, str]:
    """The container of each Compose service, by its name."""
    found = api.containers(all=True, filters={"label": f"{PROJECT}={project}"})
    return {c["Labels"][_COMPOSE_SERVICE]: c["Id"] for c in found}


def _take_away(api: Any, project: str) -> tuple[list[str], list[str]]:
    return remove_project(api, project), left_of(api, project)


def _has_image(api: Any, image: str) -> bool:
    try:
        api.inspect_image(image)
    except not_found():
        return False
    return True


def _subnets(api: Any) -> list[str]:
    """The IPv4 subnets of all the engine's networks."""
    configs = [c for n in api.networks() for c in ((n.get("IPAM") or {}).get("Config") or [])]
    return [c["Subnet"] for c in configs if "Subnet" in c and ":" not in c["Subnet"]]


def _clients_wanted() -> int | None:
    text = os.environ.get(CLIENTS_VARIABLE, "")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 1000:
        raise EnvironmentLacks(
            f"{CLIENTS_VARIABLE}={text} is no number of containers", "set it to a number from 1 to 999",
            slug="bad-clients",
        )  # fmt: skip
    return int(text)


def prune() -> tuple[list[str], list[str]]:
    """Remove what runs of dead owners have left in the engine: what was removed, and what could not be."""
    engine = Engine()
    try:
        return sweep(engine.api, engine.host, Journal())
    finally:
        engine.close()


__all__ = ["DockerTestbed", "prune"]
