"""A host that stood still is no proof against whom it watched; and no excuse for more than its stall explains."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.checks import build
from midsession.core.pulse import BEAT_S, LATE_NS, Pulse
from midsession.core.verdict import Finding, Status
from tests.build import World, ns

BEAT_NS = round(BEAT_S * 1e9)
EVERY = {"every": "talkers", "meets": "lost", "since": "crash", "within_s": 1.0}
BACK = {"recovery": {"of": "talkers", "since": "crash"}, "at_most_s": {"max": 1.0}}


def late(lost_at: float = 2.3, *, verb: str = "kill") -> World:
    """A server that dies at 1.0, and two talkers: one notices in time, one so late; both are answered 0.1 s after."""
    w = World(talkers=2).step("crash", at=1.0, verb=verb)
    for number, at in ((1, 1.2), (2, lost_at)):
        client = w.client(f"talkers-{number}").connects(0.1).talks(0.2).loses(at)
        client.connects(at + 0.05).talks(at + 0.1).closes(at + 0.2).ends(at + 0.3)
    return w


def judged(w: World, kind: str, **args: Any) -> Finding:
    """The finding of a check."""
    return build(kind, args).judge(w.history())


@pytest.mark.parametrize(
    ("host", "writer"),
    [("client-1", "program"), ("client-1", "agent"), ("server", "agent"), ("conductor", "conductor")],
)
def test_too_late_by_no_more_than_a_stall_is_inconclusive(host: str, writer: str) -> None:
    """Whoever of the harness noticed: the hosts share a machine."""
    assert judged(late(), "every", **EVERY).status is Status.FAIL
    finding = judged(late().stalls(2.3, 1.3, host, writer), "every", **EVERY)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen == ("1 of 2 did in time; talkers-2: lost only at +1.300 s, and the host was stalled for 1.3 s")
    recovered = judged(late().stalls(2.41, 1.4, host, writer), "recovery", **BACK)
    assert recovered.status is Status.INCONCLUSIVE
    assert recovered.seen.endswith("; but the host was stalled for 1.4 s")


@pytest.mark.parametrize(
    ("until", "for_s"),
    [(2.3, 0.2), (0.9, 0.9), (4.0, 1.3), (1.2, 5.0)],
    ids=["too short", "before the crash", "after the loss", "mostly before the crash"],
)
def test_a_stall_that_does_not_explain_it_excuses_nothing(until: float, for_s: float) -> None:
    """It must lie in the window, and be as long as what is too much."""
    w = late().stalls(until, for_s)
    assert judged(w, "every", **EVERY).status is Status.FAIL
    assert judged(w, "recovery", **BACK).status is Status.FAIL


def test_stalls_that_overlap_are_one() -> None:
    """Two writers that stood still at the same time do not stand still for twice as long."""
    w = late(2.6).stalls(2.0, 0.5).stalls(2.1, 0.5, "server", "agent")
    assert w.history().stalls == [(ns(1.5), ns(2.1))]
    assert judged(w, "every", **EVERY).status is Status.INCONCLUSIVE
    assert judged(late(2.61).stalls(2.0, 0.5).stalls(2.1, 0.5, "server", "agent"), "every", **EVERY).status is (
        Status.FAIL
    )


def test_who_never_met_it_was_not_late() -> None:
    """A stall makes things late, it does not make them go away."""
    w = World(talkers=1).step("crash", at=1.0).stalls(3.0, 2.0)
    w.client("talkers-1").connects(0.1).talks(0.2).closes(4.0).ends(4.1)
    assert judged(w, "every", **EVERY).status is Status.FAIL
    assert judged(w, "recovery", **BACK).status is Status.FAIL


def gives_up(stalled_until: float = 3.0, for_s: float = 1.9) -> World:
    """A server that dies at 1.0, comes back late as the conductor stood still, and a talker of three attempts."""
    w = World(talkers=1).step("crash", at=1.0).step("back", at=3.1, verb="start")
    client = w.client("talkers-1").connects(0.1).talks(0.9).loses(1.0)
    for at in (1.2, 1.5, 2.0):
        client.is_refused(at)
    client.says("gave_up", 2.0, attempts=3).ends(2.0, "gave_up")
    return w.stalls(stalled_until, for_s, "conductor", "conductor")


BROKEN = {
    "late": ("every", {"every": "talkers", "meets": "replied", "since": "crash", "within_s": 1.5}),
    "missed": ("every", {"every": "talkers", "meets": "replied", "since": "crash"}),
    "from the start": ("every", {"every": "talkers", "meets": "done", "where": {"outcome": "ok"}}),
    "recovery": ("recovery", {"recovery": {"of": "talkers", "since": "crash"}, "at_most_s": {"max": 1.5}}),
    "never": ("never", {"never": {"event": "gave_up"}}),
    "done": ("never", {"never": {"event": "done", "where": {"outcome": "gave_up"}}}),
    "too many": ("count", {"count": {"event": "lost", "of": "talkers", "since": "crash"}, "at_most": 2}),
    "each": ("count", {"count": {"event": "lost", "of": "talkers", "since": "crash"}, "at_most": 2, "each": True}),
    "too few": ("count", {"count": {"event": "connected", "of": "talkers"}, "at_least": 2}),
    "order": (
        "order",
        {"order": [{"event": "lost", "of": "talkers"}, {"event": "connected", "of": "talkers", "since": "crash"}]},
    ),
}


@pytest.mark.parametrize(("kind", "args"), BROKEN.values(), ids=BROKEN)
def test_who_gave_up_while_the_conductor_stood_still_broke_nothing(kind: str, args: dict[str, Any]) -> None:
    """Its server would have been started again in time."""
    finding = judged(gives_up(), kind, **args)
    assert finding.status is Status.INCONCLUSIVE
    assert "the host was stalled for 0.9 s" in finding.seen


@pytest.mark.parametrize(("kind", "args"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("until", "for_s"),
    [(0.95, 0.15), (3.0, 0.99), (1.5, 0.09)],
    ids=["before the crash", "after it gave up", "too short"],
)
def test_who_gave_up_for_another_reason_has_no_excuse(
    kind: str, args: dict[str, Any], until: float, for_s: float
) -> None:
    """What lay before the trial, or after it, or was too short, was not the reason."""
    assert judged(gives_up(until, for_s), kind, **args).status is Status.FAIL


def test_attempts_count_from_the_loss_of_the_connection() -> None:
    """Those before the step, too: they used up what was left for the time after it."""
    w = World(talkers=1).step("crash", at=1.0).step("back", at=1.95, verb="start").stalls(1.9, 0.8)
    w.client("talkers-1").connects(0.1).loses(1.0).is_refused(1.9).is_refused(2.0)
    w.client("talkers-1").says("gave_up", 2.0, attempts=2).ends(2.0, "gave_up")
    every = {"every": "talkers", "meets": "connected", "since": "back"}
    assert judged(w, "every", **every).status is Status.INCONCLUSIVE


def test_a_connection_may_be_lost_because_nobody_spoke_on_it() -> None:
    """The peer saw an idle client, whose host stood still; of a stall before the step that counts, it saw nothing."""

    def idle(until: float) -> World:
        w = World(talkers=1).step("calm", at=1.5, verb="note").stalls(until, 0.5)
        w.client("talkers-1").connects(0.1).talks(0.9).loses(3.0).ends(3.0, "lost")
        return w

    never = {"never": {"event": "lost", "since": "calm"}}
    assert judged(idle(2.9), "never", **never).status is Status.INCONCLUSIVE
    assert judged(idle(1.4), "never", **never).status is Status.FAIL


def test_a_reply_that_never_came_may_be_the_stall_s_doing() -> None:
    """As any that came too late."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.5).says("sent", 1.0, n=2)
    w.client("talkers-1").says("protocol_error", 2.0, expected="ok", got=None, within_s=1.0, n=2).closes(2.1)
    w.client("talkers-1").ends(2.2, "protocol_error")
    limit = {"latency": {"of": "talkers"}, "at_most_s": {"max": 1.0}}
    assert judged(w, "latency", **limit).status is Status.FAIL
    finding = judged(w.stalls(1.9, 0.5), "latency", **limit)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen.endswith("but the host was stalled for 0.5 s")


def test_a_program_that_a_fault_froze_did_not_stall() -> None:
    """Its silence was ordered; another writer's stall at the same time was not."""
    w = late()
    w.agent("client-1", "frozen", 1.0, fault="crash").agent("client-1", "thawed", 2.2, fault="crash")
    assert judged(w.stalls(2.25, 1.25), "every", **EVERY).status is Status.FAIL
    assert judged(w.stalls(2.25, 1.25, "server", "agent"), "every", **EVERY).status is Status.INCONCLUSIVE


def test_a_reply_may_have_waited_for_its_host() -> None:
    """Its time without the stall keeps the limit, its time with it does not."""

    def slow() -> World:
        w = World(talkers=1)
        client = w.client("talkers-1").connects(0.1)
        client.says("sent", 1.0, n=1).says("replied", 2.5, n=1, text="", rtt_ns=1_500_000_000).closes(3.0).ends(3.1)
        return w

    limit = {"latency": {"of": "talkers"}, "at_most_s": {"max": 1.0}}
    assert judged(slow(), "latency", **limit).status is Status.FAIL
    assert judged(slow().stalls(2.0, 0.4), "latency", **limit).status is Status.FAIL
    finding = judged(slow().stalls(2.0, 0.6), "latency", **limit)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen.endswith("; but the host was stalled for 0.6 s")


def test_an_expect_that_ran_out_while_the_host_stood_still_proves_nothing() -> None:
    """A quarter of its time is enough to doubt it; wrong bytes are wrong whenever they come."""
    never = {"never": {"event": "protocol_error"}}

    def silent(got: str | None = None) -> World:
        w = World(talkers=1)
        w.client("talkers-1").connects(0.1).says("protocol_error", 2.0, expected="ok", got=got, within_s=1.0)
        w.client("talkers-1").closes(2.1).ends(2.2, "protocol_error")
        return w

    assert judged(silent(), "never", **never).status is Status.FAIL
    assert judged(silent().stalls(1.9, 0.24), "never", **never).status is Status.FAIL
    finding = judged(silent().stalls(1.9, 0.25), "never", **never)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen.endswith("but the host was stalled for 0.2 s")
    assert judged(silent("nonsense").stalls(1.9, 0.9), "never", **never).status is Status.FAIL


def test_a_pulse_tells_only_of_beats_that_came_late() -> None:
    """And of no more than what is certain: from when the beat was due."""
    pulse = Pulse(0)
    assert pulse.beat(BEAT_NS) is None
    assert pulse.beat(2 * BEAT_NS + LATE_NS - 1) is None
    assert pulse.beat(3 * BEAT_NS + 2 * LATE_NS + 4) == {"for_ns": LATE_NS + 5}
    assert pulse.beat(4 * BEAT_NS + 2 * LATE_NS + 4) is None
