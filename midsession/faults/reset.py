"""`reset`: open connections are destroyed by the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Destroy
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.faults.base import GROUP, Fault, Move, Scene, Unfit


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Open connections of a client group are destroyed by the kernel (SOCK_DESTROY); no program does anything.

    `client` names one client of the group by its number; without it, all that are connected. `end` says whose socket
    is destroyed: its owner gets ECONNABORTED, the other end RST, so ECONNRESET. `end: client` (the default): the client
    loses its connection as `aborted`, the server hears a reset. `end: server`: the server's socket is destroyed, the
    client hears the reset. Other connections, and listening sockets, are untouched.

    It took effect when the kernel has those sockets no more. None open: the fault fails. There is nothing to heal.
    """

    verb = "reset"
    family = "connection"
    targets = GROUP
    needs = frozenset({"sockets"})
    watches = frozenset({Event.WITNESSED, Event.CONNECTED, Event.LOST, Event.CLOSED})

    client: int | None = None
    end: Literal["client", "server"] = "client"

    def __post_init__(self) -> None:
        """Raises ValueError for a number that no client has."""
        if self.client is not None and self.client < 1:
            raise ValueError("clients are numbered from 1")

    def place(self, plan: Plan) -> str:
        """The end whose sockets are destroyed."""
        if self.end == "server":
            return plan.group(self.target).host
        return self._name or self.target

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request, for one connection or for all."""
        if self._name is not None:
            return (self._one(self._name, step, scene),)
        peers = list(scene.addresses(self.target)) if self.end == "server" else None
        return (Destroy(id=0, own=scene.address, peers=peers, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw that they are gone."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With whose end."""
        return f"reset {self.target}{f'-{self.client}' if self.client else ''} (the {self.end}'s end)"

    @property
    def _name(self) -> str | None:
        return None if self.client is None else f"{self.target}-{self.client}"

    def _one(self, client: str, step: str, scene: Scene) -> Destroy:
        ends = scene.connection(client)
        if ends is None:
            raise Unfit(f"{client} has no open connection")
        own, peer = ends if self.end == "client" else reversed(ends)
        (_, _, own_port), (address, _, peer_port) = own.rpartition(":"), peer.rpartition(":")
        return Destroy(
            id=0, own=scene.address, peers=[address], own_port=int(own_port), peer_port=int(peer_port), fault=step
        )
