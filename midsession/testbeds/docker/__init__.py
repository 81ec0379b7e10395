"""The docker testbed: a Compose project with networks of its own, for one run or several, and nothing left of it.

Compose makes the containers (`docker compose create`), the Docker API starts and breaks them. Every agent is spoken to
over its container's attached standard streams, so no port is published and no agent listens.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from midsession.core.plan import ComposeService, ImageService, Plan
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.faults import readdressed
from midsession.testbeds import Pruned, RunInbox
from midsession.testbeds.docker import contents, derived, model, networks
from midsession.testbeds.docker.engine import Engine, all_of
from midsession.testbeds.docker.images import BUILD, CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.live import AnyHost, LiveProject
from midsession.testbeds.docker.owner import me
from midsession.testbeds.docker.sweep import clear, labels, sweep, undecided
from midsession.testbeds.docker.workshop import Workshop
from midsession.testbeds.hosts import AgentHost, by_role
from midsession.testbeds.link import fetch_files
from midsession.testbeds.registry import TESTBEDS, elsewhere

if TYPE_CHECKING:
    from midsession.testbeds import Testbed
    from midsession.testbeds.probe import Probe

CLIENTS_VARIABLE = "MIDSESSION_DOCKER_CLIENTS"
_SUBNET_TRIES = 5
_KEPT = 3
"""How many projects are kept for the runs to come."""


class DockerTestbed:
    """A `Testbed` (see `midsession.testbeds`) of containers. `fleets`: how many client containers a run has at least.

    `state` is the directory of the journal. The projects of the last runs are `kept` until `shut`, oldest first: they
    serve further runs that would make the same.
    """

    name = "docker"

    def __init__(self, fleets: int | None = None, state: Path | None = None) -> None:
        self.services: Mapping[str, AnyHost] = {}
        self.fleets: Sequence[AnyHost] = ()
        self.foreign: Mapping[str, AnyHost] = {}
        self._wanted = fleets or _clients_wanted()
        self._journal = Journal(state)
        self._workshop: Workshop | None = None
        self._live: LiveProject | None = None
        self.kept: list[LiveProject] = []
        self._doing = ""

    @property
    def doing(self) -> str:
        """What a project waits for, or what comes before there is one."""
        return self._live.doing if self._live is not None else self._doing

    def remedy_for(self, ability: str) -> str | None:
        """Its agents can do nearly everything: those of hosts whose network a fault breaks are given what it takes."""
        return None if ability in TESTBEDS[self.name].offers else elsewhere(ability)

    async def open(self, plan: Plan, run: str, directory: Path, inbox: RunInbox) -> None:
        """Take a kept project or make one, and have its agents begin the run."""
        self._doing = "looking at the engine"
        if self._workshop is None:
            self._workshop = await Workshop.open(self._journal)
        self._doing = "looking for images, and pulling those that are not there"
        images = await _require_images(self._workshop, plan)
        live = await self._take_kept(plan, run, images)
        if live is None:
            live = await self._make(self._workshop, plan, run, directory, images)
            await live.start(directory, inbox)
        await live.begin(plan, run, directory, inbox)
        self.services, self.foreign, self.fleets = by_role(plan, live.hosts)

    async def after_start(self, service: str) -> None:
        """Bring up the services of a Compose file that need this one."""
        if self._live is not None:
            await self._live.after_start(service)

    async def collect(self, directory: Path) -> None:
        """Over the agents' streams; of a program in a container of its own, what it has put into its logs directory;
        of what came up beside the hosts, what it has said."""
        if self._live is not None:
            await self._live.collect(directory)
        hosts = [*self.services.values(), *self.foreign.values(), *self.fleets]
        await all_of(
            [fetch_files(h.link, directory) if isinstance(h, AgentHost) else h.collect(directory) for h in hosts]
        )

    async def close(self) -> None:
        """Keep the project if a further run may use it, else take it away. Raises HarnessError when that fails."""
        live, self._live = self._live, None
        self.services, self.foreign, self.fleets = {}, {}, ()
        if live is None:
            return
        if not live.is_reusable:
            self._live = live  # until it is gone
            await live.remove()
            self._live = None
            return
        live.rest()
        self.kept.append(live)
        if len(self.kept) > _KEPT:
            await self._drop(self.kept[0])

    async def shut(self) -> None:
        """Take away what is left, and let go of the engine; what cannot be removed is left to the reaper."""
        left = [*self.kept, *([self._live] if self._live is not None else [])]
        self.kept, self._live = [], None
        try:
            await all_of([live.remove() for live in left])
        finally:
            if self._workshop is not None:
                self._workshop.close()
                self._workshop = None

    # --- its projects ----------------------------------------------------------------------------------------------

    async def _take_kept(self, plan: Plan, run: str, images: Mapping[str, str]) -> LiveProject | None:
        """A kept project that is as good as a new one; those that are not any more are taken away."""
        for live in list(self.kept):
            order = self._order_like(live.order.name, live.order.subnet, plan, run)
            if not live.fits(order, images):
                continue
            self.kept.remove(live)
            self._live = live  # whatever comes now, until it is gone
            if await live.renew(plan, order, images):
                return live
            await live.remove()
            self._live = None
        return None

    async def _drop(self, live: LiveProject) -> None:
        """Take a kept project away; it is kept until it is gone, so that nothing is forgotten."""
        await live.remove()
        self.kept.remove(live)

    async def _make(
        self, workshop: Workshop, plan: Plan, run: str, directory: Path, images: Mapping[str, str]
    ) -> LiveProject:
        """Another user of the engine may take a subnet between our look and our creation: then another one is tried."""
        theirs = await _users_file(workshop, plan)
        for attempt in range(_SUBNET_TRIES):
            order = await self._order_with_room(workshop, plan, run, theirs, apart=attempt > 0)
            live = self._live = LiveProject(workshop, order, images)
            try:
                await live.make(directory)
            except HarnessError as error:
                if "overlap" not in str(error) or attempt == _SUBNET_TRIES - 1:
                    raise
                await live.remove()
            else:
                break
        return live

    async def _order_with_room(
        self, workshop: Workshop, plan: Plan, run: str, theirs: derived.UsersFile | None, apart: bool
    ) -> model.Project:
        """Where the range of subnets is used up, the projects that are kept give way, oldest first."""
        while True:
            try:
                return await self._order(workshop, plan, run, theirs, apart)
            except EnvironmentLacks as lacks:
                if lacks.slug != "no-subnet" or not self.kept:
                    raise
            await self._drop(self.kept[0])

    async def _order(
        self, workshop: Workshop, plan: Plan, run: str, theirs: derived.UsersFile | None, apart: bool
    ) -> model.Project:
        fleets = model.fleets_for(plan, self._wanted)
        file = theirs.model if theirs is not None else {}
        where = networks.networks_of(file, [s.service for s in plan.services if isinstance(s, ComposeService)])
        ours = len(plan.services) + len(plan.foreign_clients) + fleets + len(readdressed(plan))
        hosts = ours + networks.hosts_on(file, where.under_test)
        beside = [networks.hosts_on(file, [key]) + len(plan.services) for key in where.apart]
        entry = await workshop.begin([hosts, *beside], apart)
        first, *others = [ipaddress.IPv4Network(subnet) for subnet in entry.subnets]
        project = self._order_like(entry.project, first, plan, run)
        if theirs is not None:
            subnets = dict(zip(where.apart, others, strict=True))
            derived.adopt(project, plan.services, theirs, subnets, labels(project.name, me()))
        return project

    def _order_like(self, name: str, subnet: ipaddress.IPv4Network, plan: Plan, run: str) -> model.Project:
        """But for what a Compose file of the user's adds."""
        fleets = model.fleets_for(plan, self._wanted)
        return model.project_of(name, plan, run, subnet, fleets, labels(name, me()))


async def _require_images(workshop: Workshop, plan: Plan) -> dict[str, str]:
    """The IDs of the images that the plan needs; those of others are pulled. Raises EnvironmentLacks."""
    own = [SERVER_IMAGE, *([CLIENT_IMAGE] if plan.groups else [])]
    theirs = [s.image for s in plan.services if isinstance(s, ImageService)]
    theirs += [group.program.image for group in plan.foreign if group.program and group.program.image]
    ids = await asyncio.gather(*(workshop.image(name, remedy=BUILD) for name in own))
    others = [name for name in dict.fromkeys(theirs) if name not in own]
    ids += await asyncio.gather(*(workshop.image(name) for name in others))
    return dict(zip([*own, *others], ids, strict=True))


async def _users_file(workshop: Workshop, plan: Plan) -> derived.UsersFile | None:
    files = model.foreign_files(plan.services)
    if not files:
        return None
    if len(files) > 1:
        raise EnvironmentLacks(
            f"the scenario names {len(files)} Compose files", "name one, and let it `include` the others",
            slug="several-compose-files",
        )  # fmt: skip
    path = Path(plan.source).parent / files[0]
    found = await workshop.compose.config(path)
    named = [service.service for service in plan.services if isinstance(service, ComposeService)]
    if not all(name in found.get("services", {}) for name in named):
        found = derived.chosen(found, await workshop.compose.config(path, "--profile", "*"), named)
    return derived.UsersFile(found, await workshop.compose.variables(path, contents.variables(found)))


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


def prune(project: str = "") -> Pruned:
    """Remove what runs of dead owners have left in the engine; or `project`, whoever owns it."""
    journal, engine = Journal(), Engine()  # an engine that is not taken care of would be left open
    try:
        if not project:
            removed, problems = sweep(engine.api, engine.host, journal)
            return Pruned(removed, problems, undecided(engine.api, engine.host, journal))
        return Pruned(*clear(engine.api, journal, project))
    finally:
        engine.close()


def probes() -> tuple[Probe, ...]:
    """What the doctor looks for on behalf of this testbed."""
    from midsession.testbeds.docker.looks import PROBES

    return PROBES


if TYPE_CHECKING:
    _A_TESTBED: type[Testbed] = DockerTestbed  # nobody else names it where mypy could compare the two

__all__ = ["DockerTestbed", "probes", "prune"]
