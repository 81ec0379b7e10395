"""`refuse`: connects are answered with RST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.agent.protocol import Filter
from midsession.faults.base import SERVICE, Scene
from midsession.faults.packets import PacketFault


@dataclass(frozen=True, slots=True)
class Refuse(PacketFault):
    """Every connect from another host is answered with RST, as if nobody listened there: ECONNREFUSED, at once.

    Only SYN is answered so; live sessions go on untouched, and the program knows of nothing.

    It took effect when the rule's counter shows the first SYN refused. Healing takes the rule out.
    """

    verb = "refuse"
    family = "connection"
    targets = SERVICE
    of_tcp: ClassVar[bool] = True

    def rule(self, step: str, scene: Scene) -> Filter:
        """RST to SYN."""
        return self.about(step, scene, direction="to", which="request", act="reset")
