"""`delay`: packets come later."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.agent.network.impairment import Delay as Impairment
from midsession.agent.network.impairment import Distribution
from midsession.faults.base import Ability
from midsession.faults.impairment import LinkFault, milliseconds


@dataclass(frozen=True, slots=True)
class Delay(LinkFault):
    """Each packet between the target and others takes `latency` longer, give or take `jitter`.

    `direction` is seen from the target: `both` (the default), so that a round trip takes twice as much longer; `to` it,
    or `from` it only. `with`, a service or client group, narrows it down to the packets between the two.

    `distribution` says how the delays lie: `uniform` (the default), all between latency - jitter and latency + jitter
    alike; `normal`, or `pareto` with its long tail, both with the mean `latency` and the standard deviation `jitter`,
    and never below zero.

    No packet overtakes another of the same two hosts (that is `reorder`), however densely they follow each other: as on
    a road, the delay changes smoothly with time. Packets that are six times the jitter apart or more have delays that
    are drawn each for itself; the nearer to each other, the more alike are theirs. Dense traffic too meets each delay
    as often as `distribution` says, but for the rare one that falls faster than time goes by: those packets come right
    behind the one before them, so that the mean is higher by 1 % of the jitter at most (`pareto`: by some 20 %). Delays
    are drawn from the run's seed: so long after the first packet of a direction, the delay is the same in every run of
    the seed. Delays of several steps add up.

    It took effect when the first packet has been let go after its delay, on each of the target's hosts; the record
    tells the measured `mean_ms`. Healing lets go at once, in order, what is held; its `healed` record tells how many
    packets were delayed (`packets`), their `mean_ms` and `worst_ms`.
    """

    verb = "delay"
    needs = frozenset({"shape"})

    latency_s: float
    jitter_s: float = 0.0
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        """Raises ValueError for no delay, and for a uniform jitter beyond the latency."""
        LinkFault.__post_init__(self)
        if self.latency_s <= 0:
            raise ValueError("'latency' is more than 0s")
        if self.distribution == "uniform" and self.jitter_s > self.latency_s:
            raise ValueError("'jitter' is at most 'latency': no packet can come before it was sent")
        if self.distribution != "uniform" and not self.jitter_s:
            raise ValueError("a 'distribution' needs a 'jitter'")

    def abilities(self) -> frozenset[Ability]:
        """The kernel's own netem either lets packets overtake each other, or keeps dense ones at the longest delay."""
        return frozenset({"queue"}) if self.jitter_s else self.needs

    def how(self) -> Impairment:
        """As asked."""
        return Impairment(latency_s=self.latency_s, jitter_s=self.jitter_s, distribution=self.distribution)

    def what(self) -> str:
        """With the jitter."""
        jitter = f" ± {milliseconds(self.jitter_s)}" if self.jitter_s else ""
        return f"{milliseconds(self.latency_s)}{jitter}" + (
            f" {self.distribution}" if self.distribution != "uniform" else ""
        )
