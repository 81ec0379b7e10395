"""Look whether this machine has what runs need. Only looks: what it tries, it tries in namespaces of its own.

Knows no testbed: each says by its probes what is to be looked for on its behalf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midsession.testbeds.probe import EVERYWHERE, Missing, Probe
from midsession.testbeds.registry import TESTBEDS, probes


@dataclass(frozen=True, slots=True)
class Found:
    """What one probe saw. `required`: the testbed in question cannot do without it."""

    what: str
    ok: bool
    seen: str
    remedy: str
    required: bool


def examine(testbed: str) -> Iterator[Found]:
    """Probe everything, one after the other: what `testbed` looks for, then what others do."""
    own = (*EVERYWHERE, *probes(testbed))
    for probe in dict.fromkeys([*own, *all_probes()]):
        required = probe.needed and probe in own
        try:
            yield Found(probe.what, True, probe.look(), "", required)
        except Missing as missing:
            yield Found(probe.what, False, str(missing), missing.remedy or probe.remedy, required)


def all_probes() -> list[Probe]:
    """Each once. What no testbed needs is good to have for some faults."""
    return list(dict.fromkeys([*EVERYWHERE, *(probe for name in TESTBEDS for probe in probes(name))]))
