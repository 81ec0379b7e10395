"""`loss`: some packets are lost on their way to the target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from midsession.agent.network.impairment import Bursts
from midsession.agent.protocol import Filter, Impair, Mend, Request
from midsession.faults.base import Ability, Move, Scene, TargetKind
from midsession.faults.impairment import chosen, refuse_choice
from midsession.faults.packets import PacketFault, peers_of, refuse_for_client


@dataclass(frozen=True, slots=True)
class Loss(PacketFault):
    """Some of the packets to the target are lost on their way, as the sender sees it: TCP notices, and sends again.

    Say which: each packet with the probability `rate` (drawn by the kernel, and so not the same in the next run); or
    exactly each n-th with `every: n`, the n-th, the 2n-th, … that comes after the fault began; or exactly those in
    `packets: [3, 7]`, counted from 1. With `burst: n` beside `rate`, losses come in runs of n packets on the average,
    and make up `rate` of all packets in the long run: a Gilbert model of two states, in whose bad one everything is
    lost (RFC 3611 calls such runs bursts), drawn from the run's seed.

    A packet is what goes over a wire, no larger than the MTU: a stream that its sender's kernel leaves in pieces of
    64 KiB is cut before it is counted, and of a datagram that comes in fragments each one counts.

    No byte of a stream is missing in the end; it comes later. For losses on the way from a server to its clients, make
    the clients the target: packets are dropped where they arrive, since a sender is told of a loss in its own host.

    It took effect when the rule's counter shows the first packet lost, on each of the target's hosts. Healing takes
    the rule out; its `healed` record tells how many were lost (`packets`) of how many (`seen`).
    """

    verb = "loss"
    needs = frozenset({"filter", "packets"})

    rate_share: float | None = None
    every: int | None = None
    packets: tuple[int, ...] | None = None
    burst: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless exactly one of `rate`, `every` and `packets` says which are lost."""
        if (self.rate_share, self.every, self.packets).count(None) != 2:
            raise ValueError("say how much is lost: one of 'rate', 'every' and 'packets'")
        if self.packets is not None:
            _refuse_numbers(self.packets)
        else:
            refuse_choice(self.rate_share, self.every)
        if self.burst is not None:
            _refuse_burst(self.rate_share, self.burst)
            if self.port is not None or self.protocol is not None:
                raise ValueError("'burst' is for all packets between two ends: leave 'port' and 'protocol' out")
        PacketFault.__post_init__(self)

    def refuse_kinds(self, kinds: Collection[TargetKind]) -> None:
        """Bursts are of a whole host's packets."""
        PacketFault.refuse_kinds(self, kinds)
        if "client" in kinds and self.burst is not None:
            refuse_for_client("burst")

    def abilities(self) -> frozenset[Ability]:
        """Bursts are an impairment of the link, all else is a rule."""
        return self.needs if self.burst is None else frozenset({"shape", "packets"})

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop some of what arrives."""
        return self.about(
            step,
            scene,
            direction="to",
            every=self.every,
            share=self.rate_share,
            packets=None if self.packets is None else list(self.packets),
        )

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One rule, or for bursts one impairment."""
        if self.burst is None or self.rate_share is None:
            return PacketFault.inject(self, step, scene)
        how = Bursts(share=self.rate_share, length=self.burst)
        peers = peers_of(self.with_, scene)
        return (Impair(id=0, fault=step, own=scene.address, peers=peers, direction="to", how=how),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """Take it out."""
        return PacketFault.heal(self, step, scene) if self.burst is None else (Mend(id=0, fault=step),)

    def details(self) -> Sequence[str]:
        """How much."""
        if self.packets is not None:
            return [f"packets {', '.join(map(str, self.packets))}"]
        runs = f" in bursts of {self.burst:g}" if self.burst is not None else ""
        return [f"{chosen(self.rate_share, self.every)}{runs}"]


def _refuse_numbers(packets: Sequence[int]) -> None:
    if not packets or len(packets) > 1000 or min(packets) < 1 or max(packets) > 1_000_000_000:
        raise ValueError("'packets' are 1 to 1000 numbers between 1 and 1000000000")


def _refuse_burst(share: float | None, length: float) -> None:
    if share is None or share >= 1:
        raise ValueError("'burst' needs a 'rate' below 100%")
    if not 1 <= length <= 10_000:
        raise ValueError("'burst' is between 1 and 10000 packets")
    if share / (1 - share) > length:
        raise ValueError("'burst' is too short for that 'rate': with the shortest gaps of one packet, less is lost")
