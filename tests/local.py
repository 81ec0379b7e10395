"""A testbed without containers or namespaces, for tests: every host is an agent of ours, on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from midsession.agent.protocol import Configure, Shutdown
from midsession.core.plan import Plan
from midsession.programs import programs_directory
from midsession.testbeds import Inbox
from midsession.testbeds.hosts import AgentHost
from midsession.testbeds.link import AgentLink, fetch_files, receive_hello

PATIENCE_S = 15.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalTestbed:
    """A `Testbed` of plain processes that share our network: good for the whole path, not for what needs a network."""

    name = "local"
    doing = ""

    def __init__(self, fleets: int = 1) -> None:
        self.services: Mapping[str, AgentHost] = {}
        self.foreign: Mapping[str, AgentHost] = {}  # no test asks it for clients that are programs
        self.fleets: Sequence[AgentHost] = ()
        self._count = fleets
        self.agents: list[asyncio.subprocess.Process] = []

    def remedy_for(self, ability: str) -> str | None:
        """No test asks it for more than process faults."""
        return None

    async def open(self, plan: Plan, run: str, directory: Path, inbox: Inbox) -> None:
        """One agent for each service and each fleet; each keeps its files in a directory of its own."""
        self.services = {s.name: await self._host(s.name, plan, run, inbox) for s in plan.services}
        self.fleets = [await self._host(f"client-{n + 1}", plan, run, inbox) for n in range(self._count)]

    async def after_start(self, service: str) -> None:
        """Nothing waits for a service but its clients."""

    async def collect(self, directory: Path) -> None:
        """Over the agents' pipes."""
        for host in self._hosts:
            await fetch_files(host.link, directory)

    async def close(self) -> None:
        """Dismiss the agents, and see them gone."""
        for host in self._hosts:
            if not host.link.is_gone:
                await host.ask(Shutdown(id=0))
            await host.link.close()
        for agent in self.agents:
            await asyncio.wait_for(agent.wait(), PATIENCE_S)

    async def shut(self) -> None:
        """Nothing outlives `close`."""

    @property
    def _hosts(self) -> list[AgentHost]:
        return [*self.services.values(), *self.fleets]

    async def _host(self, name: str, plan: Plan, run: str, inbox: Inbox) -> AgentHost:
        root = str(programs_directory())
        agent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "midsession.agent", "--stdio"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": root},
            start_new_session=True,
        )
        self.agents.append(agent)
        assert agent.stdin is not None
        assert agent.stdout is not None
        link = AgentLink(agent.stdout, agent.stdin, await receive_hello(agent.stdout, PATIENCE_S), inbox, name)
        host = AgentHost(name=name, address="127.0.0.1", python=[sys.executable], programs=root, link=link)
        await host.ask(Configure(id=0, run=run, host=name, seed=plan.seed, plan=plan.hash))
        return host
