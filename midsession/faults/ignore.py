"""`ignore`: connects are not answered."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.protocol import Filter
from midsession.faults.base import SERVICE, Scene
from midsession.faults.packets import PacketFault, peers_of, refuse_itself


@dataclass(frozen=True, slots=True)
class Ignore(PacketFault):
    """No connect to the service is answered: each SYN vanishes, and the client waits until its own timeout.

    Live sessions go on untouched, and the program knows of nothing. A connect that still waits when the fault is
    healed succeeds with its next SYN (Linux: 1, 3, 7 s after the first). `with` narrows it down to connects from one
    service or client group. It took effect when the rule's counter shows the first SYN dropped. Healing takes the
    rule out.
    """

    verb = "ignore"
    family = "connection"
    targets = SERVICE

    with_: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a service that ignores itself."""
        refuse_itself(self.target, self.with_)

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop SYN."""
        peers = peers_of(self.with_, scene)
        return Filter(id=0, fault=step, own=scene.address, peers=peers, direction="to", which="request")

    def describe(self) -> str:
        """With the peer."""
        return f"ignore {self.target}" + (f" (with {self.with_})" if self.with_ else "")
