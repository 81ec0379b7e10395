"""Expressions over names of plans choose what pytest's would, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsession.errors import ScenarioError
from midsession.select import expression, plan_id, select, variant

SCENARIO = """\
name: Two sizes
tags: [small, kill]
timeout: 5s
matrix: {clients: [1, 50]}
services: {server: {reference: {behaviour: reply}, port: 4000}}
clients: {talkers: {count: "${{ matrix.clients }}", connect: "server:4000", script: [end]}}
checks: [{never: {event: protocol_error}}]
"""


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("kill", True),
        ("KILL", True),
        ("lesson", False),
        ("not lesson", True),
        ("lesson or kill", True),
        ("kill and lesson", False),
        ("lesson and kill or kill", True),
        ("not (lesson or kill)", False),
        ("not not kill", True),
        ("[clients=50]", True),
        ("[clients=5]", False),
    ],
)
def test_an_expression_fits_what_it_says(text: str, fits: bool) -> None:
    """and binds closer than or, not closest; words are parts of names in any case."""
    assert expression(text)("scenarios/kill/a.scenario.yaml[clients=50]") is fits


@pytest.mark.parametrize("text", ["and", "kill and", "(kill", "kill)", "not", "()", "kill lesson"])
def test_an_expression_that_cannot_be_read_is_the_users_error(text: str) -> None:
    """With the expression in the message."""
    with pytest.raises(ScenarioError, match="bad-keyword"):
        expression(text)


def test_plans_are_chosen_by_name_variant_and_tag(tmp_path: Path) -> None:
    """A combination of the matrix can be named exactly; any one of the tags will do."""
    path = tmp_path / "two.scenario.yaml"
    path.write_text(SCENARIO)
    assert [variant(p) for p in select([tmp_path], 7)] == ["[clients=1]", "[clients=50]"]
    [one] = select([tmp_path], 7, keyword="[clients=50]")
    assert plan_id(one) == f"{path}[clients=50]"
    assert len(select([tmp_path], 7, tags=["kill", "other"])) == 2
    assert select([tmp_path], 7, tags=["other"]) == []
