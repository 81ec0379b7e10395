"""`loss`: some packets are lost on their way to the target."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.protocol import Filter
from midsession.faults.base import Scene
from midsession.faults.packets import PacketFault, peers_of, refuse_itself


@dataclass(frozen=True, slots=True)
class Loss(PacketFault):
    """Some of the packets to the target are lost on their way, as the sender sees it: TCP notices, and sends again.

    Either each packet with the probability `rate` (drawn by the kernel, and so not the same in the next run), or
    exactly each n-th with `every: n`: the n-th, the 2n-th, … that comes after the fault began. No byte of a stream is
    missing in the end; it comes later. `with` narrows it down to packets from one service or client group. For losses
    on the way from a server to its clients, make the clients the target: packets are dropped where they arrive, since
    a sender is told of a loss in its own host.

    It took effect when the rule's counter shows the first packet lost, on each of the target's hosts. Healing takes
    the rule out; its `healed` record tells how many were lost (`packets`) of how many (`seen`).
    """

    verb = "loss"

    rate_share: float | None = None
    every: int | None = None
    with_: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `rate` and `every` says how much is lost."""
        if (self.rate_share is None) == (self.every is None):
            raise ValueError("say how much is lost: either 'rate' or 'every'")
        if self.rate_share is not None and self.rate_share < 1e-6:
            raise ValueError("'rate' is at least 0.0001%")
        if self.every is not None and not 1 <= self.every <= 1_000_000:
            raise ValueError("'every' is between 1 and 1000000")
        refuse_itself(self.target, self.with_)

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop some of what arrives."""
        peers = peers_of(self.with_, scene)
        return Filter(
            id=0,
            fault=step,
            own=scene.address,
            peers=peers,
            direction="to",
            every=self.every,
            share=self.rate_share,
        )

    def describe(self) -> str:
        """With how much."""
        much = f"each {self.every}th packet" if self.rate_share is None else f"{self.rate_share * 100:g} %"
        return f"loss {self.target} ({much})"
