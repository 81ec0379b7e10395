"""The timeline in the picture: when each step fired and why, how quick it was, what it did, and when it was over."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from midsession.core.plan import After, At, Step, Trigger
from midsession.core.record import Event
from midsession.faults import FAULTS, build
from midsession.report.text import duration, reference, visible

if TYPE_CHECKING:
    from midsession.core.history import History
    from midsession.core.steps import StepStory


@dataclass(frozen=True, slots=True)
class Band:
    """A step that fired; instants from the start of the run.

    `start_ns` is the injection (the firing, for a step that is no fault), `end_ns` when it was over: healed, or the
    program listening again, or the end of the run; equal to `start_ns` for what takes no time. `lag_ns` is the time
    from the record that made it fire to the injection. `effective_ns` (to its last witness) and `first_loss_ns` count
    from the injection.
    """

    step: str
    label: str
    because: str
    start_ns: int
    end_ns: int
    lag_ns: int | None
    effective_ns: int | None
    witness: str
    first_loss_ns: int | None
    is_fault: bool
    healed: bool


def bands(history: History, zero_ns: int, end_ns: int) -> list[Band]:
    """A band for each step that fired, in the order of firing."""
    plans = {step.id: step for step in history.plan.timeline}
    over = _listening_again(history)
    losses = [r.t_ns for r in history.events(Event.LOST) if r.client]
    fired = sorted((s for s in history.steps.values() if s.triggered), key=lambda s: s.instant_ns or 0)
    return [_band(s, plans[s.id], over.get(s.id, s.instant_ns), losses, zero_ns, end_ns) for s in fired]


def _listening_again(history: History) -> dict[str, int | None]:
    """When the program that a step ended was up again; None: never."""
    over: dict[str, int | None] = {}
    down: dict[str, str] = {}
    for record in history.events(Event.EXITED, Event.LISTENING):
        if record.event == Event.LISTENING and record.host in down:
            over[down.pop(record.host)] = record.t_ns
        elif record.event == Event.EXITED and record.fields.get("by") in history.steps:
            down[record.host] = record.fields["by"]
            over[record.fields["by"]] = None
    return over


def _band(step: StepStory, plan: Step, over_ns: int | None, losses: Sequence[int], zero_ns: int, end_ns: int) -> Band:
    began_ns = step.instant_ns or 0
    end = step.healed.t_ns - zero_ns if step.healed else end_ns if over_ns is None else over_ns - zero_ns
    at = bisect_left(losses, began_ns)
    return Band(
        step=visible(step.id, 80),
        label=label(step.verb, plan.args),
        because=because(plan.when, step.cause),
        start_ns=began_ns - zero_ns,
        end_ns=end,
        lag_ns=lag_ns(step),
        effective_ns=int(step.effective.fields.get("after_ns", 0)) if step.effective else None,
        witness=reference(dict(step.witness)) if step.witness else "",
        first_loss_ns=losses[at] - began_ns if step.is_fault and at < len(losses) else None,
        is_fault=step.is_fault,
        healed=step.healed is not None,
    )


def lag_ns(step: StepStory) -> int | None:
    """From the record that made a step fire to its injection (or firing); None when the clock made it fire."""
    cause_ns = (step.cause or {}).get("t_ns")
    return step.instant_ns - int(cause_ns) if step.instant_ns is not None and cause_ns is not None else None


def label(verb: str, args: dict[str, Any]) -> str:
    """A step in a few words: the fault's own, or the conductor's verb with its target."""
    if verb in FAULTS:
        return visible(build(verb, args).describe(), 120)
    return visible(f"{verb} {args.get('target', '')}".rstrip(), 120)


def because(trigger: Trigger, by: Mapping[str, Any] | None) -> str:
    """Why a step fired: the record that made it, or what the clock was waiting for."""
    if by:
        return reference(dict(by))
    match trigger:
        case After(step=step, wait_s=wait_s):
            return f"{duration(wait_s * 1e9)} after {visible(step, 80)}"
        case At(at_s=at_s):
            return f"{duration(at_s * 1e9)} after the start"
        case _:
            return "the clock"
