"""`reset`: open connections are destroyed by the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Destroy
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.faults.base import SESSIONS, Fault, Move, Scene, open_connection


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """Open connections of clients are destroyed by the kernel (SOCK_DESTROY); no program does anything.

    The target is a client group, for all of its clients that are connected, or one client: `talkers-2`. `end` says
    whose socket is destroyed: its owner gets ECONNABORTED, the other end RST, so ECONNRESET. `end: client` (the
    default): the client loses its connection as `aborted`, the server hears a reset. `end: server`: the socket of the
    service to which it is connected is destroyed, the client hears the reset. Other connections, and listening sockets,
    are untouched.

    It took effect when the kernel has those sockets no more. None open: the fault fails. There is nothing to heal.
    """

    verb = "reset"
    family = "connection"
    targets = SESSIONS
    needs = frozenset({"sockets"})
    watches = frozenset({Event.WITNESSED, Event.CONNECTED, Event.LOST, Event.CLOSED})

    end: Literal["client", "server"] = "client"

    def places(self, plan: Plan) -> Sequence[str]:
        """The end whose sockets are destroyed: of the server's, wherever the clients may be connected."""
        if self.end == "client":
            return self.names
        return sorted({host for name in self.names for host in plan.group_of(name).hosts if host})

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One request for each connection that is named, and one for each group, where they end on this host."""
        asked = (self._one if scene.is_client(name) else self._all for name in self.names)
        made = [ask(name, step, scene) for ask, name in zip(asked, self.names, strict=True)]
        return [destroy for destroy in made if destroy is not None]

    def is_witness(self, record: Record) -> bool:
        """The agent saw that they are gone."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With whose end."""
        return f"reset {self.whom} (the {self.end}'s end)"

    def _all(self, group: str, step: str, scene: Scene) -> Destroy | None:
        """None: this host does not play the group, or all of its connections that are known end on others."""
        if self.end == "client":
            plays = scene.address in scene.addresses(group)
            return Destroy(id=0, own=scene.address, fault=step) if plays else None
        known = scene.connections(group)
        if known and not any(scene.holds(peer.rpartition(":")[0]) for _, peer in known):
            return None
        return Destroy(id=0, peers=list(scene.addresses(group)), fault=step)

    def _one(self, client: str, step: str, scene: Scene) -> Destroy | None:
        """None: that end of it is on another host."""
        own, peer = open_connection(client, scene)
        if self.end == "server":
            own, peer = peer, own
        if not scene.holds(own[0]):
            return None
        return Destroy(id=0, own=own[0], peers=[peer[0]], own_port=own[1], peer_port=peer[1], fault=step)
