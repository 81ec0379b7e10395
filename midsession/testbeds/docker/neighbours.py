"""The services of a Compose file of the user's that are not the scenario's: they come up beside it, and are heard.

Compose brings them up in waves (see `dependencies`), never together with a service of the scenario: that is started by
the run alone. What they say goes into `logs/` at the end, and the run is told when one of them exits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from midsession.errors import HarnessError
from midsession.startup import last_lines
from midsession.testbeds import RunInbox
from midsession.testbeds.docker import published
from midsession.testbeds.docker.dependencies import Seen, Wait, holds
from midsession.testbeds.docker.engine import errors, explain, in_thread
from midsession.testbeds.docker.model import HostOrder, Project
from midsession.testbeds.docker.sweep import PROJECT
from midsession.testbeds.docker.workshop import Workshop

_LOOK_S = 0.1
_LAST_LINES = 10
_SERVICE = "com.docker.compose.service"
_NUMBER = "com.docker.compose.container-number"
_CONDITIONS = {
    "service_started": "to have started",
    "service_healthy": "to be healthy",
    "service_completed_successfully": "to have ended well",
}
_SEEN: dict[str, Callable[[Mapping[str, str]], str]] = {
    "die": lambda facts: f"has exited with code {facts.get('exitCode')}",
    "health_status: unhealthy": lambda _: "is unhealthy",
}
"""What is told of them, by the engine's events."""


class Neighbours:
    """Those of one project, which is made, with its model in `file`. `does` is told whatever is waited for."""

    def __init__(
        self, workshop: Workshop, order: Project, file: Path, inbox: RunInbox, does: Callable[[str], None]
    ) -> None:
        self._workshop, self._order, self._file, self._inbox, self._does = workshop, order, file, inbox, does
        self._hosts = {host.program for host in order.hosts}
        self._may_return: set[str | None] = set()
        """Those of which nothing is final, since a step may start them again."""
        self._up: set[str] = set()
        self._containers: Mapping[str, Sequence[str]] = {}
        self._watch: _Watch | None = None
        self._one_at_a_time = asyncio.Lock()

    async def begin(self) -> None:
        """Bring up those that need no service of the scenario, and wait for what such services wait for.

        Raises HarnessError."""
        engine = self._workshop.engine
        self._containers = await engine.call(containers, engine.api, self._order.name)
        self._watch = _Watch(await engine.call(_events, engine.api, self._order.name), self._hear)
        await self._bring_up()
        await self._let_come()

    async def after_start(self, host: HostOrder, by_step: bool) -> None:
        """The program of this host is up: bring up those that have all they need now, and wait for what the services
        of the scenario that are still to come wait for. `by_step`: a step has started it, so the timeline is under way,
        and may start a service of the scenario again. Raises HarnessError."""
        if host.program is not None:
            self._may_return = self._hosts if by_step else set()
            async with self._one_at_a_time:
                self._up.add(host.program)
                await self._bring_up()
            await self._let_come()

    async def save_logs(self, directory: Path) -> None:
        """Write what they have said so far into files of the run. Raises OSError."""
        if self._watch is not None:
            self._watch.close()
        api, folder = self._workshop.engine.api, directory / "logs"
        saving = [
            in_thread(partial(_save, api, container, stream, folder / f"{name}.neighbour.{number}.{stream}.log"))
            for name in self._order.beside
            for number, container in enumerate(self._containers.get(name, ()), 1)
            for stream in ("stdout", "stderr")
        ]
        await asyncio.gather(*saving)

    def close(self) -> None:
        """Hear no more."""
        if self._watch is not None:
            self._watch.close()

    # --- coming up -------------------------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        wave = [name for name, needs in self._order.beside.items() if name not in self._up and needs <= self._up]
        if wave:
            await self._meet([wait for wait in self._order.waits if wait.who in wave and wait.on in self._up])
            self._does(f"bringing up {', '.join(wave)} (docker compose up)")
            words = ("up", "--detach", "--no-recreate", "--no-build", "--no-deps")
            try:
                await self._workshop.call_compose(
                    self._order.name, self._file, *words, *wave, variables=self._order.variables
                )
            except HarnessError as error:
                raise self._port_taken(wave, error) or error from None
            self._up.update(wave)
            await self._tell_ports(wave)

    def _port_taken(self, wave: Sequence[str], error: HarnessError) -> HarnessError | None:
        told = (published.taken(name, self._order.model["services"][name], error) for name in wave)
        return next((one for one in told if one is not None), None)

    async def _tell_ports(self, wave: Sequence[str]) -> None:
        for name in wave:
            for container in self._containers.get(name, ()):
                for text in await self._workshop.ports(name, self._order.model["services"][name], container):
                    self._inbox.note(text)

    async def _let_come(self) -> None:
        to_come = self._hosts - self._up
        await self._meet([wait for wait in self._order.waits if wait.who in to_come and wait.on in self._up])

    async def _meet(self, waits: Sequence[Wait]) -> None:
        for wait in waits:
            for container in self._containers.get(wait.on, ()):
                await self._wait_for(wait, container)

    async def _wait_for(self, wait: Wait, container: str) -> None:
        """Bounded by the runner, which tells what was waited for. Raises HarnessError for what can never be."""
        engine = self._workshop.engine
        for_what = f"{wait.on} {_CONDITIONS[wait.condition]}, which {wait.who} waits for"
        while True:
            state = (await engine.call(engine.api.inspect_container, container))["State"]
            seen, what = holds(wait.condition, state)
            if self._is_over(wait, seen):
                return
            if seen == "never" and wait.on not in self._may_return:
                said = last_lines(await in_thread(partial(_tail, engine.api, container)))
                raise HarnessError(f"{for_what}, cannot be: {what}; {said}; mend it there", "dependency-not-met")
            self._does(f"waiting for {for_what}: {what}")
            await asyncio.sleep(_LOOK_S)

    def _is_over(self, wait: Wait, seen: Seen) -> bool:
        return seen == "yes" or (seen == "never" and not wait.required and wait.on not in self._may_return)

    # --- what becomes of them --------------------------------------------------------------------------------------

    def _hear(self, event: Mapping[str, Any]) -> None:
        told, facts = _SEEN.get(event.get("Action", "")), event.get("Actor", {}).get("Attributes", {})
        name = facts.get(_SERVICE)
        if told and name in self._order.beside:
            number = facts.get(_NUMBER, "1")
            who = name if number == "1" else f"{name} (its container {number})"
            self._inbox.note(f"{who} of the Compose file {told(facts)}")


class _Watch:
    """Reads the engine's events in a thread, and hands each to `hear` on the event loop."""

    def __init__(self, stream: Any, hear: Callable[[Mapping[str, Any]], None]) -> None:
        self._stream, self._hear = stream, hear
        self._loop = asyncio.get_running_loop()
        self._closed = False
        in_thread(self._read)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.close()

    def _read(self) -> None:
        """Until the stream is closed; how that ends is nobody's concern."""
        for event in self._stream:
            self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: Mapping[str, Any]) -> None:
        if not self._closed:
            self._hear(event)


# --- calls to the engine -------------------------------------------------------------------------------------------


def containers(api: Any, project: str) -> dict[str, list[str]]:
    """The containers of each Compose service of a project, by its name and in the order of their numbers."""
    found = api.containers(all=True, filters={"label": f"{PROJECT}={project}"})
    by_service: dict[str, list[str]] = {}
    for one in sorted(found, key=lambda c: int(c["Labels"].get(_NUMBER, "1"))):
        by_service.setdefault(one["Labels"][_SERVICE], []).append(one["Id"])
    return by_service


def _events(api: Any, project: str) -> Any:
    wanted = {"label": f"{PROJECT}={project}", "type": "container", "event": ["die", "health_status"]}
    return api.events(decode=True, filters=wanted)


def _tail(api: Any, container: str) -> list[str]:
    try:
        said: bytes = api.logs(container, tail=_LAST_LINES)
    except errors():
        return []
    return said.decode(errors="replace").splitlines()


def _save(api: Any, container: str, stream: str, path: Path) -> None:
    """What a container has said; why that is not known, where the engine keeps no such log. No file for nothing."""
    with path.open("wb") as file:
        try:
            which = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
            for piece in api.logs(container, stream=True, follow=False, **which):
                file.write(piece)
        except errors() as error:
            file.write(f"(the engine does not tell: {explain(error)})\n".encode())
    if not path.stat().st_size:
        path.unlink()
