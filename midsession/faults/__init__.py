"""The registry of faults: what the language may say, and what the runner can do.

A new fault is a file in this directory and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midsession.core.plan import Plan
from midsession.faults.base import Fault
from midsession.faults.flap import Flap
from midsession.faults.ignore import Ignore
from midsession.faults.kill import Kill
from midsession.faults.loss import Loss
from midsession.faults.mtu import Mtu
from midsession.faults.partition import Partition
from midsession.faults.pause import Pause
from midsession.faults.power_off import PowerOff
from midsession.faults.refuse import Refuse
from midsession.faults.reset import Reset
from midsession.faults.restart import Restart
from midsession.faults.resume import Resume
from midsession.faults.start import Start
from midsession.faults.stop import Stop
from midsession.faults.vanish import Vanish

_ALL: tuple[type[Fault], ...] = (
    *(Kill, Stop, Start, Restart, Pause, Resume),
    *(PowerOff, Vanish),
    *(Partition, Loss, Mtu, Flap),
    *(Refuse, Ignore, Reset),
)
FAULTS: Mapping[str, type[Fault]] = {fault.verb: fault for fault in _ALL}
"""Every fault by its verb, in the order of the docs."""


def build(verb: str, args: Mapping[str, Any]) -> Fault:
    """The fault of a step. `args` are its fields, as the language has validated them."""
    return FAULTS[verb](**args)


def broken_networks(plan: Plan) -> frozenset[str]:
    """The services, client groups and clients whose hosts have their network broken by a step of the plan.

    Their agents need power over it (see `Fault.needs`); nobody else's does.
    """
    faults = [build(step.verb, step.args) for step in plan.timeline if step.verb in FAULTS]
    return frozenset(fault.place(plan) for fault in faults if fault.needs)
