"""The registry of faults: what the language may say, and what the runner can do.

A new fault is a file in this directory and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midsession.core.plan import Plan
from midsession.faults.base import Ability, Fault
from midsession.registry import Registry

FAULTS: Mapping[str, type[Fault]] = Registry(
    "midsession.faults",
    {
        "kill": "Kill", "stop": "Stop", "start": "Start", "restart": "Restart", "pause": "Pause", "resume": "Resume",
        "power_off": "PowerOff", "vanish": "Vanish", "readdress": "Readdress",
        "partition": "Partition", "hold": "Hold", "loss": "Loss", "delay": "Delay", "rate": "Rate",
        "reorder": "Reorder", "duplicate": "Duplicate", "corrupt": "Corrupt", "mtu": "Mtu", "flap": "Flap",
        "refuse": "Refuse", "ignore": "Ignore", "reset": "Reset", "idle_expiry": "IdleExpiry",
        "dns": "Dns",
    },
)  # fmt: skip
"""Every fault by its verb, in the order of the docs."""


def build(verb: str, args: Mapping[str, Any]) -> Fault:
    """The fault of a step. `args` are its fields, as the language has validated them; lists become tuples."""
    return FAULTS[verb](**{key: tuple(value) if isinstance(value, list) else value for key, value in args.items()})


def needed_abilities(plan: Plan) -> frozenset[Ability]:
    """What agents must be able to do for the steps of the plan."""
    return frozenset(ability for fault in _of(plan) for ability in fault.abilities())


def looked_up(plan: Plan) -> frozenset[str]:
    """The services whose names clients look up at every connect, because of a step of the plan."""
    return frozenset(name for fault in _of(plan) for name in fault.looked_up())


def broken_networks(plan: Plan) -> frozenset[str]:
    """The services, client groups and clients whose hosts have their network broken by a step of the plan.

    Their agents need power over it (see `Fault.abilities`); nobody else's does.
    """
    return frozenset(place for fault in _of(plan) if fault.abilities() for place in fault.places(plan))


def readdressed(plan: Plan) -> frozenset[str]:
    """The services whose hosts are given another address by a step of the plan."""
    return frozenset(place for fault in _of(plan) if "addresses" in fault.abilities() for place in fault.places(plan))


def _of(plan: Plan) -> list[Fault]:
    return [build(step.verb, step.args) for step in plan.timeline if step.verb in FAULTS]
