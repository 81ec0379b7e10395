"""The registry of checks: one file each. To add one, write its file and name its class here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from midsession.checks.base import Check
from midsession.core.plan import Plan
from midsession.registry import Registry

__all__ = ["ALWAYS", "CHECKS", "Check", "always", "build"]

CHECKS: Mapping[str, type[Check]] = Registry(
    "midsession.checks",
    {
        "every": "Every", "never": "Never", "count": "Count", "order": "Order", "latency": "Latency",
        "recovery": "Recovery", "kept": "Kept", "once": "Once", "in_order": "InOrder", "exit": "Exit",
        "log": "LogCheck", "python": "Python",
    },
)  # fmt: skip
"""What a scenario can name, by its naming key."""

ALWAYS: Mapping[str, type[Check]] = Registry("midsession.checks", {"lifecycle": "Lifecycle", "alive": "Alive"})
"""What is judged in every run that has clients or services to be judged by it, named or not; they have no fields."""


def always(plan: Plan) -> list[Check]:
    """Those of `ALWAYS` that a run of this plan can be judged by."""
    subjects = {"lifecycle": plan.scripted, "alive": plan.services}
    return [check() for kind, check in ALWAYS.items() if subjects[kind]]


def build(kind: str, args: Mapping[str, Any]) -> Check:
    """The check of a plan's `kind` and `args` (values by field name).

    Raises ValueError for an unknown kind or field, and for values that the check refuses.
    """
    if kind not in CHECKS:
        raise ValueError(f"there is no check {kind!r}; there are {', '.join(CHECKS)}")
    unknown = args.keys() - {f.name for f in fields(CHECKS[kind])}
    if unknown:
        raise ValueError(f"the check {kind} has no field {', '.join(sorted(unknown))}")
    return msgspec.convert(dict(args), CHECKS[kind])
