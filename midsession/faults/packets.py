"""What the faults that are rules over packets have in common: the agent's filter, its counter, its cure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Filter, Request, Unfilter
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene


@dataclass(frozen=True, slots=True)
class PacketFault(Fault):
    """Base of a fault that is one `Filter`; its witness is the first packet that the rule has met."""

    family = "link"
    healable = True
    targets = ANY
    needs = frozenset({"filter"})
    watches = frozenset({Event.WITNESSED})

    @abstractmethod
    def rule(self, step: str, scene: Scene) -> Filter:
        """What is dropped or answered."""

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One rule."""
        return (self.rule(step, scene),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """Take it out."""
        return (Unfilter(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the rule's counter move."""
        return record.event == Event.WITNESSED


def peers_of(name: str | None, scene: Scene) -> list[str] | None:
    """The addresses of a fault's `with`; None: everybody."""
    return None if name is None else list(scene.addresses(name))


def refuse_itself(target: str, name: str | None) -> None:
    """Raises ValueError where a fault is between the target and the target."""
    if name == target:
        raise ValueError(f"'with' names the target itself, {target!r}")
