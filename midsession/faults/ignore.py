"""`ignore`: connects are not answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midsession.agent.protocol import Filter
from midsession.faults.base import SERVICE, Scene
from midsession.faults.packets import PacketFault


@dataclass(frozen=True, slots=True)
class Ignore(PacketFault):
    """No connect from another host is answered: each SYN vanishes, and the client waits until its own timeout.

    Live sessions go on untouched, and the program knows of nothing. A connect that still waits when the fault is
    healed succeeds with its next SYN (Linux: 1, 3, 7 s after the first).

    It took effect when the rule's counter shows the first SYN dropped. Healing takes the rule out.
    """

    verb = "ignore"
    family = "connection"
    targets = SERVICE
    of_tcp: ClassVar[bool] = True

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop SYN."""
        return self.about(step, scene, direction="to", which="request")
