"""On which steps a check relies, from the plan alone."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.core.plan import After, AllOf, AnyOf, At, Every, OnEvent, Plan, Step, Trigger
from midsession.core.reliance import relied_on

TIMELINE: dict[str, Trigger] = {
    "cut": At(at_s=1.0),
    "mend": After(step="cut", wait_s=1.0),
    "calm": Every(group="talkers", event="replied", since="mend"),
    "other": OnEvent(event="lost", since="cut"),
    "both": AllOf(triggers=[After(step="other"), At(at_s=2.0)]),
    "either": AnyOf(triggers=[After(step="cut"), At(at_s=2.0)]),
}
PLAN = Plan("p", "p.yaml", 1, 1.0, [], [], [Step(name, when, "note", {}) for name, when in TIMELINE.items()], [])


@pytest.mark.parametrize(
    ("args", "steps"),
    [
        ({"never": {"event": "lost"}}, set()),
        ({"never": {"event": "lost", "since": "cut"}}, {"cut"}),
        ({"order": [{"event": "lost", "since": "mend"}, {"event": "connected"}]}, {"mend", "cut"}),
        ({"every": "talkers", "meets": "replied", "since": "calm"}, {"calm", "mend", "cut"}),
        ({"every": "talkers", "meets": "replied", "since": "both"}, {"both", "other", "cut"}),
        ({"every": "talkers", "meets": "replied", "since": "either"}, {"either"}),
        ({"never": {"event": "lost", "until": "cut"}}, set()),
        ({"never": {"event": "lost", "since": "cut", "until": "calm"}}, {"cut", "mend"}),
        ({"count": {"event": "lost", "until": "mend"}}, {"cut"}),
        ({"count": {"event": "mark", "where": {"name": "cut"}}}, set()),
    ],
)
def test_a_check_relies_on_what_it_counts_from_and_on_what_came_before_that(
    args: dict[str, Any], steps: set[str]
) -> None:
    """At any depth; not on what another trigger may have stood in for, nor on what only bears the name."""
    assert relied_on(args, PLAN) == steps
