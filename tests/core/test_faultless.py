"""A plan without its faults fires the same steps, breaks nothing, and still brings up what was absent."""

from __future__ import annotations

import msgspec

from midsession.core.faultless import has_faults, without_faults
from midsession.core.plan import Plan, ReferenceService
from tests.build import World

MENDING = frozenset({"start", "resume"})


def broken() -> Plan:
    """A spare that is absent at first, a server that is killed and started, a signal."""
    server = ReferenceService(name="server", port=4000)
    spare = msgspec.structs.replace(server, name="spare", autostart=False)
    w = World([server, spare], talkers=1)
    for n, verb in enumerate(("start", "start", "kill", "start", "signal", "heal"), 1):
        w.step(f"s{n}", at=float(n), verb=verb)
    targets = {0: "spare", 1: "spare", 5: "s3"}
    for n, target in targets.items():
        w.timeline[n] = msgspec.structs.replace(w.timeline[n], args={"target": target}, for_s=1.0 if n == 1 else None)
    return w.plan


def test_every_step_fires_as_before_and_nothing_breaks() -> None:
    """Ids, triggers and places stay; what would break or mend is a note, once what was absent is up."""
    harmless = without_faults(broken(), MENDING)
    assert [step.verb for step in harmless.timeline] == ["start", "note", "note", "note", "signal", "note"]
    assert [(s.id, s.when, s.place) for s in harmless.timeline] == [(s.id, s.when, s.place) for s in broken().timeline]
    assert {step.for_s for step in harmless.timeline} == {None}
    assert Plan.from_json(harmless.to_json()) == harmless


def test_it_has_no_faults_any_more() -> None:
    """Nor had a plan that only brings something up."""
    assert has_faults(broken(), MENDING)
    assert not has_faults(without_faults(broken(), MENDING), MENDING)
