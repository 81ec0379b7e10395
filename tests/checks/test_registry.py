"""What every check must keep, whichever it is: T4 of the promises, over the registry."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from midsession.checks import ALWAYS, CHECKS, build
from midsession.core.verdict import Status
from midsession.rundir import judge_history
from tests.build import World

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "every": [
        {"every": "talkers", "meets": "lost", "since": "crash", "within_s": 1.0},
        {"every": "talkers", "meets": "replied", "since": "crash"},
    ],
    "never": [
        {"never": {"event": "protocol_error", "since": "crash"}},
        {"never": {"event": "client_lost", "of": "server", "since": "crash"}},
        {"never": {"event": "lost", "of": "talkers", "since": "crash"}},
    ],
    "count": [
        {"count": {"event": "lost", "since": "crash"}, "equals": 0},
        {"count": {"event": "replied", "of": "talkers", "since": "crash"}, "at_most": 5, "each": True},
        {"count": {"event": "accepted", "of": "server", "since": "crash"}, "at_least": 0},
    ],
    "order": [
        {"order": [{"event": "lost", "since": "crash"}, {"event": "connected", "since": "crash"}]},
        {"order": [{"event": e, "of": "talkers", "since": "crash"} for e in ("lost", "connected")]},
    ],
    "latency": [{"latency": {"of": "talkers", "since": "crash"}, "at_most_s": {"p99": 5.0}}],
    "recovery": [{"recovery": {"of": "talkers", "since": "crash"}, "at_most_s": {"p99": 5.0}}],
    "python": [{"python": "tests/checks/promises/promises.py::talkers_after_the_crash"}],
    "kept": [{"kept": {"of": "talkers", "read_by": "talkers"}}],
    "once": [{"once": {"of": "talkers", "read_by": "talkers"}}],
    "in_order": [{"in_order": {"of": "talkers", "read_by": "talkers"}}],
    "exit": [{"exit": {"service": "server", "since": "crash"}, "code": 0}],
    "log": [
        {"log": {"service": "server", "contains": "x", "since": "crash"}},
        {"log": {"service": "server", "contains": "x", "since": "crash"}, "equals": 0},
    ],
}

CASES = [
    pytest.param(kind, args, id=f"{kind}-{n}") for kind, all_args in EXAMPLES.items() for n, args in enumerate(all_args)
]


def nobody_came() -> World:
    """A run in which no client had a session, and the server's program never lived."""
    w = World(talkers=2).step("crash", at=1.0)
    w._starts.clear()
    w._writers.pop(("server", "program", 1))
    w._writers.pop(("client-1", "program", 1))
    return w


def all_was_over() -> World:
    """A run in which every session, and the server, had ended before the fault."""
    w = World(talkers=2).step("crash", at=1.0).dies("server", at=0.8)
    for number in (1, 2):
        w.client(f"talkers-{number}").connects(0.1).talks(0.2).closes(0.5).ends(0.6)
    return w


def test_every_check_has_an_example_here() -> None:
    """A new check must show what it does with nothing."""
    assert set(EXAMPLES) == set(CHECKS)
    assert len(CASES) >= len(CHECKS) >= 6


@pytest.mark.parametrize(("kind", "args"), CASES)
@pytest.mark.parametrize("world", [nobody_came, all_was_over])
def test_nothing_in_scope_is_never_a_pass(kind: str, args: dict[str, Any], world: Callable[[], World]) -> None:
    """T4: any check over an empty scope is inconclusive."""
    w = world().check(kind, **args)
    finding = judge_history(w.history()).findings[0]
    assert finding.check == kind
    assert finding.status is Status.INCONCLUSIVE, finding.seen
    assert finding.seen


@pytest.mark.parametrize(("kind", "args"), CASES)
def test_without_any_log_no_check_passes(kind: str, args: dict[str, Any]) -> None:
    """T6: an empty history leaves every promise open."""
    w = all_was_over().check(kind, **args)
    w.removed = set(w.encoded())
    assert judge_history(w.history()).findings[0].status is Status.INCONCLUSIVE


@pytest.mark.parametrize(("kind", "args"), CASES)
def test_a_check_is_a_value_that_says_its_promise(kind: str, args: dict[str, Any]) -> None:
    """The same fields make the same check; its promise is one line; its meaning is its docstring."""
    check = build(kind, args)
    assert check == build(kind, args)
    assert check.promise
    assert "\n" not in check.promise
    assert len(inspect.getdoc(CHECKS[kind]) or "") > 100


@pytest.mark.parametrize("kind", CHECKS)
def test_a_check_is_named_by_the_field_of_its_kind(kind: str) -> None:
    """The language finds a check by that key."""
    assert CHECKS[kind].kind == kind
    assert kind in {field.name for field in dataclasses.fields(CHECKS[kind])}


def test_what_is_always_on_cannot_be_named() -> None:
    """A scenario can neither ask for nor leave out the contract of our own fleet."""
    assert ALWAYS
    assert [check.kind for check in ALWAYS.values()] == [*ALWAYS]
    assert not set(ALWAYS) & set(CHECKS)


@pytest.mark.parametrize(("kind", "args"), [("evry", {}), ("every", {"every": "x", "meets": "lost", "witihn_s": 1})])
def test_an_unknown_check_or_field_is_refused(kind: str, args: dict[str, Any]) -> None:
    """A plan that was edited by hand gets an error, not a check that does something else."""
    with pytest.raises(ValueError, match="no"):
        build(kind, args)
