"""`idle_expiry`: a NAT or firewall on the path forgets connections that are idle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from midsession.agent.protocol import Filter
from midsession.faults.base import Scene
from midsession.faults.packets import PacketFault


@dataclass(frozen=True, slots=True)
class IdleExpiry(PacketFault):
    """TCP connections that had no packet for `after` are forgotten, as by a NAT or firewall on the path.

    A packet of a forgotten connection vanishes, whichever end sends it (`how: drop`, the default), or is answered with
    RST to its sender alone (`how: reset`); the other end is told nothing. A forgotten connection stays so, however
    often TCP sends again. Every packet that passes, in either direction, keeps its connection: talkers live on, and so
    do those with a keepalive that is short enough (RFC 5382, REQ-5 asks NATs for two hours and four minutes; many give
    minutes). A connect is always let through and begins anew. What is open, or being opened, when the fault begins is
    idle from then on.

    It took effect when the rule's counter shows the first packet of a forgotten connection. Healing takes the rules
    out: what TCP then sends again arrives.
    """

    verb = "idle_expiry"
    family = "connection"
    of_tcp: ClassVar[bool] = True

    after_s: float
    how: Literal["drop", "reset"] = "drop"

    def __post_init__(self) -> None:
        """Raises ValueError for a time so short that a round trip would be idleness."""
        if self.after_s < 0.01:
            raise ValueError("'after' is at least 10ms")
        PacketFault.__post_init__(self)

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop or refuse what was forgotten."""
        return self.about(step, scene, idle_s=self.after_s, act=self.how)

    def details(self) -> list[str]:
        """The time, and an answer where there is one."""
        return [f"after {self.after_s:g} s"] + (["answered with RST"] if self.how == "reset" else [])
