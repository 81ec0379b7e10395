"""Expressions over names of plans choose what pytest's would, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsession.errors import NothingSelected, ScenarioError
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


@pytest.mark.parametrize("text", ["(" * 3000, "not " * 3000 + "kill", "(" * 3000 + "kill" + ")" * 3000, "(not " * 3000])
def test_an_expression_that_nobody_reads_is_refused(text: str) -> None:
    """In words, and not with all of it."""
    with pytest.raises(ScenarioError, match=r"more than 100 deep  \[bad-keyword\]$") as refused:
        expression(text)
    assert len(str(refused.value)) < 400


def test_a_long_expression_is_no_deep_one() -> None:
    """A thousand plans named one by one, and a bracket after another."""
    assert expression(" or ".join(["(a and not b)"] * 1000 + ["kill"]))("kill")
    assert expression("not (" * 49 + "kill" + ")" * 49)("lesson")


def test_plans_are_chosen_by_name_variant_and_tag(tmp_path: Path) -> None:
    """A combination of the matrix can be named exactly; any one of the tags will do."""
    path = tmp_path / "two.scenario.yaml"
    path.write_text(SCENARIO)
    assert [variant(p) for p in select([tmp_path]).plans(7)] == ["[clients=1]", "[clients=50]"]
    [one] = select([tmp_path], keyword="[clients=50]").plans(7)
    assert plan_id(one) == f"{path}[clients=50]"
    assert len(select([tmp_path], tags=["kill", "other"]).plans(7)) == 2


def test_nothing_selected_says_what_was_asked_and_of_how_many(tmp_path: Path) -> None:
    """An empty folder, a keyword and a tag that fit nothing: an error of its own, with a remedy."""
    with pytest.raises(NothingSelected, match=r"no \*\.scenario\.yaml; .*\[nothing-selected\]"):
        select([tmp_path])
    (tmp_path / "two.scenario.yaml").write_text(SCENARIO)
    with pytest.raises(NothingSelected, match=r"none of 2 plans fits -k 'two' -t 'other'; `midsession list`"):
        select([tmp_path], keyword="two", tags=["other"])
    with pytest.raises(ScenarioError, match="bad-keyword"):
        select([tmp_path], keyword="(")


def test_the_same_plans_are_drawn_for_any_seed(tmp_path: Path) -> None:
    """From files that were read once: what stands in them later changes nothing."""
    path = tmp_path / "two.scenario.yaml"
    path.write_text(SCENARIO)
    selected = select([path])
    path.unlink()
    first, second = selected.plans(7), selected.plans(8)
    assert [plan_id(p) for p in first] == [plan_id(p) for p in second]
    assert [p.seed for p in second] == [8, 8]
