"""The registry of checks: one file each. To add one, write its file and name its class here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import msgspec

from midsession.checks.alive import Alive
from midsession.checks.base import Check
from midsession.checks.count import Count
from midsession.checks.every import Every
from midsession.checks.exit import Exit
from midsession.checks.in_order import InOrder
from midsession.checks.kept import Kept
from midsession.checks.latency import Latency
from midsession.checks.lifecycle import Lifecycle
from midsession.checks.log import LogCheck
from midsession.checks.never import Never
from midsession.checks.once import Once
from midsession.checks.order import Order
from midsession.checks.python import Python
from midsession.checks.recovery import Recovery
from midsession.core.plan import Plan

__all__ = ["ALWAYS", "CHECKS", "Check", "always", "build"]

CHECKS: Mapping[str, type[Check]] = MappingProxyType(
    {
        check.kind: check
        for check in (Every, Never, Count, Order, Latency, Recovery, Kept, Once, InOrder, Exit, LogCheck, Python)
    }
)
"""What a scenario can name, by its naming key."""

ALWAYS: Sequence[Check] = (Lifecycle(), Alive())
"""What is judged in every run that has clients or services to be judged by it, named or not."""


def always(plan: Plan) -> list[Check]:
    """Those of `ALWAYS` that a run of this plan can be judged by."""
    subjects = {Lifecycle.kind: plan.clients, Alive.kind: plan.services}
    return [check for check in ALWAYS if subjects[check.kind]]


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
