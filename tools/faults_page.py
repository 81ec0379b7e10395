"""Write docs/faults.md from the faults themselves: their docstrings are their exact meaning. A test compares.

python tools/faults_page.py [docs/faults.md]
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from itertools import groupby
from pathlib import Path

from midsession.core.units import split_name
from midsession.faults import FAULTS
from midsession.faults.base import Fault
from midsession.testbeds.registry import offering

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
HEAD = """# Faults

What a step of the timeline can do to a service or to its clients. A scalar in place of the mapping is the `target`.
Every fault needs its **witness**, a record that proves that it took effect; without it the run is *inconclusive*. A
client group as a target means every host that plays it: each is broken, each must give its witness, each is healed.
What heals may carry `for: 3s`, may be named by a `heal` step, and is healed at the end of every run; healing is looked
at, not assumed, and ends with the record `healed`: whatever a cure has done, the kernel (and the process that holds
packets, for the faults that hold some) is asked what there still is of the fault. If there is anything, nothing is
`healed`, the run is an *error* that says what was found, and its hosts serve no further run. A `heal` that came before
its fault is *inconclusive*; so is one that healed nothing because the fault had ended by itself, or because there was
none, where a check counts from it, or from a step that came after it. A scenario for each fault is in
`scenarios/faults/`.

**Targets.** A service, a client group, or one client by its number, `talkers-3`, where the fault can hit a connection
and nothing else; or a choice that is drawn from the seed before the run: `{one: talkers}`, `{minority: [a, b, c]}`,
`{majority: …}`, `{all: …}`. See [scenario.md](scenario.md#choice). One step hits either clients by their numbers, or
whole hosts: `{all: [talkers, talkers-1]}` is refused.

**Selectors.** What is a rule over packets can be narrowed down, and every selector that is given must fit. `with` is
the other end, a service or client group. `port` is the service's end of the traffic: the target's own port, or that of
the other end where the target is clients. `protocol` is `tcp` or `udp`. A client as the target means the connection
that it has open at that moment, and none that it opens later; one that has none open makes the step fail.

**A host and itself.** Faults are between the target and others. What a host sends to itself, a health check or a
connection to its own address, passes unharmed while it runs, and is no witness of anything.

**Mechanisms.** What holds, slows or spoils packets is done by a queue in user space, or, on a host that can have none,
by the kernel's netem as far as that goes: `rate`, `delay` without jitter, and `loss` in bursts. The queue comes first,
because it does exactly what is asked, with the draws of the run's seed, proves it, and stacks. The `injected` record
tells which it was; [calibration.md](calibration.md) has the rest.

*This page is made from the code by `python tools/faults_page.py`.*

## When a fault counts

A fault counts with its witness, and where somebody may have felt it. It proves nothing, and the run is
*inconclusive*, when no session with its target was open, nobody tried to connect while it was in force (or ever after
it, where it does not heal), no program of yours may have spoken with the target, and no check asks what became of it.
So the wrong target is found out, and the right one at the wrong time. A program may speak with a service when it is a
client that is to connect there and has not exited, or when its command, its `env` or one of its `files` says the
service's name (services of one Compose file are taken to know each other). A check asks what became of it by `exit`,
by `log`, or by an event of its program's life, like `exited` (one in Python may ask anything); add one where you break
on purpose what nobody uses. Checks that count from the fault (`since`) ask for more: who lost a session must have had
one, and to what sessions met belongs one that was open, or was tried while the fault was in force.

Besides, the checks that rely on a fault that proves nothing have [no say](checks.md).
"""
NEEDS = "Needs agents that may change their host's network: `--testbed {}`."


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for family, faults in groupby(FAULTS.values(), key=lambda fault: fault.family):
        parts.append(f"\n## {family.capitalize()}\n")
        parts += [entry(fault) for fault in faults]
    return "".join(parts)


def entry(fault: type[Fault]) -> str:
    """One fault: its keys, and what it means."""
    targets = " or ".join(kind for kind in ("service", "client group", "client") if kind in fault.targets)
    needs = NEEDS.format("` or `".join(offering(*fault.needs))) if fault.needs else ""
    facts = [f"Target: {targets}.", "Heals." if fault.healable else "", needs]
    keys = ", ".join(_key(field) for field in dataclasses.fields(fault))
    return f"\n### {fault.verb}\n\n{inspect.getdoc(fault)}\n\nKeys: {keys}. {' '.join(filter(None, facts))}\n"


def _key(field: dataclasses.Field[object]) -> str:
    name, _ = split_name(field.name)
    if field.default is dataclasses.MISSING:
        return f"**`{name}`**"
    unit = " s" if field.name.endswith("_s") else ""
    return f"`{name}`" if field.default is None else f"`{name}` ({field.default}{unit})"


if __name__ == "__main__":
    Path(*(sys.argv[1:2] or [str(PAGE)])).write_text(page(), encoding="utf-8")
