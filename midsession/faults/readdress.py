"""`readdress`: the host comes back under another address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Renumber, Request, Unrenumber
from midsession.core.record import Event, Record
from midsession.faults.base import Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class Readdress(Fault):
    """The service's host has another IPv4 address from one moment to the next, and its name leads there; its program
    lives on. So a service moves in a failover, or with a new lease of DHCP.

    Nobody is at the old address any more. Live sessions fall silent both ways, without FIN or RST, until a timeout of
    their own: a script leaves them itself (`abort`, then `connect`), since silence is no loss to `on_loss`. Connects to
    the old address time out, or find the host unreachable once their own host has asked for it in vain (ARP). Who looks
    the name up is told the new address, and is served there by a program that listens on every address (0.0.0.0); one
    that listens on the old address alone is gone.

    In a scenario with this fault our clients look the service's name up at every connect; without one they are given
    its address. Other faults on the same host go on meaning the old address, but for a `reset`: packets of the new one
    do not meet them, and what switches the interface, or moves the host once more, fails. A host whose interface is
    down cannot be found elsewhere, so a move then fails.

    It took effect when the kernel has the new address in place of the old one, and names lead there: the name service
    has heard from there, or the agents of all hosts, who answer in its place, have found it there (docs/docker.md).
    Healing brings the old address and its name back: what TCP then sends again on old connections arrives, and
    the sessions of the new address fall silent in their turn.
    """

    verb = "readdress"
    family = "host"
    healable = True
    needs = frozenset({"addresses"})
    watches = frozenset({Event.WITNESSED})

    def looked_up(self) -> Sequence[str]:
        """Who is given an address could never find the new one."""
        return self.names

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """The other address."""
        return (Renumber(id=0, fault=step, own=scene.address, address=scene.spare_address),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """The address with which it began."""
        return (Unrenumber(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the address, and the name service answered there."""
        return record.event == Event.WITNESSED
