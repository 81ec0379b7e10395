"""`dns`: the resolver says something else about a service's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Mislead, Request, Unmislead
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.core.refers import ServiceName
from midsession.faults.base import Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Dns(Fault):
    """Who asks for the service's name is told something else; live connections are untouched, since they need no name.

    `says: nxdomain`: there is no such name. `says: timeout`: nothing, until the resolver gives up. `says: wrong`:
    another address, that of the service `to`, or of the asking host itself, where nobody listens, so that connects are
    refused. It is so on every host that plays clients of the service, for all programs there, and for this name alone.

    In a scenario with this fault our clients look the service's name up at every connect; without one they are given
    its address. A client whose lookup fails has lost its connection by `name`.

    It took effect when the first query was answered so (or left unanswered), on each of those hosts. Healing brings the
    resolver back.
    """

    verb = "dns"
    family = "name"
    healable = True
    needs = frozenset({"names"})
    watches = frozenset({Event.WITNESSED})

    says: Literal["nxdomain", "timeout", "wrong"]
    to: ServiceName | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for several names, for an address where none is told, and for the right one."""
        if len(self.names) > 1:
            raise ValueError("'target' is one name: add a step for each other")
        if self.to is not None and self.says != "wrong":
            raise ValueError("'to' goes with 'says: wrong'")
        if self.to in self.names:
            raise ValueError("'to' names the target itself: that would be the truth")

    def looked_up(self) -> Sequence[str]:
        """The name must be asked for, for the fault to mean anything."""
        return self.names

    def places(self, plan: Plan) -> Sequence[str]:
        """Where it is asked for: the hosts of the groups that connect to it, or whose script does."""
        return [group.name for group in plan.groups if group.hosts & {*self.names}]

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One lie."""
        address = None
        if self.says == "wrong":
            address = scene.address if self.to is None else scene.addresses(self.to)[0]
        silent = self.says == "timeout"
        return (Mislead(id=0, fault=step, name=self.whom, address=address, silent=silent),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """The truth."""
        return (Unmislead(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent answered a query, or did not."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With what is said."""
        return f"dns {self.whom} ({self.says}{f': {self.to}' if self.to else ''})"
