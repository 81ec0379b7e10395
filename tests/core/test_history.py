"""The history: one order, questions that read like sentences, and no answer where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from midsession.core.history import FOREVER, CannotTell, History
from midsession.core.logfile import LogState, read_log
from midsession.core.plan import CommandService
from tests.build import World, ns


def a_crash() -> World:
    """Three talkers; the server is killed at 1.0. One loses by EOF, one by reset, one was done before."""
    w = World(talkers=3).step("crash", at=1.0)
    w.client("talkers-1").connects(0.1).talks(0.2).loses(1.010, "eof").is_refused(1.2).ends(1.3, "lost")
    w.client("talkers-2").connects(0.1).talks(0.3).loses(1.020, "reset").ends(1.4, "lost")
    w.client("talkers-3").connects(0.1).talks(0.4).closes(0.5).ends(0.6, "ok")
    return w


# --- clients that are programs ---


@pytest.mark.parametrize(
    ("exits", "word", "reason"),
    [
        ({}, "ok", "exited with code 0"),
        ({"code": 3}, "fail", "exited with code 3"),
        ({"code": None, "signal": "SEGV"}, "fail", "killed by SIGSEGV"),
        ({"code": 127}, "info", "unsupported: exited with code 127"),
        ({"code": None, "signal": "KILL", "by": "crash"}, "info", "ended by crash"),
        ({"code": 0, "by": "crash"}, "info", "ended by crash"),
        ({"code": 1, "maybe": "crash"}, "info", "exited with code 1, perhaps by crash"),
        ({"exits": 11.0, "code": None, "signal": "TERM"}, "info", "it still ran when the run ended"),
        ({"exits": None}, "info", "it still ran when the run ended"),
    ],
    ids=str,
)
def test_a_program_has_the_outcome_of_its_exit(exits: dict[str, object], word: str, reason: str) -> None:
    """By itself: its code. By a step, or by the end of the run: nobody knows how it would have gone on."""
    w = World().step("crash", at=1.0).programs("drivers", 1).program("drivers-1", **exits)  # type: ignore[arg-type]
    outcome = w.history().outcomes["drivers-1"]
    assert (outcome.word, outcome.reason) == (word, reason)
    assert outcome.by == ("crash" if "by" in exits else "")


def test_a_program_that_never_began_and_one_without_a_whole_log_are_unknown() -> None:
    """One outcome each, with the reason."""
    w = World().programs("drivers", 2).program("drivers-2")
    w.cut.add("drivers-2.agent.1.jsonl")
    outcomes = w.history().outcomes
    assert (outcomes["drivers-1"].word, outcomes["drivers-1"].reason) == ("info", "it was never begun")
    assert outcomes["drivers-2"].word == "info"
    assert outcomes["drivers-2"].reason.startswith("its agent's log is not whole: drivers-2.agent.1.jsonl")


def test_the_agent_of_every_client_program_is_expected() -> None:
    """A host whose log is missing is a gap; it is no fleet's."""
    w = World().programs("drivers", 2).program("drivers-1").program("drivers-2")
    assert (w.history().gaps, w.history().fleets) == ([], [])
    w.removed.add("drivers-2.agent.1.jsonl")
    assert [gap.file for gap in w.history().gaps] == ["drivers-2.agent.1.jsonl"]


# --- order ---


def test_records_of_all_hosts_stand_in_the_order_of_their_instants() -> None:
    """Merged by t_ns, whatever file they are from."""
    instants = [r.t_ns for r in a_crash().history()]
    assert len(instants) > 20
    assert instants == sorted(instants)


def test_equal_instants_stand_by_host_writer_and_number() -> None:
    """Ties have one order, so that two readings of a run never differ."""
    w = World(talkers=2)
    w.client("talkers-1", fleet="client-2").says("mark", 1.0, name="b")
    w.client("talkers-2", fleet="client-1").says("mark", 1.0, name="a").says("mark", 1.0, name="c")
    marks = w.history().events("mark")
    assert [r.fields["name"] for r in marks] == ["a", "c", "b"]


def test_the_order_of_the_files_does_not_matter() -> None:
    """The same files in another order are the same history."""
    w = a_crash()
    files = w.files()
    backwards = dict(reversed(files.items()))
    assert list(History.of(w.plan, backwards)) == list(History.of(w.plan, files))


def test_a_late_stamp_never_breaks_a_writers_own_order() -> None:
    """A record with an instant before its predecessor's stays behind it."""
    w = World(talkers=1)
    w.client("talkers-1").says("mark", 1.0, name="first").says("mark", 2.0, name="second")
    files = w.files()
    name = "client-1.program.1.jsonl"
    late = [msgspec.structs.replace(r, t_ns=ns(0.1)) if r.seq == 2 else r for r in files[name].records]
    history = History.of(w.plan, files | {name: msgspec.structs.replace(files[name], records=late)})
    assert [r.fields["name"] for r in history.events("mark")] == ["first", "second"]


def test_hosts_on_different_clocks_are_not_ordered() -> None:
    """Their records stand writer by writer, and every question about time is refused, with the reason."""
    w = a_crash()
    w.clocks["client-1"] = "another-boot/time:[1]"
    history = w.history()
    assert not history.comparable
    assert history.events("lost").of("talkers").count == 3
    for ask in (
        lambda: history.events("lost").since("crash"),
        lambda: history.events("lost").until(ns(1.0)),
        lambda: history.events("lost").within(1.0),
        lambda: history.open_at("crash"),
    ):
        with pytest.raises(CannotTell, match="clocks"):
            ask()


# --- questions ---


def test_a_question_reads_like_a_sentence() -> None:
    """Every narrowing gives a smaller selection of the same kind."""
    history = a_crash().history()
    lost = history.events("lost").of("talkers").since("crash")
    assert lost.count == len(lost) == 3
    assert [r.client for r in lost.within(0.015)] == ["talkers-1"]
    assert [r.client for r in lost.where(how="reset")] == ["talkers-2"]
    assert lost.client("talkers-1").first == lost[0]
    assert lost.last == lost[-1] == lost[1:][-1]
    assert {c: s.count for c, s in lost.by_client().items()} == {"talkers-1": 2, "talkers-2": 1}
    assert history.events("lost").until("crash") == []
    assert history.events("lost").between("crash", ns(1.015)).count == 1
    assert history.events("connecting").connection(2).by_client().keys() == {"talkers-1"}


def test_a_selection_by_place_takes_whoever_wrote_there() -> None:
    """`on` is a host, `by` a kind of writer, `of` a service or a group."""
    history = a_crash().history()
    assert {r.writer for r in history.events().on("server")} == {"agent", "program"}
    assert {r.host for r in history.events().by("agent")} == {"server", "client-1"}
    assert history.events("exited").of("server").count == 1
    assert history.events("sent", "replied").of("talkers").count == 6


def test_within_without_since_counts_from_the_beginning_of_the_run() -> None:
    """The run begins with the conductor's `begun`."""
    assert a_crash().history().events("replied").within(0.3).count == 2


def test_words_that_mean_nothing_are_refused() -> None:
    """A typo is an error, never an empty selection that looks like silence."""
    history = a_crash().history()
    with pytest.raises(ValueError, match="losst"):
        history.events("losst")
    with pytest.raises(ValueError, match="walkers"):
        history.events("lost").of("walkers")
    with pytest.raises(ValueError, match="crush"):
        history.events("lost").since("crush")


def test_a_selection_shows_itself_in_a_failed_assertion() -> None:
    """Its repr names how many and the first few."""
    assert repr(a_crash().history().events("lost")).startswith("<3 records: talkers-1: lost")


def test_a_fields_name_may_be_any_word() -> None:
    """A field called `self` is no argument of ours."""
    with pytest.raises(ValueError, match="'lost' has no field 'self'"):
        a_crash().history().events("lost").where(self=1)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda h: h.events("lostt"), "there is no event 'lostt'; did you mean 'lost'?"),
        (lambda h: h.events("gave_up").of("talkerss"), "client 'talkerss'; did you mean 'talkers'?"),
        (lambda h: h.events("gave_up").client("talkers-99"), "there is no client 'talkers-99'; did you mean 'talkers-"),
        (lambda h: h.events("gave_up").on("serverr"), "there is no host 'serverr'; did you mean 'server'?"),
        (lambda h: h.events("gave_up").by("programm"), "there is no writer 'programm'; did you mean 'program'?"),
        (lambda h: h.events("lost").since("crush"), "the timeline has no step 'crush'; did you mean 'crash'?"),
        (lambda h: h.events("lost").where(hwo="eof"), "'lost' has no field 'hwo'; did you mean 'how'?"),
        (lambda h: h.events("lost").where(hwo=None), "'lost' has no field 'hwo'"),
        (lambda h: h.events("lost").where(how="eoff"), "the field 'how' is never 'eoff'; did you mean 'eof'?"),
        (lambda h: h.events("replied").where(n="1"), "the field 'n' is never '1'; it is a whole number"),
        (lambda h: h.events("lost").counts("hwo"), "'lost' has no field 'hwo'; did you mean 'how'?"),
        (lambda h: h.events("lost", "done").sequence("how", "outcom"), "'lost' and 'done' have no field 'outcom'"),
        (lambda h: h.events().where(hwo="eof"), "there is no field 'hwo'"),
        (lambda h: h.events("lost").since("crash").client("talkers-1").where(hwo=1), "'lost' has no field 'hwo'"),
    ],
)
def test_a_typing_mistake_is_no_empty_answer(ask: Callable[[History], object], says: str) -> None:
    """It would equal the nothing that a test hopes for."""
    with pytest.raises(ValueError, match=re.escape(says)):
        ask(a_crash().history())


def test_what_could_have_been_is_an_empty_answer() -> None:
    """Of several events a field or a value of one is enough; null is no word; a line may be any."""
    history = a_crash().history()
    assert history.events("gave_up").client("talkers-1").on("server").by("agent") == []
    assert history.events("lost", "done").where(how="name").where(outcome="stopped") == []
    assert history.events().where(how="slow") == []
    assert history.events("lost").where(how=None) == []
    assert history.events("line").where(text="nobody said this", incarnation=7) == []


def test_what_is_in_the_logs_can_be_asked_for() -> None:
    """A program's own field, a host, a client that no plan knows."""
    w = a_crash()
    w.client("strangers-1", fleet="client-7").says("mark", 1.0, name="x", extra=3)
    marks = w.history().events("mark")
    assert marks.where(extra=3).client("strangers-1").on("client-7").count == 1
    assert marks.counts("extra") == {3: 1}


# --- steps ---


def test_the_instant_of_a_fault_is_just_before_its_call() -> None:
    """A loss that comes between the call and its return is since the fault, not before it."""
    history = a_crash().history()
    story = history.steps["crash"]
    assert history.instant("crash") == ns(1.0)
    assert story.injected is not None
    assert story.injected.t_ns > ns(1.0)


def test_the_instant_of_a_signal_is_when_it_fired() -> None:
    """A step of the conductor's own has no injection."""
    history = World(talkers=1).step("enough", at=2.0, verb="signal").history()
    assert history.instant("enough") == ns(2.0)
    assert not history.steps["enough"].is_fault


def test_a_step_that_never_fired_has_no_instant() -> None:
    """The question is refused, so that the finding is inconclusive."""
    history = World(talkers=1).step("crash", at=None).history()
    with pytest.raises(CannotTell, match="crash never fired"):
        history.instant("crash")


def test_a_step_knows_its_witness_and_its_cure() -> None:
    """The witness is found by its reference, the cure by the agent's `healed`."""
    w = World(talkers=1).step("freeze", at=1.0, verb="pause").step("nothing", at=2.0, effective=False)
    history = w.heals("freeze", at=3.0).history()
    witness = history.find(history.steps["freeze"].witness)
    assert witness is not None
    assert (witness.host, witness.writer, witness.seq) == ("server", "agent", 1)
    assert history.steps["freeze"].healed is not None
    assert history.steps["nothing"].effective is None
    assert history.steps["nothing"].healed is None


@pytest.mark.parametrize(
    "ref", [None, {}, {"host": "server", "writer": "agent", "incarnation": 1, "seq": 99}, {"host": "x", "seq": 1}]
)
def test_a_reference_to_nothing_finds_nothing(ref: dict[str, object] | None) -> None:
    """A witness in a part of a log that is not believed is no witness."""
    assert a_crash().history().find(ref) is None


# --- sessions ---


def test_a_connection_is_open_from_connected_until_lost_or_closed() -> None:
    """The edges: open at the instant of `connected`, no longer open at that of `lost`."""
    history = a_crash().history()
    assert history.open_at("crash").keys() == {"talkers-1", "talkers-2"}
    assert history.open_at(ns(0.1)).keys() == {"talkers-1", "talkers-2", "talkers-3"}
    assert history.open_at(ns(0.1) - 1) == {}
    assert history.open_at(ns(1.010)).keys() == {"talkers-2"}
    assert history.open_at(ns(1.2)) == {}, "a refused attempt was never open"


def test_every_client_has_exactly_one_outcome() -> None:
    """T3: ok, fail or info for each planned client, in the plan's order."""
    w = World(talkers=6)
    for number, said in enumerate(["ok", "lost", "gave_up", "protocol_error", "stopped"], start=1):
        w.client(f"talkers-{number}").connects(0.1).closes(0.2).ends(0.3, said)
    outcomes = w.history().outcomes
    assert list(outcomes) == w.plan.clients
    assert [o.word for o in outcomes.values()] == ["ok", "fail", "fail", "fail", "info", "info"]
    assert outcomes["talkers-6"].reason == "no log has a record of it"


@pytest.mark.parametrize("killed", range(1, 5))
def test_the_clients_of_a_killed_fleet_are_unknown_with_the_reason(killed: int) -> None:
    """T3: k clients of a fleet that was killed are `info`, the others keep what they said."""
    w = World(talkers=4)
    w.starts("client-2", at=-0.3)
    for number in range(1, 5):
        if number <= killed:
            w.client(f"talkers-{number}", fleet="client-2").connects(0.1).talks(0.2)
        else:
            w.client(f"talkers-{number}").connects(0.1).closes(0.2).ends(0.3)
    history = w.dies("client-2", at=1.0).history()
    assert history.gaps == [], "the killed fleet's log is as long as its agent measured it"
    words = [o.word for o in history.outcomes.values()]
    assert words == ["info"] * killed + ["ok"] * (4 - killed)
    assert (
        history.outcomes["talkers-1"].reason == "its fleet on client-2 was killed (SIGKILL) before the session was over"
    )


def test_absence_is_known_for_ever_once_a_session_ended_by_itself() -> None:
    """A stopped one is known until it was stopped, an unfinished one until its log's last word."""
    w = World(talkers=3)
    w.client("talkers-1").connects(0.1).closes(0.2).ends(0.3, "ok")
    w.client("talkers-2").connects(0.1).closes(0.2).ends(0.4, "stopped")
    w.client("talkers-3").connects(0.1)
    outcomes = w.history().outcomes
    assert outcomes["talkers-1"].known_until_ns == FOREVER
    assert outcomes["talkers-2"].known_until_ns == ns(0.4)
    assert outcomes["talkers-3"].known_until_ns == ns(0.4)


# --- whole logs ---


def test_a_run_in_order_has_no_gaps() -> None:
    """Nothing is missing from a run in which every writer closed its file."""
    history = a_crash().history()
    assert history.gaps == []
    assert len(history.writers()) == 5


def test_a_killed_program_is_whole_when_its_file_is_as_long_as_at_its_death() -> None:
    """`event_bytes` of `exited` proves a cut file."""
    w = a_crash().dies("server", at=1.0)
    assert w.files()["server.program.1.jsonl"].state is LogState.CUT
    assert w.history().gaps == []


def test_a_killed_programs_torn_last_line_is_no_gap() -> None:
    """The write that SIGKILL interrupted was never acknowledged; the size still agrees."""
    w = a_crash().dies("server", at=1.0)
    whole = w.encoded()["server.program.1.jsonl"]
    torn = whole + b'{"event":"acc'
    w.altered["server.program.1.jsonl"] = torn
    assert [g.file for g in w.history().gaps] == ["server.program.1.jsonl"], (
        "the agent measured it without the torn line"
    )
    w.dies("server", at=1.0, event_bytes=len(torn))
    assert w.history().gaps == []


def test_a_killed_program_that_lost_a_line_is_a_gap() -> None:
    """A file shorter than at its writer's death has lost acknowledged records."""
    w = a_crash().dies("server", at=1.0)
    whole = w.encoded()["server.program.1.jsonl"]
    w.altered["server.program.1.jsonl"] = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
    assert [g.file for g in w.history().gaps] == ["server.program.1.jsonl"]


def test_a_program_that_died_before_its_first_byte_needs_no_file() -> None:
    """`event_bytes` 0 says that there is nothing to miss."""
    w = a_crash().starts("server", at=2.0, incarnation=2).dies("server", at=2.1, incarnation=2, event_bytes=0)
    w.removed.add("server.program.2.jsonl")
    assert w.history().gaps == []


def test_a_foreign_program_needs_no_event_file() -> None:
    """A command of the user's writes none; its lines are the agent's."""
    w = World(services=[CommandService(name="server", port=4000, argv=["x"])], talkers=1)
    w.removed.add("server.program.1.jsonl")
    assert w.history().gaps == []


EVERY_FILE = sorted(a_crash().encoded())


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_a_gap(name: str) -> None:
    """Every writer that must have been there is missed."""
    w = a_crash()
    w.removed.add(name)
    assert name in [g.file for g in w.history().gaps]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_without_trailer_is_a_gap(name: str) -> None:
    """A cut file whose end nobody measured proves nothing about its silence."""
    w = a_crash()
    w.cut.add(name)
    w.dies("server", at=9.0, event_bytes=1).dies("client-1", at=9.0, event_bytes=1)
    w.cut &= {name}
    assert [g.file for g in w.history().gaps] == [name]


@pytest.mark.parametrize("name", EVERY_FILE)
def test_an_altered_file_is_a_gap_and_nothing_after_the_break_is_believed(name: str) -> None:
    """One flipped byte in the middle."""
    w = a_crash()
    data = bytearray(w.encoded()[name])
    data[len(data) // 2] ^= 1
    w.altered[name] = bytes(data)
    history = w.history()
    assert name in [g.file for g in history.gaps]
    assert len(history) < len(a_crash().history())


def test_a_file_of_another_run_or_under_another_name_is_a_gap() -> None:
    """Whole files of a stranger prove nothing about this run."""
    w, stranger = a_crash(), World(talkers=1)
    w.altered["client-1.program.1.jsonl"] = stranger.encoded()["client-1.program.1.jsonl"]
    assert [g.file for g in w.history().gaps] == ["client-1.program.1.jsonl"]
    moved = a_crash()
    files = moved.files()
    files["client-9.program.1.jsonl"] = files.pop("client-1.program.1.jsonl")
    assert "client-9.program.1.jsonl" in [g.file for g in History.of(moved.plan, files).gaps]


def test_a_host_that_took_part_and_left_nothing_is_a_gap() -> None:
    """The runner knows its hosts; one without an agent's log is missed."""
    w = a_crash()
    assert [g.file for g in History.of(w.plan, w.files(), ["client-1", "client-2"]).gaps] == ["client-2.agent.1.jsonl"]


def test_no_files_at_all_are_gaps_and_not_an_error() -> None:
    """An empty run directory can be asked, and has everything missing."""
    w = a_crash()
    history = History.of(w.plan, {})
    assert [g.why for g in history.gaps] == ["missing", "missing"]
    assert len(history) == 0
    assert {o.word for o in history.outcomes.values()} == {"info"}
    assert History.of(w.plan, {"x.jsonl": read_log(b"")}).gaps
