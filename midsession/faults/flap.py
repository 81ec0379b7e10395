"""`flap`: the link goes down and up, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midsession.agent.protocol import Link, Relink, Request
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Rest, Scene


@dataclass(frozen=True, slots=True)
class Flap(Fault):
    """The host's interface goes down for `down` and up for `up`, `times` times; then it stays up and is healed.

    Live connections survive each gap that is shorter than their own timeouts: TCP sends again what was lost. Programs
    see silence, then data in a burst, after TCP's own backoff.

    It took effect when the kernel says for the first time that the interface is down. Healing ends the rest of it and
    leaves the interface up. Where other faults have the interface down too, it is up only when none of them has.
    """

    verb = "flap"
    family = "link"
    healable = True
    targets = ANY
    needs = frozenset({"links"})
    watches = frozenset({Event.WITNESSED})
    proven_from = "first"

    down_s: float
    up_s: float
    times: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for less than one time, or more than a thousand."""
        if not 1 <= self.times <= 1000:
            raise ValueError("'times' is between 1 and 1000")

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """Down, a rest, up, a rest, …; the last up is the cure."""
        down, up = (Link(id=0, fault=step, own=scene.address, up=up) for up in (False, True))
        once: list[Move] = [down, Rest(self.down_s), up, Rest(self.up_s)]
        return [*once * (self.times - 1), down, Rest(self.down_s), *self.heal(step, scene)]

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """Up, and it stays so."""
        return (Relink(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the interface down."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With the rhythm."""
        return f"flap {self.whom} (down {self.down_s:g} s, up {self.up_s:g} s, {self.times} times)"
