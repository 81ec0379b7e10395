"""`refuse`: connects are answered with RST."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.protocol import Filter
from midsession.faults.base import SERVICE, Scene
from midsession.faults.packets import PacketFault, peers_of, refuse_itself


@dataclass(frozen=True, slots=True)
class Refuse(PacketFault):
    """Every connect to the service is answered with RST, as if nobody listened there: ECONNREFUSED, at once.

    Only SYN is answered so; live sessions go on untouched, and the program knows of nothing. `with` narrows it down to
    connects from one service or client group. It took effect when the rule's counter shows the first SYN refused.
    Healing takes the rule out.
    """

    verb = "refuse"
    family = "connection"
    targets = SERVICE

    with_: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a service that refuses itself."""
        refuse_itself(self.target, self.with_)

    def rule(self, step: str, scene: Scene) -> Filter:
        """RST to SYN."""
        peers = peers_of(self.with_, scene)
        return Filter(id=0, fault=step, own=scene.address, peers=peers, direction="to", which="request", act="reset")

    def describe(self) -> str:
        """With the peer."""
        return f"refuse {self.target}" + (f" (with {self.with_})" if self.with_ else "")
