"""Every shipped scenario that the project's own containers can serve keeps its promises in `docker compose up`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import pytest

from midsession import rundir
from midsession.core.plan import Plan
from midsession.core.verdict import Verdict
from midsession.errors import EnvironmentLacks
from midsession.faults import FAULTS
from midsession.testbeds.registry import has_containers
from tests.build import stored_verdict
from tests.testbeds.shipped import PLANS, ROOT, SEED, assert_passes, name

COMPOSE_S = 300

UNFIT_FOR_COMPOSE = [
    p
    for p in PLANS
    if p.foreign
    or has_containers(p)
    or {s.name for s in p.services} != {"server"}
    or any(FAULTS[s.verb].needs for s in p.timeline if s.verb in FAULTS)
]
"""Those that break the network (the project's agents have no NET_ADMIN), and those that need hosts that it has not."""


@pytest.fixture(scope="module")
def compose() -> tuple[int, Mapping[str, Verdict]]:
    """All scenarios in one `make up` (by its script: make has exit codes of its own): its code, and the verdicts."""
    runs = ROOT / "runs"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    environment = {**os.environ, "SCENARIO": "scenarios", "SEED": str(SEED)}
    done = subprocess.run(
        ["tools/engine", "tools/up"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMPOSE_S,
        check=False,
    )
    made = sorted(set(runs.iterdir()) - before)
    judged = [run for run in made if (run / rundir.VERDICT).exists()]  # those that were refused have none
    verdicts = {name(rundir.read_plan(run)): stored_verdict(run) for run in judged}
    assert verdicts, done.stdout + done.stderr
    return done.returncode, verdicts


@pytest.mark.docker
@pytest.mark.parametrize("plan", [plan for plan in PLANS if plan not in UNFIT_FOR_COMPOSE], ids=name)
def test_on_compose(compose: tuple[int, Mapping[str, Verdict]], plan: Plan) -> None:
    """The scenario passes in the containers of `docker compose up`."""
    _, verdicts = compose
    assert_passes(verdicts[name(plan)])


@pytest.mark.docker
def test_compose_ends_with_the_worst_exit_code(compose: tuple[int, Mapping[str, Verdict]]) -> None:
    """All pass that can run there, and those that cannot are told by the code, not left out in silence."""
    code, verdicts = compose
    assert set(verdicts) == {name(plan) for plan in PLANS if plan not in UNFIT_FOR_COMPOSE}
    assert UNFIT_FOR_COMPOSE
    assert code == EnvironmentLacks.exit_code
