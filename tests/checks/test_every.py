"""`every … meets … within`: who is in scope, who met it, and who cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.checks.every import Every
from midsession.core.history import CannotTell
from midsession.core.record import Event
from midsession.core.verdict import Finding, Status
from tests.build import World, ns


def crash(talkers: int = 2) -> World:
    """Talkers in conversation when the server is killed at 1.0."""
    w = World(talkers=talkers).step("crash", at=1.0).step("return", at=3.0, verb="start")
    for number in range(1, talkers + 1):
        w.client(f"talkers-{number}").connects(0.1).talks(0.2)
    return w


def judged(w: World, meets: str, **args: Any) -> Finding:
    """The finding of `every: talkers, meets: …`."""
    return Every(every="talkers", meets=Event(meets), **args).judge(w.history())


def test_all_clients_in_time_is_a_pass_with_its_numbers() -> None:
    """The measures count from the fault's instant."""
    w = crash()
    w.client("talkers-1").loses(1.010).ends(1.1, "lost")
    w.client("talkers-2").loses(1.030).ends(1.1, "lost")
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.PASS
    assert finding.support == 2
    assert finding.seen == "2 of 2 did in time"
    assert finding.measures == {"min_ms": 10.0, "p50_ms": 10.0, "p99_ms": 30.0, "max_ms": 30.0}
    assert [r.event for r in finding.witnesses] == ["injected", "lost"]
    assert finding.witnesses[1].client == "talkers-2", "the slowest"


def test_a_client_that_saw_something_else_is_named_with_what_it_saw() -> None:
    """Refused again and again in place of connected: the finding says how often and when last."""
    w = crash()
    w.client("talkers-1").loses(1.01).connects(3.2).closes(4.0).ends(4.1)
    w.client("talkers-2").loses(1.01)
    for n in range(12):
        w.client("talkers-2").is_refused(3.1 + n * 0.17)
    w.client("talkers-2").ends(9.0, "gave_up")
    finding = judged(w, "connected", since="return", within_s=5.0)
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-2"]
    assert finding.seen == "1 of 2 did in time; talkers-2: refused 12 times, last at +1.970 s"


def test_too_late_is_a_failure_and_says_how_late() -> None:
    """The event after its time counts as a measure, not as kept."""
    w = crash(1)
    w.client("talkers-1").loses(2.5).ends(2.6, "lost")
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.FAIL
    assert finding.seen == "0 of 1 did in time; talkers-1: lost only at +1.500 s"
    assert finding.measures["max_ms"] == 1500.0


def test_the_last_instant_of_the_time_is_still_in_time() -> None:
    """`within` is inclusive."""
    w = crash(1)
    w.client("talkers-1").loses(2.0).ends(2.1, "lost")
    assert judged(w, "lost", since="crash", within_s=1.0).status is Status.PASS


def test_a_client_that_ended_without_it_failed() -> None:
    """A session that is over can no longer meet anything, whatever time is left."""
    w = crash(1)
    w.client("talkers-1").closes(1.2).ends(1.3, "ok")
    finding = judged(w, "lost", since="crash")
    assert finding.status is Status.FAIL
    assert finding.seen.endswith("talkers-1: done (ok) at +0.300 s")


def test_another_way_of_being_lost_is_not_the_one_asked_for() -> None:
    """`as: eof` is not met by a reset, and the finding says what there was instead."""
    w = crash(1)
    w.client("talkers-1").loses(1.01, how="reset").ends(1.1, "lost")
    finding = judged(w, "lost", since="crash", as_="eof")
    assert finding.status is Status.FAIL
    assert finding.seen.endswith("talkers-1: reset once, last at +0.010 s")
    assert judged(w, "lost", since="crash", as_="reset").status is Status.PASS


def test_where_asks_for_fields() -> None:
    """Only records with these values meet it."""
    w = crash(1)
    w.client("talkers-1").closes(1.2).ends(1.3, "ok")
    assert judged(w, "done", where={"outcome": "ok"}).status is Status.PASS
    assert judged(w, "done", where={"outcome": "lost"}).status is Status.FAIL


# --- scope ---


def test_what_happens_to_a_connection_is_asked_of_those_that_had_one() -> None:
    """A client that was done, or between two connections, could not lose one."""
    w = crash(3)
    w.client("talkers-1").loses(1.01).ends(1.1, "lost")
    w.client("talkers-2").closes(0.5).ends(0.6, "ok")
    w.client("talkers-3").loses(0.9).connects(3.5).closes(4.0).ends(4.1)
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.PASS
    assert finding.support == 1


def test_a_connection_that_its_client_had_begun_to_end_is_none_to_lose() -> None:
    """Nor one that it began to end before the fault took effect: nobody knows which was first."""

    def ending(at: float, **groups: int) -> World:
        w = crash(**groups)
        w.client("talkers-1").says("closed", 1.01, had_error=False, bytes_in=0, bytes_out=0, ending_ns=ns(at)).ends(
            1.02
        )
        return w

    for at in (0.99, 1.001):
        w = ending(at)
        w.client("talkers-2").loses(1.010).ends(1.1, "lost")
        finding = judged(w, "lost", since="crash")
        assert (finding.status, finding.seen) == (Status.PASS, "1 of 1 did")
    assert judged(ending(0.99, talkers=1), "lost", since="crash").status is Status.INCONCLUSIVE
    assert judged(ending(0.99, talkers=1), "closed", since="crash").status is Status.PASS
    assert judged(ending(1.005, talkers=1), "lost", since="crash").status is Status.FAIL


def test_what_happens_to_a_session_is_asked_of_those_that_were_not_over() -> None:
    """A client that was done before the instant is out; one that was between connections is in."""
    w = crash(2)
    w.client("talkers-1").loses(1.01).connects(3.2).closes(4.0).ends(4.1)
    w.client("talkers-2").closes(0.5).ends(0.6, "ok")
    finding = judged(w, "connected", since="return", within_s=5.0)
    assert finding.status is Status.PASS
    assert finding.support == 1


def test_only_an_attempt_is_refused_so_refused_is_asked_of_all_that_were_not_over() -> None:
    """`lost as refused` needs no open connection."""
    w = World(talkers=1).step("gone", at=1.0)
    w.client("talkers-1").is_refused(1.5).ends(1.6, "lost")
    assert judged(w, "lost", since="gone", as_="refused").status is Status.PASS
    assert judged(w, "lost", since="gone").status is Status.INCONCLUSIVE


def test_without_since_all_clients_are_asked_and_time_counts_from_the_beginning() -> None:
    """A whole-run promise is about everybody."""
    w = World(talkers=2)
    w.client("talkers-1").connects(0.1).closes(0.2).ends(0.3)
    w.client("talkers-2").connects(0.5).closes(0.6).ends(0.7)
    finding = judged(w, "connected", within_s=0.4)
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-2"]
    assert judged(w, "connected", within_s=0.6).measures["max_ms"] == 500.0


def test_nothing_in_scope_is_inconclusive() -> None:
    """The fault met no open session: it proves nothing."""
    w = World(talkers=1).step("crash", at=1.0)
    w.client("talkers-1").connects(0.1).closes(0.2).ends(0.3)
    finding = judged(w, "lost", since="crash")
    assert finding.status is Status.INCONCLUSIVE
    assert finding.support == 0
    assert "nothing in scope" in finding.seen


# --- what nobody can tell ---


def test_a_client_whose_fleet_died_before_the_time_was_up_is_inconclusive() -> None:
    """Its silence is the fleet's, not the client's."""
    w = crash(1).dies("client-1", at=1.2)
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.offenders == ["talkers-1"]
    assert "was killed (SIGKILL)" in finding.seen


def test_a_client_whose_log_is_known_beyond_the_time_failed() -> None:
    """Its fleet went on writing after the deadline: then its silence is believed."""
    w = crash(2).dies("client-1", at=5.0)
    w.client("talkers-1").loses(1.01).is_refused(4.9)
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-2"]


def test_a_client_whose_log_breaks_off_before_the_fault_is_not_left_out() -> None:
    """It may have been connected then: unknown, not out of scope."""
    w = World(talkers=2).step("crash", at=1.0).starts("client-2", at=-0.2).dies("client-2", at=0.9)
    w.client("talkers-1").connects(0.1).loses(1.01).ends(1.1, "lost")
    w.client("talkers-2", fleet="client-2").connects(0.1).closes(0.4)
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert finding.status is Status.INCONCLUSIVE
    assert finding.offenders == ["talkers-2"]


def test_a_failure_outweighs_what_is_unknown() -> None:
    """One client that certainly broke the promise is enough."""
    w = crash(2)
    w.client("talkers-1").closes(1.2).ends(1.3, "ok")
    w.client("talkers-2").ends(1.4, "stopped")
    finding = judged(w, "lost", since="crash", within_s=5.0)
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-1"]


def test_a_step_that_never_fired_cannot_be_judged() -> None:
    """The history refuses, and the judge makes it inconclusive."""
    w = World(talkers=1).step("crash", at=None)
    with pytest.raises(CannotTell):
        judged(w, "lost", since="crash")


def test_clocks_that_differ_cannot_be_compared() -> None:
    """Nobody can tell how long after the fault on one host something came on another."""
    w = crash(1)
    w.client("talkers-1").loses(1.01).ends(1.1, "lost")
    w.clocks["client-1"] = "elsewhere"
    with pytest.raises(CannotTell):
        judged(w, "lost", since="crash", within_s=1.0)
    assert judged(w, "lost").status is Status.PASS, "no time is asked for"


def test_a_failed_attempt_is_no_loss_of_the_connection_that_was_open() -> None:
    """The client closed it by itself and was refused later: it never saw the crash end its session."""
    w = World(talkers=1).step("crash", at=1.0)
    w.client("talkers-1").connects(0.1).closes(1.1).is_refused(1.2).ends(1.3, "lost")
    finding = judged(w, "lost", since="crash", within_s=1.0)
    assert (finding.status, finding.support) == (Status.FAIL, 1)
