"""What the benchmarks rest on and no other test would see break."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import CASES, SEEN
from midsession.faults import FAULTS
from midsession.language import plans


def test_every_fault_is_measured() -> None:
    """A new one without a case, and a case of none, are noticed."""
    assert list(CASES) == list(FAULTS)
    assert {case.how for case in CASES.values()} == set(SEEN)


@pytest.mark.parametrize("verb", FAULTS)
def test_a_measured_fault_has_a_scenario(verb: str, tmp_path: Path) -> None:
    """With that fault as the step that is measured, and hosts that every testbed has."""
    path = tmp_path / f"{verb}.scenario.yaml"
    path.write_text(CASES[verb].scenario(verb), encoding="utf-8")
    (plan,) = plans(path, 1)
    (step,) = [step for step in plan.timeline if step.id == "fault"]
    assert step.verb == verb
    assert [service.name for service in plan.services] == ["server"]
