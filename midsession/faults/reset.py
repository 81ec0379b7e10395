"""`reset`: open connections are destroyed by the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Destroy
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.faults.base import SESSIONS, Fault, Move, Scene, Unfit, open_connection


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Open connections of clients are destroyed by the kernel (SOCK_DESTROY); no program does anything.

    The target is a client group, for all of its clients that are connected, or one client: `talkers-2`. `end` says
    whose socket is destroyed: its owner gets ECONNABORTED, the other end RST, so ECONNRESET. `end: client` (the
    default): the client loses its connection as `aborted`, the server hears a reset. `end: server`: the socket of the
    service that the group connects to is destroyed, the client hears the reset. Other connections, and listening
    sockets, are untouched.

    It took effect when the kernel has those sockets no more. None open: the fault fails; so it does, with `end:
    server`, for a client that is connected to another service, or to an address to which its service has moved. There
    is nothing to heal.
    """

    verb = "reset"
    family = "connection"
    targets = SESSIONS
    needs = frozenset({"sockets"})
    watches = frozenset({Event.WITNESSED, Event.CONNECTED, Event.LOST, Event.CLOSED})

    end: Literal["client", "server"] = "client"

    def places(self, plan: Plan) -> Sequence[str]:
        """The end whose sockets are destroyed."""
        if self.end == "client":
            return self.names
        return [plan.group_of(name).host for name in self.names]

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request for each connection that is named, and one for each group."""
        asked = (self._one if scene.is_client(name) else self._all for name in self.names)
        made = [ask(name, step, scene) for ask, name in zip(asked, self.names, strict=True)]
        return [destroy for destroy in made if destroy is not None]

    def is_witness(self, record: Record) -> bool:
        """The agent saw that they are gone."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With whose end."""
        return f"reset {self.whom} (the {self.end}'s end)"

    def _all(self, group: str, step: str, scene: Scene) -> Destroy:
        peers = list(scene.addresses(group)) if self.end == "server" else None
        return Destroy(id=0, own=scene.address, peers=peers, fault=step)

    def _one(self, client: str, step: str, scene: Scene) -> Destroy | None:
        """None: that end of it is on another host. Raises Unfit when it is on none of this fault's."""
        own, peer = open_connection(client, scene)
        if self.end == "server":
            own, peer = peer, own
        if own[0] not in scene.reach:
            raise Unfit(f"{client} is connected to {own[0]}:{own[1]}, not to the first address of its group's service")
        if own[0] != scene.address:
            return None
        return Destroy(id=0, own=own[0], peers=[peer[0]], own_port=own[1], peer_port=peer[1], fault=step)
