"""A host as the runner sees it: a name, an address, and the link to its agent."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Reply, Request
from midsession.testbeds.link import AgentLink


@dataclass(frozen=True, slots=True)
class AgentHost:
    """A `Host` (see `midsession.testbeds`) behind an agent's link."""

    name: str
    address: str
    python: Sequence[str]
    programs: str | None
    link: AgentLink

    @property
    def clock(self) -> str:
        """Its clock domain, as its agent said."""
        return self.link.hello.clock

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Ask its agent, see `Host.ask`."""
        return self.link.ask(request)
