"""A scenario from Python objects is judged as its YAML would be; places are paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.core.loader import parse
from midsession.core.objects import tree_of
from midsession.door import IN_PYTHON, one_plan
from midsession.errors import ScenarioError
from midsession.language import load
from tests.test_pytest_plugin import MATRIX


def objects() -> Any:
    """The scenario of the pytest tests, as objects."""
    return parse(MATRIX.encode(), "x").data


def test_objects_give_the_plan_of_their_yaml(tmp_path: Path) -> None:
    """But for its places; variables and matrix included, tuples are lists."""
    path = tmp_path / "x.scenario.yaml"
    path.write_text(MATRIX)
    written = load(path).plans(7)[1]
    made = one_plan({**objects(), "tags": ("small", "kill")}, 7, "[n=2]", tmp_path)
    assert made.source == str(tmp_path / IN_PYTHON)
    assert [check.place for check in made.checks] == ["scenario.checks[0]"]
    assert msgspec.structs.replace(made, source=written.source, checks=written.checks) == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sevices": {}}, "scenario.sevices: unknown key 'sevices'; did you mean 'services'?"),
        ({"timeout": 10}, "scenario.timeout: the duration 10 has no unit"),
        ({"tags": {"a", "b"}}, "scenario.tags: a set cannot stand in a scenario"),
        ({"checks": [{"every": "talker", "meets": "lst", "within": "1s"}]}, "scenario.checks[0].meets: unknown event"),
        (
            {"checks": [{"never": {"event": "lost", "of": "me"}}]},
            "scenario.checks[0].never.of: there is no",
        ),
        ({"name": None}, "scenario.name: 'name' has no value"),
        ({1: 2}, "scenario: a key must be text, not 1"),
        ({"matrix": {"n": [10**5000]}}, "scenario.matrix.n[0]: the number is infinite, not a number, or absurdly"),
        ({"matrix": {"n": [float("inf")]}}, "scenario.matrix.n[0]: the number is infinite, not a number, or absurdly"),
    ],
)
def test_a_mistake_is_told_with_its_path(change: dict[Any, Any], message: str) -> None:
    """And all of them at once."""
    with pytest.raises(ScenarioError) as wrong:
        one_plan({**objects(), **change}, 7, "[n=1]")
    assert any(str(problem).startswith(message) for problem in wrong.value.problems), str(wrong.value)


def test_problems_stand_in_the_order_of_the_objects() -> None:
    """First things first."""
    with pytest.raises(ScenarioError) as wrong:
        one_plan({**objects(), "timeout": 1, "matrx": 1}, 7)
    assert [str(problem.place) for problem in wrong.value.problems] == ["scenario.timeout", "scenario.matrx"]


def test_objects_without_an_end_are_refused() -> None:
    """A list that holds itself, and one that is too long."""
    endless: list[object] = []
    endless.append(endless)
    for value, slug in ((endless, "too-deep"), ([0] * 20_000, "too-many-nodes")):
        with pytest.raises(ScenarioError, match=slug):
            tree_of(value)
