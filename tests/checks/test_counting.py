"""`never`, `count` and `order`: absence is worth what its observers are worth."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.checks import build
from midsession.checks.order import happened_before
from midsession.core.history import CannotTell
from midsession.core.record import Record
from midsession.core.verdict import Finding, Status
from tests.build import World


def talk(talkers: int = 2) -> World:
    """Talkers that talk and end, a server that heard each."""
    w = World(talkers=talkers).step("crash", at=1.0).step("later", at=5.0, verb="signal")
    for number in range(1, talkers + 1):
        w.client(f"talkers-{number}").connects(0.1).talks(0.2).talks(1.5).closes(2.0).ends(2.1)
        w.serves("accepted", 0.1, connection=number, peer="10.0.0.2:4")
    return w


def judged(w: World, kind: str, **args: Any) -> Finding:
    """The finding of a check."""
    return build(kind, args).judge(w.history())


# --- never ---


def test_who_would_have_said_that_it_stood_still_are_all_fleets_agents_and_the_conductor() -> None:
    """Not the clients: their fleet's log is what must be whole."""
    w = talk()
    finding = judged(w, "never", never={"event": "stalled"})
    assert (finding.status, finding.support) == (Status.PASS, 4)
    assert judged(talk().stalls(2.0, 0.5), "never", never={"event": "stalled"}).status is Status.FAIL
    name = "client-1.program.1.jsonl"
    w.altered[name] = w.encoded()[name][:-5]
    finding = judged(w, "never", never={"event": "stalled"})
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen.startswith(f"not seen, but client-1: its log is not whole ({name}")


def test_never_passes_when_everybody_who_would_have_seen_it_lived() -> None:
    """The support is the number of observers."""
    finding = judged(talk(), "never", never={"event": "protocol_error"})
    assert (finding.status, finding.support) == (Status.PASS, 2)


def test_never_fails_on_one_record_and_shows_it() -> None:
    """Who, what, when."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).says("protocol_error", 0.5, got="nonsense", expected="ok", within_s=1.0)
    w.client("talkers-1").closes(0.6).ends(0.7, "protocol_error")
    finding = judged(w, "never", never={"event": "protocol_error"})
    assert finding.status is Status.FAIL
    assert finding.seen == "once: talkers-1: protocol_error ('nonsense') at +0.500 s"
    assert finding.offenders == ["talkers-1"]
    assert finding.witnesses[0].event == "protocol_error"


@pytest.mark.parametrize("how", ["cut", "corrupt", "missing"])
def test_never_does_not_believe_a_log_that_is_not_whole(how: str) -> None:
    """What is missing from it may have been the record. (The clients here have no end of their own.)"""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2)
    name = "client-1.program.1.jsonl"
    data = w.encoded()[name]
    if how == "missing":
        w.removed.add(name)
    else:
        w.altered[name] = data[:-40] if how == "cut" else data.replace(b"Yo", b"Ho")
    assert judged(w, "never", never={"event": "lost"}).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("file", ["server.program.1.jsonl", "server.agent.1.jsonl", "conductor.conductor.1.jsonl"])
def test_never_asks_the_writer_of_the_event_for_a_whole_log(file: str) -> None:
    """The server's log for what the server sees, the agent's for what the agent sees."""
    event = {"server.program": "client_lost", "server.agent": "frozen", "conductor.conductor": "note"}
    never = {"event": event[file.removesuffix(".1.jsonl")]}
    w = talk()
    assert judged(w, "never", never=never).status is Status.PASS
    w.altered[file] = w.encoded()[file][:-20]
    assert judged(w, "never", never=never).status is Status.INCONCLUSIVE


def test_never_since_asks_for_a_sign_of_life_in_the_window() -> None:
    """All sessions were over by then: nobody was there to see it."""
    finding = judged(talk(), "never", never={"event": "lost", "since": "later"})
    assert finding.status is Status.INCONCLUSIVE
    assert "nothing in scope" in finding.seen
    assert judged(talk(), "never", never={"event": "lost", "since": "crash"}).status is Status.PASS


def test_until_a_step_only_what_was_before_it_counts() -> None:
    """What the step itself brought about does not; nor is anything known of who came later."""
    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").connects(0.1).talks(0.2).loses(1.0).ends(1.1, "lost")
    early = {"event": "lost", "of": "talkers", "until": "crash"}
    assert judged(w, "never", never=early).promise == "never lost of talkers until crash"
    w.client("talkers-2").connects(1.5).closes(1.6).ends(1.7)
    finding = judged(w, "never", never=early)
    assert (finding.status, finding.support) == (Status.PASS, 1)
    assert judged(w, "count", count=early, equals=0).status is Status.PASS
    assert judged(w, "count", count=early, at_least=1).status is Status.FAIL
    w.client("talkers-2").connects(0.3).loses(0.9)
    assert judged(w, "never", never=early).status is Status.FAIL
    assert judged(w, "count", count=early, equals=1, each=True).offenders == ["talkers-1"]


def test_until_a_step_only_logs_that_reach_it_are_asked() -> None:
    """A fleet that died later has told all; one that died before it has not."""
    for at, status in ((0.9, Status.INCONCLUSIVE), (1.2, Status.PASS)):
        w = World(talkers=1).step("crash", at=1.0).dies("client-1", at=1.3)
        w.client("talkers-1").connects(0.1).talks(at)
        assert judged(w, "never", never={"event": "lost", "until": "crash"}).status is status


@pytest.mark.parametrize("of", [None, "server"])
def test_before_anybody_was_there_nothing_is_known(of: str | None) -> None:
    """Of an empty window, or of one that ends before it begins."""
    w = talk().step("first", at=0.05, verb="note")
    for event in ("lost", "client_lost"):
        for window in ({"until": "first"}, {"since": "crash", "until": "first"}):
            if of is None or event == "client_lost":
                finding = judged(w, "never", never={"event": event, "of": of, **window})
                assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0), (event, window)
    never_fired = talk().step("noop", at=None)
    with pytest.raises(CannotTell, match="the step noop never fired"):
        judged(never_fired, "never", never={"event": "lost", "until": "noop"})


@pytest.mark.parametrize("event", ["protocol_error", "sent", "received", "replied", "end", "mark", "lost"])
def test_never_on_a_connection_asks_for_somebody_who_had_one(event: str) -> None:
    """A refused attempt is no sign that it could have come; and so is a connection that was over in good time."""
    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").is_refused(1.5).ends(1.6, "lost")
    w.client("talkers-2").connects(0.1).closes(0.5).ends(1.6)
    never = {"event": event, "since": "crash"} | ({"as_": "reset"} if event == "lost" else {})
    finding = judged(w, "never", never=never)
    assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0)
    assert judged(w, "count", count=never, at_most=3).status is Status.INCONCLUSIVE
    w.client("talkers-1").connects(1.7).closes(1.8)
    assert judged(w, "never", never=never).status is Status.PASS
    assert judged(w, "count", count=never, at_most=3).status is Status.PASS


def test_never_of_attempts_asks_only_for_an_attempt() -> None:
    """Nobody got through, and that is what was asked."""
    w = World(talkers=1)
    w.client("talkers-1").is_refused(0.5).ends(0.6, "lost")
    assert judged(w, "never", never={"event": "connected"}).status is Status.PASS
    assert judged(w, "never", never={"event": "lost", "as_": "timeout"}).status is Status.PASS


def test_a_server_that_nobody_came_to_has_seen_no_loss() -> None:
    """It listens, and that is no sign of life for what only its connections meet."""
    w = World(talkers=1)
    w.client("talkers-1").is_refused(0.5).ends(0.6, "lost")
    assert judged(w, "never", never={"event": "client_lost", "of": "server"}).status is Status.INCONCLUSIVE
    assert judged(w, "never", never={"event": "accepted", "of": "server"}).status is Status.PASS
    w.serves("accepted", 0.7, connection=1, peer="10.0.0.2:4")
    assert judged(w, "never", never={"event": "client_lost", "of": "server"}).status is Status.PASS


def test_never_since_looks_only_after_the_step() -> None:
    """What came before does not count."""
    w = World(talkers=1).step("crash", at=1.0)
    w.client("talkers-1").is_refused(0.5).connects(1.5).closes(1.6).ends(1.7)
    assert judged(w, "never", never={"event": "lost", "since": "crash"}).status is Status.PASS
    assert judged(w, "never", never={"event": "lost"}).status is Status.FAIL


def test_never_of_one_group_does_not_mind_the_others() -> None:
    """`of` limits who is meant, and `as` and `where` what is meant."""
    w = World(stayers=1, leavers=1)
    w.client("stayers-1").connects(0.1).closes(0.5).ends(0.6)
    w.client("leavers-1").connects(0.1).loses(0.5, "reset").ends(0.6, "lost")
    assert judged(w, "never", never={"event": "lost", "of": "stayers"}).status is Status.PASS
    assert judged(w, "never", never={"event": "lost", "of": "leavers"}).status is Status.FAIL
    assert judged(w, "never", never={"event": "lost", "as_": "eof"}).status is Status.PASS
    assert judged(w, "never", never={"event": "closed", "where": {"had_error": True}}).status is Status.FAIL


def test_never_of_a_service_that_writes_no_such_event_is_inconclusive() -> None:
    """A server never writes `gave_up`; that it did not proves nothing."""
    assert judged(talk(), "never", never={"event": "gave_up", "of": "server"}).status is Status.INCONCLUSIVE


def test_the_stop_at_the_end_of_the_run_is_no_exit_of_the_run() -> None:
    """Tear-down is not judged; a death in mid-run is."""
    assert judged(talk(), "never", never={"event": "exited", "of": "server"}).status is Status.PASS
    died = talk().dies("server", at=3.0)
    assert judged(died, "never", never={"event": "exited", "of": "server"}).status is Status.FAIL


def test_a_client_that_was_stopped_leaves_never_open() -> None:
    """Its session had no end: what would have come is unknown."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).closes(0.2).ends(0.3, "stopped")
    assert judged(w, "never", never={"event": "lost"}).status is Status.INCONCLUSIVE


# --- count ---


@pytest.mark.parametrize(
    ("bounds", "status"),
    [
        ({"equals": 4}, Status.PASS),
        ({"equals": 3}, Status.FAIL),
        ({"equals": 5}, Status.FAIL),
        ({"at_least": 4}, Status.PASS),
        ({"at_least": 5}, Status.FAIL),
        ({"at_most": 4}, Status.PASS),
        ({"at_most": 3}, Status.FAIL),
        ({"at_least": 1, "at_most": 9}, Status.PASS),
    ],
)
def test_count_compares(bounds: dict[str, int], status: Status) -> None:
    """Two talkers were answered twice each."""
    finding = judged(talk(), "count", count={"event": "replied", "of": "talkers"}, **bounds)
    assert finding.status is status
    assert finding.measures == {"count": 4}


@pytest.mark.parametrize(
    ("bounds", "status"),
    [
        ({"equals": 2}, Status.INCONCLUSIVE),
        ({"equals": 3}, Status.INCONCLUSIVE),
        ({"equals": 1}, Status.FAIL),
        ({"at_least": 2}, Status.PASS),
        ({"at_least": 3}, Status.INCONCLUSIVE),
        ({"at_most": 2}, Status.INCONCLUSIVE),
        ({"at_most": 1}, Status.FAIL),
    ],
)
def test_count_in_a_log_that_is_not_whole_believes_only_what_is_there(bounds: dict[str, int], status: Status) -> None:
    """There may be more; there is not less."""
    w = talk()
    w.altered["server.program.1.jsonl"] = w.encoded()["server.program.1.jsonl"][:-20]
    assert judged(w, "count", count={"event": "accepted", "of": "server"}, **bounds).status is status


def test_count_each_is_kept_by_each_client() -> None:
    """A total that fits is not enough."""
    w = World(talkers=2)
    w.client("talkers-1").connects(0.1).talks(0.2).talks(0.3).closes(0.4).ends(0.5)
    w.client("talkers-2").connects(0.1).closes(0.4).ends(0.5)
    count = {"event": "replied", "of": "talkers"}
    assert judged(w, "count", count=count, equals=2).status is Status.PASS
    finding = judged(w, "count", count=count, at_least=1, each=True)
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-2"]
    assert "talkers-2: 0 times" in finding.seen
    assert judged(w, "count", count=count, at_most=2, each=True).status is Status.PASS


def test_count_of_nothing_by_nobody_is_inconclusive() -> None:
    """`equals: 0` is an absence: it needs somebody who was there."""
    count = {"event": "lost", "of": "talkers", "since": "later"}
    assert judged(talk(), "count", count=count, equals=0).status is Status.INCONCLUSIVE
    assert judged(talk(), "count", count=count, equals=0, each=True).status is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"equals": 1, "at_most": 2},
        {"at_least": 3, "at_most": 2},
        {"equals": -1},
        {"equals": 1, "each": True},
        {"equals": 1, "wrong": 2},
    ],
)
def test_count_refuses_what_contradicts_itself(args: dict[str, Any]) -> None:
    """A ValueError, which the language shows with its place."""
    with pytest.raises(ValueError, match=r"\w"):
        build("count", {"count": {"event": "lost"}, **args})


# --- order ---


def test_order_holds_for_each_client_for_itself() -> None:
    """Connected before replied before closed."""
    order = [{"event": e, "of": "talkers"} for e in ("connected", "replied", "closed")]
    finding = judged(talk(), "order", order=order)
    assert (finding.status, finding.support) == (Status.PASS, 2)


def test_order_names_the_client_that_broke_it() -> None:
    """The first of the one came after the first of the other."""
    w = World(talkers=2)
    w.client("talkers-1").connects(0.1).says("end", 0.3).talks(0.5).closes(0.6).ends(0.7)
    w.client("talkers-2").connects(0.1).talks(0.3).says("end", 0.5).closes(0.6).ends(0.7)
    finding = judged(w, "order", order=[{"event": "replied", "of": "talkers"}, {"event": "end", "of": "talkers"}])
    assert finding.status is Status.FAIL
    assert finding.offenders == ["talkers-1"]
    assert "talkers-1: end of talkers came 200.000 ms too early" in finding.seen


def test_order_between_hosts_is_by_instant_over_all() -> None:
    """The server accepted before it lost anybody."""
    w = talk()
    w.serves("client_lost", 1.8, connection=1, how="reset")
    order = [{"event": "accepted", "of": "server"}, {"event": "replied", "of": "talkers"}]
    assert judged(w, "order", order=order).status is Status.PASS
    assert judged(w, "order", order=order[::-1]).status is Status.FAIL


def test_order_fails_when_something_never_happens_and_the_logs_are_whole() -> None:
    """A missing event is believed only of whole logs."""
    order = [{"event": "connected", "of": "talkers"}, {"event": "gave_up", "of": "talkers"}]
    assert judged(talk(), "order", order=order).status is Status.FAIL
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1)
    assert judged(w.dies("client-1", at=1.0), "order", order=order).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("bounds", [{"at_least": 1}, {"equals": 1}, {"equals": 0}, {"at_most": 3}])
def test_a_count_of_nothing_by_nobody_is_inconclusive(bounds: dict[str, int]) -> None:
    """No session in the window: it neither happened nor failed to."""
    finding = judged(talk(), "count", count={"event": "replied", "of": "talkers", "since": "later"}, **bounds)
    assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0)


def test_order_of_nothing_by_nobody_is_inconclusive() -> None:
    """No session in the window."""
    order = [{"event": e, "of": "talkers", "since": "later"} for e in ("connected", "replied")]
    assert judged(talk(), "order", order=order).status is Status.INCONCLUSIVE


def two_logs(accepted: float) -> tuple[Record, Record, Record]:
    """A client's `connecting` and `connected` (at 0.1), which are in one log, and the server's `accepted`."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1)
    w.serves("accepted", accepted)
    history = w.history()
    connecting, connected, heard = (history.events(e)[0] for e in ("connecting", "connected", "accepted"))
    return connecting, connected, heard


def test_the_same_instant_in_two_logs_has_no_order_and_in_one_log_it_has() -> None:
    """In one file the number decides."""
    connecting, connected, accepted = two_logs(0.1)
    assert happened_before(connecting, connected, comparable=True)
    assert not happened_before(connected, connecting, comparable=True)
    with pytest.raises(CannotTell, match="same instant"):
        happened_before(connected, accepted, comparable=True)


def test_logs_whose_clocks_differ_have_no_order_among_them() -> None:
    """Within one log there still is one."""
    connecting, connected, accepted = two_logs(0.2)
    assert happened_before(connecting, connected, comparable=False)
    with pytest.raises(CannotTell, match="clocks cannot be compared"):
        happened_before(connected, accepted, comparable=False)


def test_order_of_one_thing_is_refused() -> None:
    """There is nothing to compare."""
    with pytest.raises(ValueError, match="two"):
        build("order", {"order": [{"event": "lost"}]})
