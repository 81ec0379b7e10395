"""`corrupt`: packets come damaged."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Corrupt as Impairment
from midsession.faults.impairment import ChosenPackets


@dataclass(frozen=True, slots=True)
class Corrupt(ChosenPackets):
    """In some packets, one bit is flipped behind the IP header; no checksum is mended.

    So the receiver's kernel finds that the checksum of TCP or UDP is wrong and throws the packet away (RFC 9293, 3.1):
    programs see the same as after a loss, and no wrong byte reaches them. It proves that checksums are looked at. Which
    ones: each with the probability `rate`, drawn from the run's seed, or exactly each n-th with `every: n`, counted in
    either direction by itself. `direction` and `with` as for `delay`.

    It took effect when the first damaged packet was let go, on each of the target's hosts. Healing ends it; its
    `healed` record tells how many were damaged (`packets`) of how many (`seen`).
    """

    verb = "corrupt"

    def how(self) -> Impairment:
        """As asked."""
        return Impairment(share=self.rate_share, every=self.every)
