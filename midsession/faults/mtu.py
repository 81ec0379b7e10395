"""`mtu`: large packets vanish."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.protocol import Filter
from midsession.faults.base import Scene
from midsession.faults.packets import PacketFault


@dataclass(frozen=True, slots=True)
class Mtu(PacketFault):
    """Packets of more than `size` bytes (IP header included) vanish on their way to the target; smaller ones arrive.

    It is a path whose MTU is smaller than both ends believe, with a firewall that eats the ICMP messages that would say
    so (RFC 2923, 2.1): connects and short messages work, long ones hang until a timeout. What is too long is sent again
    for ever, and arrives after the heal. As on a wire, it is segments of a stream and fragments of a datagram that are
    long or short, not what their sender has handed over in one piece.

    It took effect when the rule's counter shows the first packet dropped, on each of the target's hosts. Healing takes
    the rule out.
    """

    verb = "mtu"
    needs = frozenset({"filter", "packets"})

    size_bytes: int

    def __post_init__(self) -> None:
        """Raises ValueError for a size that lets no handshake through (RFC 791: every link carries 68 bytes)."""
        if not 68 <= self.size_bytes <= 65535:
            raise ValueError("'size' is between 68B and 65535B")
        PacketFault.__post_init__(self)

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop what is too long."""
        return self.about(step, scene, direction="to", over_bytes=self.size_bytes)

    def details(self) -> list[str]:
        """The size."""
        return [f"{self.size_bytes} B"]
