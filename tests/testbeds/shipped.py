"""The shipped scenarios, which keep their promises on every testbed that can serve them: the same verdicts."""

from __future__ import annotations

from pathlib import Path

from midsession.core.plan import Plan
from midsession.core.verdict import Status, Verdict
from midsession.language import collect, plans

ROOT = Path(__file__).parents[2]
SEED = 20260
PLANS = [plan for path in collect([ROOT / "scenarios"]) for plan in plans(path.relative_to(ROOT), SEED)]


def name(plan: Plan) -> str:
    return f"{plan.source}{plan.matrix or ''}"


def assert_passes(verdict: Verdict) -> None:
    bad = [f"{f.status}: {f.promise}: {f.seen}" for f in verdict.findings if f.status != Status.PASS]
    assert not bad
    assert verdict.status is Status.PASS
