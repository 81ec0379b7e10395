"""What became of each step of the timeline: when it fired and because of what, its injection, its witness, its cure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from midsession.core.plan import Plan, Step
from midsession.core.record import Event, Record

OWN_VERBS = frozenset({"signal", "heal", "run", "note"})
"""The conductor's own actions; every other verb is a fault's, and needs a witness."""


class StepStory(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one step; None for what did not happen.

    `cause` and `witness` are references (host, writer, incarnation, seq), see `History.find`.
    """

    id: str
    verb: str
    place: str
    triggered: Record | None = None
    injected: Record | None = None
    effective: Record | None = None
    healed: Record | None = None
    """The last cure, once every host on which it was injected is healed."""
    failed: Record | None = None
    """The conductor's note that it could not be injected, or will never show its witness."""

    @property
    def is_fault(self) -> bool:
        """Whether it breaks (or starts) something, and so needs a witness."""
        return self.verb not in OWN_VERBS

    @property
    def instant_ns(self) -> int | None:
        """The instant that `since` means: just before the fault's call, else when the step fired."""
        if self.injected is not None:
            began = self.injected.fields.get("began_ns")
            return int(began) if began is not None else self.injected.t_ns
        return self.triggered.t_ns if self.triggered else None

    @property
    def cause(self) -> Mapping[str, Any] | None:
        """The record that made it fire."""
        return self.triggered.fields.get("by") if self.triggered else None

    @property
    def witness(self) -> Mapping[str, Any] | None:
        """The record that proves that it took effect; of several hosts, the last."""
        return self.effective.fields.get("witness") if self.effective else None

    @property
    def witnesses(self) -> Sequence[Mapping[str, Any] | None]:
        """One for each host; never empty."""
        return self.effective.fields.get("witnesses") or [self.witness] if self.effective else [None]


def tell_steps(plan: Plan, of: Callable[[str], Sequence[Record]]) -> dict[str, StepStory]:
    """The story of every step. `of` gives the records of an event, in order; the first of each kind counts."""
    triggered = _by(of(Event.TRIGGERED), "step")
    injected, effective = _by(of(Event.INJECTED), "fault"), _by(of(Event.EFFECTIVE), "step")
    healed, failed = _healed(of(Event.INJECTED), of(Event.HEALED)), _by(of(Event.NOTE), "failed")

    def story(step: Step) -> StepStory:
        return StepStory(
            id=step.id,
            verb=step.verb,
            place=step.place,
            triggered=triggered.get(step.id),
            injected=injected.get(step.id),
            effective=effective.get(step.id),
            healed=healed.get(step.id),
            failed=failed.get(step.id),
        )

    return {step.id: story(step) for step in plan.timeline}


def _healed(injected: Sequence[Record], healed: Sequence[Record]) -> dict[str, Record]:
    """The last cure of each fault that is healed wherever it was injected."""
    ill: dict[str, set[str]] = {}
    for r in injected:
        ill.setdefault(str(r.fields.get("fault")), set()).add(r.host)
    cures: dict[str, Record] = {}
    for r in healed:
        fault = str(r.fields.get("fault"))
        left = ill.get(fault, set())
        left.discard(r.host)
        if not left:
            cures.setdefault(fault, r)
    return cures


def _by(records: Sequence[Record], key: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for r in records:
        if (name := r.fields.get(key)) is not None:
            found.setdefault(name, r)
    return found
