"""A plan without its faults: what its checks say of a run in which nothing was broken.

A scenario whose checks all pass there as well does not test what its faults do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from midsession.core.plan import Plan, Step
from midsession.core.steps import OWN_VERBS

PATIENCE_S = 4.0
"""How long such a run may take: clients may wait in it for a signal that only a fault would have brought about."""


def without_faults(plan: Plan, mending: Collection[str], within_s: float = PATIENCE_S) -> Plan:
    """The plan with a note in the place of each fault: its steps fire when they did, and checks may count from them.

    What mends (`mending` are the verbs) is a note too, but for what first brings up a service that was absent.
    """
    absent = {service.name for service in plan.services if not service.autostart}
    steps = list(_harmless(plan.timeline, mending, absent))
    return msgspec.structs.replace(plan, timeline=steps, timeout_s=min(plan.timeout_s, within_s))


def has_faults(plan: Plan, mending: Collection[str]) -> bool:
    """Whether a step breaks anything."""
    return any(step.verb not in OWN_VERBS and step.verb not in mending for step in plan.timeline)


def _harmless(steps: list[Step], mending: Collection[str], absent: set[str]) -> Iterator[Step]:
    for step in steps:
        target = step.args.get("target")
        if step.verb in mending and target in absent:
            absent.discard(target)
            yield step
        elif step.verb in OWN_VERBS - {"heal"}:
            yield step
        else:
            note = {"target": f"without its faults: no {step.verb}"}
            yield msgspec.structs.replace(step, verb="note", args=note, for_s=None)
