"""`duplicate`: packets come twice."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Duplicate as Impairment
from midsession.faults.impairment import ChosenPackets


@dataclass(frozen=True, slots=True)
class Duplicate(ChosenPackets):
    """Some packets come twice, the copy right behind the original.

    Which ones: each with the probability `rate`, drawn from the run's seed, or exactly each n-th with `every: n`,
    counted in either direction by itself. TCP throws the copy of a segment away and acknowledges it once more
    (RFC 9293, 3.10.7.4); no byte comes twice in a stream, but a program that speaks UDP sees the datagram twice.
    `direction` and `with` as for `delay`.

    It took effect when the first copy was sent, on each of the target's hosts. Healing ends it; its `healed` record
    tells how many came twice (`packets`) of how many (`seen`).
    """

    verb = "duplicate"

    def how(self) -> Impairment:
        """As asked."""
        return Impairment(share=self.rate_share, every=self.every)
