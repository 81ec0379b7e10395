"""On which steps of the timeline a check relies: where they did nothing, it can say nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from midsession.core.plan import After, AllOf, Every, OnEvent, Plan, Trigger


def relied_on(args: Mapping[str, Any], plan: Plan, asked: Collection[str] = ()) -> frozenset[str]:
    """The steps from which a check with these fields counts (`since`), and those that they themselves came after.

    Of the step before which it counts (`until`) only those that this came after: what lies before a fault does not rely
    on it, and may be the reason that it met nobody. `asked` are those of which it was seen to ask the instant: a check
    in Python has no fields to tell. A step that has `any` of several triggers may have come for another reason, so what
    stands below it does not count.
    """
    triggers = {step.id: step.when for step in plan.timeline}
    since, until = {*named(args, "since")}, {*named(args, "until")} & triggers.keys()
    before = {step for end in until for step in _awaited(triggers[end])}
    found, new = set[str](), (since | before | {*asked} - until) & triggers.keys()
    while new:
        found |= new
        new = {step for one in new for step in _awaited(triggers[one])} - found
    return frozenset(found)


def named(value: object, key: str) -> Iterator[str]:
    """The steps under that key, at any depth of a check's fields."""
    if isinstance(value, Mapping) and isinstance(step := value.get(key), str):
        yield step
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from named(one, key)


def _awaited(when: Trigger) -> Iterator[str]:
    match when:
        case After(step=step):
            yield step
        case OnEvent(since=str(step)) | Every(since=str(step)):
            yield step
        case AllOf(triggers=triggers):
            for inner in triggers:
                yield from _awaited(inner)
