"""`latency` and `recovery`: percentiles that leave nothing out, and say what they cannot know."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.checks import build
from midsession.core.history import CannotTell
from midsession.core.verdict import Finding, Status
from tests.build import World

MS = 1_000_000


def talk(*rtts_ms: float) -> World:
    """One talker whose replies took so long, one after the other, from 0.2 on, 0.1 apart."""
    w = World(talkers=1).step("crash", at=1.0)
    client = w.client("talkers-1").connects(0.1)
    for n, rtt in enumerate(rtts_ms, 1):
        client.says("sent", 0.1 + n / 10, n=n).says("replied", 0.15 + n / 10, n=n, text="", rtt_ns=round(rtt * MS))
    return w


def latency(w: World, at_most: dict[str, float], **of: Any) -> Finding:
    """The finding of a `latency` check."""
    return build("latency", {"latency": {"of": "talkers", **of}, "at_most_s": at_most}).judge(w.history())


def recovery(w: World, at_most: dict[str, float], **of: Any) -> Finding:
    """The finding of a `recovery` check, since the step crash."""
    args = {"recovery": {"of": "talkers", "since": "crash", **of}, "at_most_s": at_most}
    return build("recovery", args).judge(w.history())


# --- latency ---


def test_latency_within_its_limits_passes_with_its_percentiles() -> None:
    """The support is the number of replies; the slowest is the witness."""
    w = talk(1, 2, 3, 40)
    w.client("talkers-1").closes(0.9).ends(0.95)
    finding = latency(w, {"p50": 0.002, "max": 0.04})
    assert (finding.status, finding.support) == (Status.PASS, 4)
    assert finding.seen == "p50 2.000 ms, max 40.000 ms, of 4"
    assert finding.witnesses[0].fields["rtt_ns"] == 40 * MS
    assert finding.measures["max_ms"] == 40.0


def test_one_slow_reply_breaks_the_maximum_but_not_the_median() -> None:
    """And the client is named."""
    w = talk(1, 2, 3, 40)
    w.client("talkers-1").closes(0.9).ends(0.95)
    finding = latency(w, {"p50": 0.010, "max": 0.030})
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-1"]


@pytest.mark.parametrize("got", [None, "hal", "something else"])
def test_a_reply_that_never_came_takes_for_ever(got: str | None) -> None:
    """Coordinated omission: giving up on a reply must not improve the percentile, whatever came in its place."""
    w = talk(1, 1, 1)
    error = {"expected": "x", "got": got, "within_s": 0.1, "n": 4}
    w.client("talkers-1").says("sent", 0.8, n=4).says("protocol_error", 0.9, **error)
    w.client("talkers-1").closes(0.91).ends(0.95, "protocol_error")
    assert latency(w, {"p75": 0.002}).status is Status.PASS
    finding = latency(w, {"p99": 60.0})
    assert finding.status is Status.FAIL
    assert "p99 never, of 4; 1 never came" in finding.seen
    assert finding.offenders == ["talkers-1"]


def test_a_broken_expect_of_no_reply_says_nothing_about_replies() -> None:
    """A greeting, a FIN or silence that did not come as expected is no reply."""
    w = talk(1, 1, 1)
    w.client("talkers-1").says("protocol_error", 0.9, expected="eof", got=None, within_s=0.1)
    w.client("talkers-1").closes(0.91).ends(0.95, "protocol_error")
    finding = latency(w, {"max": 0.002})
    assert (finding.status, finding.support) == (Status.PASS, 3)


def test_a_reply_outstanding_at_a_loss_is_said_and_not_counted() -> None:
    """Nobody knows what it would have taken."""
    w = talk(1, 1)
    w.client("talkers-1").says("sent", 0.8, n=3).says("sent", 0.81, n=4).loses(1.01)
    w.client("talkers-1").connects(1.1).says("sent", 1.2, n=5).loses(1.3)
    w.client("talkers-1").connects(1.4).loses(1.5).ends(1.6, "lost")
    finding = latency(w, {"max": 0.002})
    assert (finding.status, finding.support) == (Status.PASS, 2)
    assert finding.seen.endswith("3 outstanding when their connections were lost")


def test_latency_counts_from_its_first_step_to_its_second() -> None:
    """Slow replies before `since` and from `until` on are others' business."""
    w = talk(900, *[1] * 20)
    w.step("later", at=1.5, verb="signal")
    w.client("talkers-1").says("replied", 2.9, n=9, text="", rtt_ns=900 * MS).closes(3.0).ends(3.1)
    assert latency(w, {"max": 0.01}, since="crash", until="later").status is Status.PASS
    assert latency(w, {"max": 0.01}, since="crash").status is Status.FAIL
    assert latency(w, {"max": 0.01}, until="later").status is Status.FAIL


def test_latency_of_a_killed_fleet_is_unknown_but_a_broken_maximum_stays_broken() -> None:
    """What was not logged could change a percentile, but not bring a maximum down."""
    w = talk(1, 2, 40).dies("client-1", at=2.0)
    assert latency(w, {"p99": 1.0}).status is Status.INCONCLUSIVE
    assert latency(w, {"p50": 0.001}).status is Status.INCONCLUSIVE
    assert latency(w, {"max": 0.030}).status is Status.FAIL


# --- recovery ---


def crash(*back_at: float | None, over: str = "gave_up") -> World:
    """Talkers that lose their connection at 1.01, come back and are answered at these instants."""
    w = World(talkers=len(back_at)).step("crash", at=1.0)
    for number, at in enumerate(back_at, 1):
        client = w.client(f"talkers-{number}").connects(0.1).talks(0.2)
        # An answer that was on its way when the server died is no recovery.
        client.says("replied", 1.005, n=1, text="", rtt_ns=1).loses(1.01)
        if at is not None:
            client.connects(at - 0.1).talks(at).closes(at + 1)
        client.ends(9.0, "ok" if at is not None else over)
    return w


def test_recovery_is_the_first_reply_on_a_later_connection() -> None:
    """Not the reply that the dying connection still delivered."""
    finding = recovery(crash(2.0, 2.5, 3.0), {"p50": 1.6, "max": 2.01})
    assert (finding.status, finding.support) == (Status.PASS, 3)
    assert finding.measures["min_ms"] == pytest.approx(1000, rel=0.001)
    assert finding.witnesses[0].client == "talkers-3", "the slowest"


def test_recovery_by_connection_ends_with_the_connection() -> None:
    """0.1 s before the reply."""
    assert recovery(crash(2.0), {"max": 0.91}, by="connected").status is Status.PASS
    assert recovery(crash(2.0), {"max": 0.91}).status is Status.FAIL


def test_a_connection_that_survives_recovers_with_its_next_reply() -> None:
    """A pause breaks no connection."""
    w = World(talkers=1).step("crash", at=1.0, verb="pause")
    w.client("talkers-1").connects(0.1).talks(0.2).talks(3.0).closes(4.0).ends(4.1)
    assert recovery(w, {"max": 2.01}).status is Status.PASS
    assert recovery(w, {"max": 1.9}).status is Status.FAIL


def test_who_comes_after_the_crash_and_is_served_at_once_has_not_recovered() -> None:
    """T5: nobody was connected when the server died, so nothing is known of anybody's recovery."""
    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").connects(2.0).talks(2.1).closes(2.2).ends(2.3)
    w.client("talkers-2").connects(0.1).talks(0.2).closes(0.3).connects(2.0).talks(2.1).closes(2.2).ends(2.3)
    for by in ("replied", "connected"):
        finding = recovery(w, {"max": 5.0}, by=by)
        assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0)
        assert "nothing in scope: no client of talkers had to recover from crash" in finding.seen


def test_who_was_turned_away_or_already_lost_recovers_though_it_was_not_connected() -> None:
    """It came while the server was dead; it had lost its server before the step; it was trying at its instant."""
    w = World(talkers=3).step("crash", at=1.0)
    w.client("talkers-1").is_refused(1.5).connects(2.0).talks(2.1).closes(2.2).ends(2.3)
    w.client("talkers-2").connects(0.1).loses(0.5).connects(2.0).talks(2.1).closes(2.2).ends(2.3)
    w.client("talkers-3").says("connecting", 0.9, 1).says("connected", 1.9, 1).says("replied", 2.1, 1, rtt_ns=1)
    w.client("talkers-3").says("closed", 2.2, 1, had_error=False).ends(2.3)
    assert (recovery(w, {"max": 1.2}).status, recovery(w, {"max": 1.2}).support) == (Status.PASS, 3)
    assert recovery(w, {"max": 1.0}).status is Status.FAIL


def test_who_never_recovers_takes_for_ever_and_says_what_it_saw() -> None:
    """One of four breaks the p90, not the p75; too late is named too."""
    w = crash(2.0, 2.0, 2.0, None)
    assert recovery(w, {"p75": 1.1}).status is Status.PASS
    finding = recovery(w, {"p90": 60.0})
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-4"]
    assert "p90 never, of 4; talkers-4: eof once" in finding.seen
    assert recovery(crash(2.0, 5.0), {"max": 2.0}).offenders == ["talkers-2"]


def test_a_client_that_was_stopped_is_unknown_only_where_it_decides() -> None:
    """It might have recovered in the time that was left, or not."""
    w = crash(2.0, 2.0, 2.0, None, over="stopped")
    assert recovery(w, {"max": 60.0}).status is Status.INCONCLUSIVE
    assert recovery(w, {"max": 3.0}).status is Status.FAIL, "it was stopped after 8 s"
    assert recovery(w, {"p50": 3.0}).status is Status.PASS


def test_a_step_that_never_fired_tells_no_time() -> None:
    """The judge makes it inconclusive."""
    w = crash(2.0)
    w.step("never", at=None)
    with pytest.raises(CannotTell):
        recovery(w, {"max": 1.0}, since="never")


@pytest.mark.parametrize("at_most", [{}, {"p50": 2.0, "p99": 1.0}, {"p42": 1.0}])
@pytest.mark.parametrize("kind", ["latency", "recovery"])
def test_limits_that_cannot_be_meant_are_refused(kind: str, at_most: dict[str, float]) -> None:
    """None, contradicting ones, an unknown percentile."""
    with pytest.raises(ValueError, match=r"at most|p42|contradict"):
        build(kind, {kind: {"of": "talkers", "since": "crash"}, "at_most_s": at_most})


def test_who_never_began_has_nothing_to_recover_from() -> None:
    """A group whose step never fired: stopped at the end without one attempt."""
    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").ends(3.0, "stopped")
    w.client("talkers-2").ends(3.0, "stopped")
    finding = recovery(w, {"max": 1.0})
    assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0)
