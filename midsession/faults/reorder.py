"""`reorder`: packets are overtaken by those behind them."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Reorder as Impairment
from midsession.faults.impairment import ChosenPackets, milliseconds


@dataclass(frozen=True, slots=True)
class Reorder(ChosenPackets):
    """Some packets come `late` (by default 10ms), and those that were sent behind them meanwhile come before them.

    Which ones: each with the probability `rate`, drawn from the run's seed, or exactly each n-th with `every: n`,
    counted in either direction by itself. TCP puts its stream in order again: programs see a pause, then more at once;
    three segments that overtake one make the sender believe that it was lost (RFC 5681, 3.2). `direction` and `with`
    as for `delay`.

    It took effect when the first packet was overtaken, on each of the target's hosts: a late packet that nobody
    overtakes proves nothing. Healing lets go at once, in order, what is late; its `healed` record tells how many were
    overtaken (`packets`), and how many `late`.
    """

    verb = "reorder"

    late_s: float = 0.01

    def __post_init__(self) -> None:
        """Raises ValueError unless it says which packets, not all of them, and how late."""
        ChosenPackets.__post_init__(self)
        if self.every == 1 or self.rate_share == 1:
            raise ValueError("some packets come late, not all: 'every' is at least 2, and 'rate' less than 100%")
        if self.late_s <= 0:
            raise ValueError("'late' is more than 0s")

    def how(self) -> Impairment:
        """As asked."""
        return Impairment(late_s=self.late_s, share=self.rate_share, every=self.every)

    def what(self) -> str:
        """Which, and how late."""
        return f"{ChosenPackets.what(self)}, {milliseconds(self.late_s)} late"
