"""As much of a scenario as its checks can refer to, made from a plan: for checks that come after the run.

A stored run has a plan, and no scenario that would still be the same. What checks name are services, client groups,
steps and marks, and all of these stand in the plan.
"""

from __future__ import annotations

from collections.abc import Mapping

from midsession.core.loader import Node
from midsession.core.plan import GroupPlan, Mark, Plan, ReferenceService, steps_of
from midsession.core.scalars import Scalar
from midsession.errors import Place

_Plain = Scalar | list["_Plain"] | dict[str, "_Plain"]


def outline(plan: Plan, checks: Node) -> Node:
    """The tree of a scenario with the plan's names and these checks."""
    services: dict[str, _Plain] = {s.name: _service(s) for s in plan.services}
    clients: dict[str, _Plain] = {group.name: _group(group) for group in plan.groups}
    timeline: list[_Plain] = [{"id": step.id} for step in plan.timeline]
    named: dict[str, _Plain] = {"services": services, "clients": clients, "timeline": timeline}
    place = Place(plan.source, 1, 1)
    return Node({**{key: _node(value, place) for key, value in named.items()}, "checks": checks}, place)


def _service(service: object) -> dict[str, _Plain]:
    return {"reference": {}} if isinstance(service, ReferenceService) else {}


def _group(group: GroupPlan) -> dict[str, _Plain]:
    marks: list[_Plain] = [{"mark": step.name} for step in steps_of(group.script) if isinstance(step, Mark)]
    played: dict[str, _Plain] = {"script": marks} if group.program is None else {"command": []}
    return {"count": len(group.clients), **played}


def _node(value: _Plain, place: Place) -> Node:
    if isinstance(value, Mapping):
        return Node({key: _node(inner, place) for key, inner in value.items()}, place, dict.fromkeys(value, place))
    if isinstance(value, list):
        return Node([_node(inner, place) for inner in value], place)
    return Node(value, place)
