"""What projects are made with and taken away with: an engine, the journal, a reaper on watch, Compose."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker import published
from midsession.testbeds.docker.engine import Compose, Engine, compose_command, in_thread, not_found
from midsession.testbeds.docker.guard import Guard
from midsession.testbeds.docker.journal import Entry, Journal
from midsession.testbeds.docker.sweep import left_of, remove_project, remove_unsettled, sweep

_SETTLED_WITHIN_S = 20.0
_AGAIN_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Workshop:
    """Everything of a testbed's that is not a project."""

    engine: Engine
    journal: Journal
    guard: Guard
    compose: Compose
    _unsettled: Counter[str] = field(default_factory=Counter)
    """How many things of a project were being made that did not come to a good end: the engine may still be carrying
    out what it was asked for."""

    @staticmethod
    async def open(journal: Journal) -> Workshop:
        """With an engine that was swept. Raises EnvironmentLacks, HarnessError."""
        looking = in_thread(compose_command)  # takes about as long as all the rest
        with ExitStack() as undo:
            engine = await in_thread(Engine)
            undo.callback(engine.close)
            await engine.call(sweep, engine.api, engine.host, journal)
            guard = await Guard.start(engine.host, journal.directory)
            undo.callback(guard.dismiss)
            compose = Compose(await looking, engine.host, [guard.pipe], guard.spawned)
            undo.pop_all()
        return Workshop(engine, journal, guard, compose)

    def close(self) -> None:
        """Let go of all; what is not taken away by now is left to the reaper."""
        self.guard.dismiss()
        self.engine.close()

    async def begin(self, sizes: Sequence[int], apart: bool = False) -> Entry:
        """A project's name, and subnets for so many hosts each; both the journal and the reaper know it from now on.

        `apart`: see `Journal.begin`."""
        taken = await self.engine.call(_subnets, self.engine.api)
        name = f"midsession-{secrets.token_hex(6)}"
        entry = await in_thread(lambda: self.journal.begin(name, self.engine.host, sizes, taken, apart))
        self.guard.begins(name)
        return entry

    async def remove(self, project: str) -> None:
        """Take away all that there is of a project. Raises HarnessError, naming what could not be removed."""
        if self._unsettled[project]:
            left = await self.engine.call(remove_unsettled, self.engine.api, [project], _SETTLED_WITHIN_S)
        else:
            left = await self.engine.call(_take_away, self.engine.api, project)
        if left:
            raise HarnessError("; ".join(left), "cleanup-failed")
        del self._unsettled[project]
        self.journal.end(project)
        self.guard.ended(project)

    async def call_compose(
        self, project: str, file: Path, *words: str, variables: Mapping[str, str] | None = None
    ) -> None:
        """Call Compose for a project, with these environment variables besides ours. Raises HarnessError."""
        with self.unsettled(project):
            await self.compose.call("--project-name", project, "--file", str(file), *words, variables=variables)

    @contextmanager
    def unsettled(self, project: str) -> Iterator[None]:
        """Something of a project is made in here. Where that does not come to a good end, its removal is thorough."""
        self._unsettled[project] += 1
        yield
        self._unsettled[project] -= 1

    async def ports(self, name: str, service: Mapping[str, Any], container: str) -> list[str]:
        """Where the ports of a service are published, in words, see `published.told`. Raises HarnessError."""
        if "ports" not in service:
            return []
        return published.told(name, service, await self.engine.call(self.engine.api.inspect_container, container))

    async def image(self, name: str, remedy: str = "") -> str:
        """The ID of an image, which is pulled where there is no `remedy` to tell. Raises EnvironmentLacks."""
        found = await self.engine.call(_image, self.engine.api, name)
        if found is None and remedy:
            raise EnvironmentLacks(f"there is no image {name}", remedy, slug="no-image")
        return found or await self._pull(name)

    async def lacks(self, name: str) -> bool:
        """Whether the engine has no such image. Raises HarnessError."""
        return await self.engine.call(_image, self.engine.api, name) is None

    async def _pull(self, name: str) -> str:
        try:
            await self.engine.call(self.engine.api.pull, name)
        except HarnessError as error:
            raise no_image(name, error) from error
        return str(await self.engine.call(_image, self.engine.api, name))


def no_image(name: str, error: HarnessError, whose: str = "") -> EnvironmentLacks:
    """An image is not there and cannot be pulled; `whose` it is, in words that follow its name."""
    return EnvironmentLacks(
        f"there is no image {name}{whose}, and it cannot be pulled ({error})",
        f"docker pull {name}, or build it: docker build -t {name} …", slug="no-image",
    )  # fmt: skip


def _take_away(api: Any, project: str) -> list[str]:
    """What is left of it. An engine that is busy with a container says that its network is in use: once more, then."""
    left = remove_project(api, project) or left_of(api, project)
    return remove_unsettled(api, [project], _AGAIN_WITHIN_S) if left else left


def _image(api: Any, name: str) -> str | None:
    try:
        return str(api.inspect_image(name)["Id"])
    except not_found():
        return None


def _subnets(api: Any) -> list[str]:
    """The IPv4 subnets of all the engine's networks."""
    configs = [c for n in api.networks() for c in ((n.get("IPAM") or {}).get("Config") or [])]
    return [c["Subnet"] for c in configs if "Subnet" in c and ":" not in c["Subnet"]]
