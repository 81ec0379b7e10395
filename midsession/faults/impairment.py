"""What the faults that impair a link have in common: whose packets, which way, the agent's impairment, its cure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.network.impairment import Direction, Impairment
from midsession.agent.protocol import Impair, Mend, Request
from midsession.core.record import Event, Record
from midsession.core.refers import Side
from midsession.faults.base import ANY, Fault, Move, Scene
from midsession.faults.packets import UNFELT, peers_of, refuse_itself


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFault(Fault):
    """Base of a fault that is one `Impair`; its witness is the first packet that it has done its work on."""

    family = "link"
    healable = True
    targets = ANY
    needs = frozenset({"queue"})
    watches = frozenset({Event.WITNESSED})
    unfelt = UNFELT

    direction: Direction = "both"
    with_: Side | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a link of the target with itself."""
        refuse_itself(self.names, self.with_)

    @abstractmethod
    def how(self) -> Impairment:
        """What is done to the packets."""

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One impairment."""
        own, peers = scene.address, peers_of(self.with_, scene)
        return (Impair(id=0, fault=step, own=own, peers=peers, direction=self.direction, how=self.how()),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """End it."""
        return (Mend(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw it at work."""
        return record.event == Event.WITNESSED

    def what(self) -> str:
        """The impairment as a few words: `50 ms`."""
        return ""

    def describe(self) -> str:
        """With what is done, and what narrows it down."""
        said = [self.what()] if self.what() else []
        said += [f"with {self.with_}"] if self.with_ else []
        said += [f"direction {self.direction}"] if self.direction != "both" else []
        return f"{self.verb} {self.whom}" + (f" ({', '.join(said)})" if said else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPackets(LinkFault):
    """Base of a link fault that befalls some packets: each with a probability, or exactly each n-th."""

    rate_share: float | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless it says which packets."""
        LinkFault.__post_init__(self)
        refuse_choice(self.rate_share, self.every)

    def what(self) -> str:
        """Which packets: `10 %`, `each 5th packet`."""
        return chosen(self.rate_share, self.every)


def refuse_choice(share: float | None, every: int | None) -> None:
    """Raises ValueError unless exactly one of `rate` and `every` chooses packets, within bounds."""
    if (share is None) == (every is None):
        raise ValueError("say which packets: either 'rate' or 'every'")
    if share is not None and share < 1e-6:
        raise ValueError("'rate' is at least 0.0001%")
    if every is not None and not 1 <= every <= 1_000_000:
        raise ValueError("'every' is between 1 and 1000000")


def chosen(share: float | None, every: int | None) -> str:
    """Which packets, in words: `10 %`, `each 5th packet`."""
    return f"each {every}th packet" if share is None else f"{share * 100:g} %"


def milliseconds(seconds: float) -> str:
    """`50 ms`."""
    return f"{seconds * 1e3:g} ms"
