"""`rate`: the link is slow."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Rate as Impairment
from midsession.faults.impairment import LinkFault, milliseconds


@dataclass(frozen=True, slots=True)
class Rate(LinkFault):
    """The link between the target and others carries `bandwidth` and no more, each direction by itself.

    Counted are IP packets with their headers. What comes while the link is busy waits in line; a packet that would have
    to wait longer than `queue` (by default 200ms) is dropped, as the full buffer of a router drops it, and TCP slows
    down. The bandwidth is that of each of the target's hosts, and all its peers share it; `direction` and `with` as for
    `delay`.

    It took effect when the first packet has taken a millisecond or more, or was dropped, on each of the target's hosts.
    Healing lets go at once, in order, what waits; its `healed` record tells the `bytes` that were let through, how many
    packets waited (`packets`), and how many were `lost`.
    """

    verb = "rate"
    needs = frozenset({"shape"})

    bandwidth_bytes_per_s: int
    queue_s: float = 0.2

    def __post_init__(self) -> None:
        """Raises ValueError for what no packet comes through."""
        LinkFault.__post_init__(self)
        if self.bandwidth_bytes_per_s < 100:
            raise ValueError("'bandwidth' is at least 100B/s; for nothing at all there is 'partition'")
        if self.queue_s <= 0:
            raise ValueError("'queue' is more than 0s")

    def how(self) -> Impairment:
        """As asked."""
        return Impairment(bytes_per_s=self.bandwidth_bytes_per_s, queue_s=self.queue_s)

    def what(self) -> str:
        """With the bound."""
        return f"{self.bandwidth_bytes_per_s / 1000:g} kB/s, queue {milliseconds(self.queue_s)}"
