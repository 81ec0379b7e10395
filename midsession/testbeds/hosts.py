"""A host as the runner sees it: a name, an address, and the link to its agent."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from midsession.agent.protocol import Reply, Request
from midsession.core.plan import Plan
from midsession.testbeds.link import AgentLink


@dataclass(frozen=True, slots=True)
class AgentHost:
    """A `Host` (see `midsession.testbeds`) behind an agent's link."""

    name: str
    address: str
    python: Sequence[str]
    programs: str | None
    link: AgentLink
    spare_address: str | None = None

    @property
    def clock(self) -> str:
        """Its clock domain, as its agent said."""
        return self.link.hello.clock

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Ask its agent, see `Host.ask`."""
        return self.link.ask(request)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


H = TypeVar("H", bound=_Named)


def by_role(plan: Plan, hosts: Sequence[H]) -> tuple[dict[str, H], dict[str, H], list[H]]:
    """The hosts of the plan's services and those of its client programs, by name, and all others: the fleets'."""
    services, foreign = {s.name for s in plan.services}, set(plan.foreign_clients)
    return (
        {h.name: h for h in hosts if h.name in services},
        {h.name: h for h in hosts if h.name in foreign},
        [h for h in hosts if h.name not in services | foreign],
    )
