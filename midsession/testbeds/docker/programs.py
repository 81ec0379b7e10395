"""The containers of programs by image: made for one run, and never used for another.

So whatever a program has written, in its file system or in its image's volumes, is gone with its container, while those
of the agents serve several runs. Compose makes these; the programs' are made through the Docker API, out of the same
model, because a call of Compose takes longer than all that is to be done between two runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from midsession.testbeds.docker.archive import packed
from midsession.testbeds.docker.engine import all_of, not_found
from midsession.testbeds.docker.model import HostOrder, Project
from midsession.testbeds.docker.workshop import Workshop

_COMPOSE = "com.docker.compose."


class Programs:
    """Those of one project of `workshop`."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._runs = 0
        self._made: list[str] = []
        self._making: asyncio.Future[None] | None = None
        self._going: asyncio.Future[None] | None = None

    async def make(self, order: Project, agents: Mapping[str, str]) -> dict[str, str]:
        """The container of each host that has one, by the host's name. `agents`: the containers that they join, by
        the Compose service. Raises HarnessError."""
        self._runs += 1
        hosts = order.of_images
        made: dict[str, str] = {}
        self._making = asyncio.ensure_future(
            all_of([self._make(order, host, agents[host.agent], made) for host in hosts])
        )
        self._making.add_done_callback(lambda done: done.cancelled() or done.exception())  # its asker may be cancelled
        with self._workshop.unsettled(order.name):
            await asyncio.shield(self._making)
        return made

    async def wait_until_made(self) -> None:
        """Until the engine has answered all that it was asked to make, also for somebody who was cancelled since: it
        carries that out, and what it makes then must be there when the project is removed."""
        if self._making is not None:
            await asyncio.wait([self._making])

    async def _make(self, order: Project, host: HostOrder, agent: str, made: dict[str, str]) -> None:
        assert host.program is not None
        assert host.files is not None
        engine, service = self._workshop.engine, order.model["services"][host.program]
        # The container of the last run may be under removal still, so that its name would be taken.
        name = f"{order.name}-{host.program}-{self._runs}"
        marks = _compose_labels(order.name, host.program, self._runs, service)
        made[host.name] = container = await engine.call(create, engine.api, name, service, agent, marks)
        self._made.append(container)
        await engine.call(engine.api.put_archive, container, "/", packed(host.files))

    def retire(self) -> None:
        """Begin to remove those of the run that is over; see `wait_until_gone`."""
        retired, self._made = self._made, []
        self._going = asyncio.ensure_future(all_of([self._remove(container) for container in retired]))
        self._going.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to whoever waits

    async def wait_until_gone(self) -> None:
        """Until those that were retired are removed, with their volumes. Raises HarnessError."""
        if self._going is not None:
            await asyncio.wait([self._going])  # who waits may be cancelled, and the removal goes on
            self._going.result()

    async def _remove(self, container: str) -> None:
        engine = self._workshop.engine
        await engine.call(_remove, engine.api, container)


def create(api: Any, name: str, service: Mapping[str, Any], agent: str, marks: Mapping[str, str]) -> str:
    """Make the container of a service of our model (see `model.image_service`), as Compose would; it does not run yet.

    It joins the network namespace of the container `agent`. Returns its ID.
    """
    limits = [{"name": name, **limit} for name, limit in service["ulimits"].items()]
    host = api.create_host_config(
        network_mode=f"container:{agent}",
        log_config={"type": service["logging"]["driver"], "config": {}},
        cap_add=service["cap_add"], cap_drop=service["cap_drop"], security_opt=service["security_opt"],
        mem_limit=service["mem_limit"], pids_limit=service["pids_limit"], ulimits=limits,
    )  # fmt: skip
    made = api.create_container(
        service["image"],
        [_plain(word) for word in service["command"]] if "command" in service else None,
        name=name,
        environment={key: _plain(value) for key, value in service["environment"].items()},
        labels={**service["labels"], **marks},
        host_config=host,
    )
    return str(made["Id"])


def _plain(text: str) -> str:
    """A Compose model doubles each `$`."""
    return text.replace("$$", "$")


def _compose_labels(project: str, service: str, number: int, model: Mapping[str, Any]) -> dict[str, str]:
    """What Compose knows the containers of a project by, so that `docker compose ps` shows this one, too.

    It sees none that has no hash of its service's model (`pkg/compose/containers.go`); ours need not be like its own,
    since it is never asked to bring this service up.
    """
    marks = {"project": project, "service": service, "container-number": str(number), "oneoff": "False"}
    marks["config-hash"] = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()
    return {_COMPOSE + key: value for key, value in marks.items()}


def _remove(api: Any, container: str) -> None:
    """Remove a container with its anonymous volumes."""
    try:
        api.remove_container(container, v=True, force=True)
    except not_found():
        return
