"""What a check may name is settled before the run: all else is refused at its place, and nothing crashes after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from midsession import language
from midsession.checks import CHECKS, build
from midsession.core import plan as p
from midsession.core.history import History
from midsession.core.judge import judge_check
from midsession.core.loader import parse
from midsession.core.outline import outline
from midsession.core.references import reference_problems
from midsession.core.refers import references_of
from midsession.core.verdict import Status
from midsession.errors import ScenarioError
from midsession.faults import FAULTS

SCENARIO = """\
name: Names
services:
  server: {reference: kv, port: 4000}
  other: {command: [other], port: 4001}
clients:
  talkers: {count: 3, connect: server:4000, script: [end]}
  drivers: {count: 2, command: [driver]}
timeline:
  - id: crash
    when: {at: 1s}
    kill: server
checks:
"""
NAMES = ["server", "other", "talkers", "talkers-3", "talkers-4", "drivers", "drivers-2", "drivers-0", "nobody"]
CHECKED = {
    "- latency: {of: NAME}\n  at_most: {max: 1s}": {"talkers", "talkers-3"},
    "- recovery: {of: NAME, since: crash}\n  at_most: {max: 1s}": {"talkers", "talkers-3"},
    "- kept: {of: NAME, read_by: talkers}": {"talkers", "talkers-3"},
    "- once: {of: talkers, read_by: NAME}": {"talkers", "talkers-3"},
    "- in_order: {of: NAME, read_by: NAME}": {"talkers", "talkers-3"},
    "- every: NAME\n  meets: done": {"talkers"},
    "- every: NAME\n  meets: exited": {"drivers"},
    "- never: {event: received, of: NAME}": {"server", "talkers", "talkers-3"},
    "- count: {event: received, of: NAME}\n  at_least: 1\n  each: true": {"talkers", "talkers-3"},
    "- count: {event: line, of: NAME}\n  at_least: 1\n  each: true": {"drivers", "drivers-2"},
    "- count: {event: line, of: NAME}\n  at_least: 1": {"server", "other", "drivers", "drivers-2"},
    "- order: [{event: sent, of: NAME}, {event: received, of: NAME}]": {"server", "talkers", "talkers-3"},
    "- exit: {clients: NAME}\n  code: 0": {"drivers", "drivers-2"},
    "- exit: {service: NAME}\n  code: 0": {"server", "other"},
    "- log: {clients: NAME, contains: x}\n  each: true": {"drivers", "drivers-2"},
    "- log: {service: NAME, contains: x}": {"server", "other"},
}
AS_SCENARIO = [(check, name, name in good) for check, good in CHECKED.items() for name in NAMES]


def plan_of(text: str) -> p.Plan:
    scenario: Any = parse(text.encode(), "x.yaml").data
    (plan,) = language.load_objects(scenario, Path("x.yaml")).plans(1)
    return plan


@pytest.mark.parametrize(("check", "name", "good"), AS_SCENARIO)
def test_what_a_check_names_fits_it_or_is_refused(check: str, name: str, good: bool) -> None:
    """A name that is taken can be judged, though there be nothing to see; another one is refused, with a reason."""
    text = SCENARIO + check.replace("NAME", name)
    if not good:
        with pytest.raises(ScenarioError) as caught:
            plan_of(text)
        assert {problem.slug for problem in caught.value.problems} <= REFUSALS
        return
    plan = plan_of(text)
    finding = judge_check(plan.checks[0], History.of(plan, {}), build)
    assert finding.status in (Status.INCONCLUSIVE, Status.FAIL)
    assert "crashed" not in finding.seen


REFUSALS = {"unknown-group", "unknown-subject", "unknown-service", "impossible-event"}


@pytest.mark.parametrize(("check", "name", "good"), AS_SCENARIO)
def test_a_check_after_the_run_may_name_the_same(check: str, name: str, good: bool) -> None:
    """`midsession check RUN --checks FILE` knows of the plan alone, and that is enough."""
    checks = parse(check.replace("NAME", name).encode(), "checks.yaml")
    plan = plan_of(SCENARIO + "- never: {event: lost}")
    assert (reference_problems(outline(plan, checks), language.language()) == []) is good


def test_what_each_step_of_a_check_refers_to_is_one_of_the_timeline() -> None:
    """Also the end of a window."""
    for key in ("since", "until"):
        with pytest.raises(ScenarioError, match="there is no step 'crsh'; did you mean 'crash'"):
            plan_of(SCENARIO + f"- latency: {{of: talkers, {key}: crsh}}\n  at_most: {{max: 1s}}")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("- latency: {of: server}\n  at_most: {max: 1s}", "'server' is a service"),
        (
            "- latency: {of: drivers}\n  at_most: {max: 1s}",
            "'drivers' is a client group of programs",
        ),
        ("- latency: {of: drivers-1}\n  at_most: {max: 1s}", "'drivers-1' is a client that is a program"),
        ("- exit: {clients: talkers-1}\n  code: 0", "'talkers-1' is a client with a script"),
    ],
)
def test_a_name_that_does_not_fit_is_called_what_it_is(check: str, said: str) -> None:
    """It is there, so that it is not there would be a riddle."""
    with pytest.raises(ScenarioError) as caught:
        plan_of(SCENARIO + check)
    assert caught.value.problems[0].remedy == said


@pytest.mark.parametrize(
    ("where", "slug"),
    [
        ("{event: witnessed, where: {by: queue}}", ""),
        ("{event: injected, where: {mechanism: netem}}", ""),
        ("{event: healed, where: {overrun: 3}}", ""),
        ("{event: sent, where: {n: 1}}", ""),
        ("{event: sent, of: talkers-1, where: {n: 1, as: write}}", ""),
        ("{event: sent, of: server, where: {n: 1}}", "unknown-field"),
        ("{event: listening, of: other, where: {by: port}}", ""),
        ("{event: listening, of: server, where: {by: port}}", "unknown-field"),
        ("{event: error, of: server, where: {how: refused}}", "impossible-value"),
        ("{event: replied, of: talkers, where: {bytes: 21}}", "unknown-field"),
        ("{event: injected, where: {verb: kill}}", ""),
        ("{event: injected, where: {verb: partition}}", "impossible-value"),
    ],
)
def test_a_field_is_one_that_the_records_of_that_subject_have(where: str, slug: str) -> None:
    """In checks and in triggers: a check of another could not fail, a trigger not fire."""
    for text in (SCENARIO + f"- never: {where}", SCENARIO.replace("{at: 1s}", where) + "- never: {event: lost}"):
        if not slug:
            assert plan_of(text)
            continue
        with pytest.raises(ScenarioError) as caught:
            plan_of(text)
        assert [problem.slug for problem in caught.value.problems] == [slug]


def test_a_trigger_may_wait_for_one_client() -> None:
    """By its name, be it played by a script or a program of its own."""
    text = SCENARIO.replace("{at: 1s}", "{any: [{event: replied, of: talkers-3, count: 5}, LOG]}")
    plan = plan_of(text.replace("LOG", "{log: {clients: drivers-2, contains: x}}") + "- never: {event: lost}")
    trigger = plan.timeline[0].when
    assert isinstance(trigger, p.AnyOf)
    assert trigger.triggers == [
        p.OnEvent(event="replied", of="talkers-3", count=5),
        p.OnLog(of="drivers-2", contains="x"),
    ]


def test_no_service_is_called_like_a_client() -> None:
    """Else a name could mean either."""
    with pytest.raises(ScenarioError, match="'talkers-2' is a service already, and would be a client of 'talkers'"):
        plan_of(SCENARIO.replace("other:", "talkers-2:") + "- never: {event: lost}")
    assert plan_of(SCENARIO.replace("other:", "talkers-4:") + "- never: {event: lost}")


def test_no_service_is_called_like_a_fleet() -> None:
    """The two would be one host, and their logs one file."""
    with pytest.raises(ScenarioError, match=r"^scenario\.services\.client-1: the hosts of all fleets"):
        plan_of(SCENARIO.replace("other:", "client-1:") + "- never: {event: lost}")
    assert plan_of(SCENARIO.replace("other:", "client-x:") + "- never: {event: lost}")


FREE = {"python", "signal", "contains", "matches", "as_", "where", "target"}
"""Texts that name nothing of the scenario, and the targets, which have rules of their own."""


def texts(cls: type[Any]) -> Iterator[str]:
    """The fields of a mapping, and of those in it, that are text."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if str in (hints[field.name], *getattr(hints[field.name], "__args__", ())):
            yield field.name
    for inner in references_of(cls).values():
        if isinstance(inner, type):
            yield from texts(inner)


def names(cls: type[Any]) -> Iterator[str]:
    for key, inner in references_of(cls).items():
        if isinstance(inner, type):
            yield from names(inner)
        else:
            yield key


@pytest.mark.parametrize("cls", [*CHECKS.values(), *FAULTS.values()], ids=lambda cls: cls.__name__)
def test_every_text_of_a_fault_or_check_says_what_it_refers_to(cls: type[Any]) -> None:
    """Or is known to refer to nothing: whoever adds one decides."""
    assert {name.removesuffix("_") for name in {*texts(cls)} - FREE} <= {*names(cls)}
