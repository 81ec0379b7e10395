"""The audit: it finds a check that cannot fail, and lets every check go that can."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from midsession.checks import build
from midsession.core.audit import Audited, audit
from midsession.core.history import History
from midsession.core.verdict import Finding, Status
from midsession.rundir import judge_history
from tests.build import World


def run() -> World:
    """Two talkers that lose their server and come back, a server that says a line."""
    w = World(talkers=2, readers=1).step("crash", at=1.0).step("return", at=2.0, verb="start")
    w.agent("server", "line", 0.1, stream="stdout", text="Listening on 0.0.0.0:4000", incarnation=1)
    for n in (1, 2):
        w.serves("accepted", 0.1, connection=n, peer="10.0.0.2:4").serves("client_lost", 1.0, connection=n, how="reset")
        w.client(f"talkers-{n}").connects(0.1).talks(0.2).loses(1.01).connects(2.1).talks(2.2).closes(2.4).ends(2.5)
    reader = w.client("readers-1").connects(3.0)
    for n in range(1, 7):
        w.client(f"talkers-{n % 2 + 1}").says("sent", 2.2 + n / 100, n=n, text=f"w{n}\n", **{"as": "write"})
        w.client(f"talkers-{n % 2 + 1}").says("replied", 2.2 + n / 100, n=n, text="OK", rtt_ns=1, ok="write")
        reader.says("sent", 3.0 + n / 100, n=n, text="more\n", **{"as": "read"})
        reader.says("replied", 3.0 + n / 100, n=n, text=f"w{n}", rtt_ns=1, ok="read")
    reader.closes(4.0).ends(4.1)
    return w


def audited(w: World, kind: str, **args: Any) -> Audited:
    """What the audit says of one check."""
    w.check(kind, **args)
    return audit(w.plan, w.files(), [], build)[-1]


TOOTHED: list[tuple[str, dict[str, Any], str]] = [
    ("every", {"every": "talkers", "meets": "lost", "since": "crash", "within_s": 1.0}, "without any lost"),
    ("every", {"every": "talkers", "meets": "lost", "as_": "eof"}, "without any lost"),
    ("never", {"never": {"event": "protocol_error"}}, "protocol_error again and again"),
    ("never", {"never": {"event": "lost", "as_": "reset", "of": "talkers", "since": "return"}}, "lost again and again"),
    ("never", {"never": {"event": "lost", "of": "talkers", "until": "crash"}}, "lost just before crash"),
    ("count", {"count": {"event": "client_lost", "until": "crash"}, "equals": 0}, "client_lost just before crash"),
    ("never", {"never": {"event": "mark", "where": {"name": "oops"}}}, "mark again and again"),
    ("count", {"count": {"event": "accepted", "of": "server"}, "equals": 2}, "without any accepted"),
    ("count", {"count": {"event": "lost", "of": "talkers"}, "at_most": 500}, "lost again and again"),
    ("order", {"order": [{"event": "lost"}, {"event": "done"}]}, "without any lost"),
    ("log", {"log": {"service": "server", "contains": "Listening"}}, "without any line"),
    ("log", {"log": {"service": "server", "matches": "^panic: .*$"}, "equals": 0}, "line again and again"),
    ("exit", {"exit": {"service": "server"}, "code": 0}, "every exited says something else"),
    ("latency", {"latency": {"of": "talkers"}, "at_most_s": {"p99": 5.0}}, "every replied says something else"),
    ("recovery", {"recovery": {"of": "talkers", "since": "crash"}, "at_most_s": {"p50": 5.0}}, "without any replied"),
]


@pytest.mark.parametrize(("kind", "args", "spoilt"), TOOTHED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_check_that_can_fail_is_seen_to_fail(kind: str, args: dict[str, Any], spoilt: str) -> None:
    """With the spoilt history in which it did, and what it said there."""
    found = audited(run(), kind, **args)
    assert found.passed
    assert (found.can_fail, found.spoilt) == (True, spoilt)
    assert found.seen


READS = {"of": "talkers", "read_by": "readers", "matches": "w[0-9]+"}
TOOTHED += [
    ("kept", {"kept": READS}, "without every other replied"),
    ("once", {"once": READS}, "every replied twice"),
    ("in_order", {"in_order": READS}, "what sent says in reverse order"),
]


TOOTHLESS: list[tuple[str, dict[str, Any]]] = [
    ("count", {"count": {"event": "lost"}, "at_least": 0}),
    ("count", {"count": {"event": "replied", "of": "talkers"}, "at_least": 0, "each": True}),
    ("log", {"log": {"service": "server", "contains": "x"}, "at_least": 0}),
    ("python", {"python": "tests/checks/promises/promises.py::always"}),
]


@pytest.mark.parametrize(("kind", "args"), TOOTHLESS)
def test_a_check_that_cannot_fail_is_found(kind: str, args: dict[str, Any]) -> None:
    """T6: it passes, whatever happens in the run."""
    w = run()
    found = audited(w, kind, **args)
    assert judge_history(w.history()).findings[0].status is Status.PASS
    assert not found.can_fail
    assert found.tried > 20
    assert found.place == "x.scenario.yaml:20:5"


def test_a_check_that_failed_needs_no_spoiling() -> None:
    """The run itself has shown that it can."""
    found = audited(run(), "never", never={"event": "lost"})
    assert (found.passed, found.can_fail, found.tried) == (False, True, 1)


class Content:
    """A check that claims support whatever there is, and fails only over what it dislikes."""

    kind: ClassVar[str] = "content"
    promise = "all is well"

    def judge(self, history: History) -> Finding:
        """Fails over a lost connection too many, passes over nothing at all."""
        status = Status.FAIL if history.events("lost").count > 2 else Status.PASS
        return Finding(check="content", status=status, promise=self.promise, seen="so", support=1)


def test_a_check_that_passes_over_no_record_is_toothless_though_it_can_fail() -> None:
    """T6: each check is judged over an empty history too."""
    found = audited(run(), "every", every="talkers", meets="lost", since="crash")
    assert (found.over_nothing, found.can_fail) == (Status.INCONCLUSIVE, True)
    w = run().check("content")
    (found,) = audit(w.plan, w.files(), [], lambda *_: Content())
    assert (found.over_nothing, found.can_fail) == (Status.PASS, False)
    assert found.seen == "it passes over no record at all"


def test_a_check_that_is_only_ever_in_doubt_has_not_been_seen_to_fail() -> None:
    """Inconclusive in the run as it is, and over every spoilt one: nothing that could happen would break it."""

    class Doubt(Content):
        def judge(self, history: History) -> Finding:
            """Cannot tell, whatever there is."""
            return Finding(check="content", status=Status.INCONCLUSIVE, promise=self.promise, seen="who knows")

    w = run().check("content")
    (found,) = audit(w.plan, w.files(), [], lambda *_: Doubt())
    assert (found.passed, found.can_fail) == (False, False)
    assert found.tried > 1
    assert found.seen == f"it is inconclusive in this run and fails in none of {found.tried} spoilt runs"


@pytest.mark.parametrize(
    "which",
    [
        {"contains": "Traceback (most"},
        {"contains": "a.b"},
        {"matches": r"^ERROR \d+$"},
        {"matches": r"a\.b"},
        {"matches": "(panic|fatal): [a-z]+"},
        {"matches": "k[^ ]+ v.*"},
    ],
)
def test_a_line_that_was_never_said_is_made_up(which: dict[str, str]) -> None:
    """So that a check for its absence is seen to fail."""
    found = audited(run(), "log", log={"service": "server", **which}, equals=0)
    assert (found.passed, found.can_fail) == (True, True), found


def test_a_check_with_more_time_than_the_run_took_is_seen_to_fail() -> None:
    """The run ended because the event came; without it, it would have waited."""
    w = World(talkers=1).step("crash", at=1.0).programs("drivers", 1)
    w.client("talkers-1").connects(0.1).closes(1.3).ends(1.4)
    w.step("enough", at=1.5, verb="stop").program(
        "drivers-1", (1.2, "hello"), exits=1.5, code=None, signal="TERM", by="enough"
    )
    where = {"text": "hello"}
    found = audited(w, "every", every="drivers", meets="line", since="crash", within_s=60.0, where=where)
    assert (found.passed, found.can_fail) == (True, True), found
