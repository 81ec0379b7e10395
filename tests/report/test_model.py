"""The model tells what the history holds, stays small whatever its size, and says what it leaves out."""

from __future__ import annotations

from midsession.core.verdict import Finding, Status, Verdict
from midsession.report.model import LANES, view
from tests.build import World, ns
from tests.report.crowd import CRASH, INFO, MS, OVER, RETURN, crowd, verdict_on


def test_a_client_is_connected_lost_reconnecting_and_connected_again() -> None:
    """The lane of a client that was lost and came back, with its losses as marks and its outcome."""
    history = crowd(4)
    lane = view(history, verdict_on(history), INFO).clients[0]
    assert [s.state for s in lane.segments] == ["connected", "reconnecting", "connected"]
    assert lane.segments[0].end_ns == CRASH + 2 * MS + 10_000
    assert lane.segments[2].start_ns > RETURN
    assert [m.text for m in lane.marks][:2] == ["lost: eof", "lost: refused"]
    assert (lane.name, lane.outcome, lane.marks[-1].kind) == ("talkers-1", "ok", "done")


def test_a_client_without_an_end_has_an_unknown_outcome() -> None:
    """Nobody is said to be ok whose `done` is in no log."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1)
    [lane] = view(w.history(), Verdict.of([]), {}).clients
    assert lane.outcome == "unknown"
    assert lane.segments[-1].end_ns == 10_000_000_000


def test_clients_are_counted_where_not_all_ended_well() -> None:
    """In the verdict's line: what was promised may need nobody."""
    w = World(talkers=3)
    w.client("talkers-1").connects(0.1).closes(0.2).ends(0.3)
    w.client("talkers-2").connects(0.1).loses(0.2).ends(0.3, "lost")
    head = view(w.history(), Verdict.of([]), {}).head
    assert head.ends == "clients: 1 ok, 1 failed, 1 unknown"
    well = World(talkers=1)
    well.client("talkers-1").connects(0.1).closes(0.2).ends(0.3)
    assert not view(well.history(), Verdict.of([]), {}).head.ends


def test_a_service_is_up_down_starting_and_up() -> None:
    """The lane of a server that was killed and started again."""
    history = crowd(2)
    [lane] = view(history, verdict_on(history), INFO).services
    assert [s.state for s in lane.segments] == ["up", "down", "starting", "up"]
    assert lane.segments[1].start_ns == CRASH + 2 * MS


def test_a_fault_has_its_lag_its_effect_its_first_loss_and_its_end() -> None:
    """From the record that made it fire to the injection; from the injection to witness and first loss."""
    history = crowd(50)
    crash, back = view(history, verdict_on(history), INFO).bands
    assert (crash.step, crash.label, crash.because) == ("crash", "kill server (SIGKILL)", "talkers-2 replied")
    assert crash.lag_ns == 600_000
    assert crash.effective_ns == 1_200_000
    assert crash.first_loss_ns == 1_810_000
    assert crash.end_ns == RETURN + 90 * MS
    assert (back.because, back.effective_ns) == ("2.00 s after crash", None)


def test_a_fault_that_nothing_ended_lasts_to_the_end() -> None:
    """A server that never comes back is down until the run is over."""
    history = crowd(2, return_too=False)
    assert view(history, verdict_on(history), INFO).bands[0].end_ns == OVER


def test_a_healed_fault_ends_when_it_was_healed() -> None:
    """Healing is the end of a band."""
    w = World(talkers=1).step("freeze", at=1.0, verb="pause").heals("freeze", at=3.0)
    [band] = view(w.history(), Verdict.of([]), {}).bands
    assert (band.start_ns, band.end_ns, band.healed) == (1_000_000_000, 3_000_000_000, True)


def test_the_rates_count_every_reply_and_loss() -> None:
    """The sums over the bins are the sums over the history."""
    history = crowd(20)
    s = view(history, verdict_on(history), INFO).series
    assert sum(s.replies) == len(history.events("replied")) > 500
    assert sum(s.losses) == 20
    assert max(s.connected) == 20
    assert s.connected[-1] == 0


def test_findings_come_worst_first_with_the_records_around_their_witnesses() -> None:
    """A witness stands among its neighbours; an offender without a witness shows what it saw last."""
    history = crowd(8)
    findings = view(history, verdict_on(history), INFO).findings
    assert [f.status for f in findings] == ["fail", "inconclusive", "pass"]
    witness, silent = findings[0].evidence[:2]
    [chosen] = [e for e in witness.entries if e.chosen]
    assert (chosen.who, chosen.event, chosen.text) == ("talkers-2 #1", "lost", "eof")
    assert {"triggered", "exited"} <= {e.event for e in witness.entries}
    assert silent.title == "what talkers-3 saw last"
    assert "done" in {e.event for e in silent.entries}


def test_several_records_of_one_client_are_told_apart_by_their_instants() -> None:
    """Else each excerpt of a finding has the same title; one alone needs none."""
    w = World(talkers=2)
    w.client("talkers-1").connects(0.25).loses(0.5).connects(0.75).loses(1.0)
    w.client("talkers-2").connects(0.25).loses(0.5)
    history = w.history()
    finding = Finding(check="c", status=Status.FAIL, promise="p", seen="s", witnesses=[*history.events("lost")])
    [shown] = view(history, Verdict.of([finding]), {}).findings
    titles = sorted(e.title for e in shown.evidence)
    assert titles == ["around talkers-1, at 0.500 s", "around talkers-1, at 1.000 s", "around talkers-2"]


def test_only_who_can_see_saw_something_last() -> None:
    """A finding may be about a step or a file: these are shown no records of 'theirs'."""
    w = World(talkers=1).step("crash", at=1.0, effective=False)
    w.client("talkers-1").connects(0.1).ends(1.1)
    finding = Finding(
        check="witness", status=Status.INCONCLUSIVE, promise="p", seen="s", offenders=["crash", "server", "talkers-1"]
    )
    [shown] = view(w.history(), Verdict.of([finding]), {}).findings
    assert [e.title for e in shown.evidence] == ["what server saw last", "what talkers-1 saw last"]


def test_a_big_run_stays_small_and_keeps_who_matters() -> None:
    """Of 1,000 clients 200 are drawn, the offenders among them, and the rest is counted."""
    w = World(talkers=1000)
    for n in range(1, 1001):
        w.client(f"talkers-{n}").connects(0.1).ends(1.0)
    offenders = ["talkers-777", "talkers-3"]
    verdict = Verdict.of(
        [Finding(check="every", status=Status.FAIL, promise="p", seen="s", support=1000, offenders=offenders)]
    )
    shown = view(w.history(), verdict, {})
    assert len(shown.clients) == LANES
    assert set(offenders) <= {lane.name for lane in shown.clients}
    assert "800 clients not drawn" in shown.left_out


def test_a_long_log_keeps_its_ends() -> None:
    """The first and the last entries, and how many are between."""
    w = World()
    for n in range(1000):
        w.agent("server", "line", 1 + n / 1000, stream="stdout", text=f"line {n}", incarnation=1)
    shown = view(w.history(), Verdict.of([]), {})
    texts = [e.text for e in shown.log]
    assert "line 0" in texts
    assert "line 999" in texts
    assert "605 log entries not shown" in shown.left_out
    assert len(texts) == 400


def test_many_attempts_are_few_segments() -> None:
    """A thousand refused attempts in a second do not become a thousand rectangles, nor silently fewer marks."""
    w = World(talkers=1)
    client = w.client("talkers-1")
    for n in range(1000):
        client.is_refused(1 + n / 1000).says("reconnecting", 1 + n / 1000, attempt=n, delay_s=0.001)
    client.ends(3.0, "gave_up")
    shown = view(w.history(), Verdict.of([]), {})
    [lane] = shown.clients
    assert len(lane.segments) <= 120
    assert len(lane.marks) <= 61
    assert shown.left_out


def test_clocks_that_cannot_be_compared_are_said() -> None:
    """A picture over two clocks would lie."""
    w = World(talkers=1)
    w.clocks["server"] = "other/time:[2]"
    w.client("talkers-1").connects(0.1).ends(1.0)
    assert "cannot be compared" in view(w.history(), Verdict.of([]), {}).left_out[0]


def test_an_empty_history_is_drawn() -> None:
    """No record at all is no crash."""
    w = World()
    w.removed = set(w.encoded())
    shown = view(w.history(), Verdict.of([]), {})
    assert shown.head.records == 0
    assert shown.head.why == "the run has no end"
    assert ns(0) > 0
