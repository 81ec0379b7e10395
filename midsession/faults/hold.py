"""`hold`: everything waits, then comes at once."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Hold as Impairment
from midsession.faults.impairment import LinkFault


@dataclass(frozen=True, slots=True)
class Hold(LinkFault):
    """Packets between the target and others are held back; the heal releases them, all at once and in order.

    Nothing is lost, unlike with a `partition`: peers see silence, and then everything that was sent meanwhile without
    waiting for TCP to send it again. What TCP has sent again for want of an answer comes too. `direction` and `with` as
    for `delay`.

    It took effect when the first packet is held, on each of the target's hosts. Healing releases what is held; its
    `healed` record tells how many packets were (`packets`).
    """

    verb = "hold"

    def how(self) -> Impairment:
        """As asked."""
        return Impairment()
