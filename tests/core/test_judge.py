"""The verdict: worst word wins, silence is not success, a broken check never passes, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsession.checks import build
from midsession.core.history import CannotTell, History
from midsession.core.judge import Judge, judge
from midsession.core.plan import After, AllOf, At, CommandService, Connect, OnEvent, ReferenceService, Repeat
from midsession.core.verdict import Finding, Status, Verdict, worst
from tests.build import Client, World


class Says:
    """A check that says what it is told."""

    kind: ClassVar[str] = "says"
    promise = "it says so"

    def __init__(self, status: Status | Exception, support: int = 1) -> None:
        self._status, self._support = status, support

    def judge(self, history: History) -> Finding:
        """The status, or the exception."""
        if isinstance(self._status, Exception):
            raise self._status
        return Finding(check="says", status=self._status, promise="it says so", seen="so", support=self._support)


def build_says(_kind: str, args: Mapping[str, Any]) -> Judge:
    """Checks by their wanted word: a status, `crash` or `cannot-tell`."""
    crashes: dict[str, Exception] = {"crash": ZeroDivisionError("oh"), "cannot-tell": CannotTell("the fog is thick")}
    word = args["word"]
    return Says(crashes[word] if word in crashes else Status(word), args.get("support", 1))


def calm(*words: str) -> World:
    """A run in which all is well, with checks that say these words."""
    w = World(talkers=2).step("crash", at=1.0)
    for number in (1, 2):
        w.client(f"talkers-{number}").connects(0.1).talks(0.2).loses(1.01).ends(1.1, "lost")
    for word in words:
        w.check("says", word=word)
    return w


def judged(w: World, **more: Any) -> Verdict:
    """The verdict with those checks."""
    return judge(w.plan, w.history(), build_says, **more)


def with_programs(code: int, **args: Any) -> Verdict:
    """Of two client programs one exits with this code; judged by one check that says what it is told."""
    w = World().programs("drivers", 2).program("drivers-1").program("drivers-2", code=code).check("says", **args)
    return judged(w)


@pytest.mark.parametrize("word", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize(
    "args", [{"every": "drivers"}, {"inner": {"of": "drivers"}}, {"list": [{"clients": "drivers"}]}]
)
def test_nothing_is_promised_of_a_group_with_an_unsupported_program(word: str, args: dict[str, Any]) -> None:
    """Neither a pass nor a failure: exit code 127 says that it cannot play its part."""
    verdict = with_programs(127, word=word, **args)
    (finding,) = of(verdict, "says")
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen == "drivers-2 unsupported: exited with code 127; else: so"
    assert verdict.status is Status.INCONCLUSIVE
    (supported,) = of(with_programs(1, word=word, **args), "says")
    assert supported.status is Status(word)


def test_a_check_of_another_group_does_not_care_who_is_unsupported() -> None:
    """But the run as a whole cannot pass: the program's outcome is unknown."""
    verdict = with_programs(127, word="pass", contains="drivers", of="server")
    assert [f.status for f in of(verdict, "says")] == [Status.PASS]
    assert verdict.status is Status.INCONCLUSIVE
    (outcomes,) = of(verdict, "outcomes")
    assert "drivers-2: unsupported" in outcomes.seen


def of(verdict: Verdict, check: str) -> list[Finding]:
    """The findings of one kind."""
    return [f for f in verdict.findings if f.check == check]


def test_all_well_is_a_pass() -> None:
    """Every finding passes, the exit code is 0."""
    verdict = judged(calm("pass"))
    assert {f.status for f in verdict.findings} == {Status.PASS}
    assert verdict.exit_code == 0
    assert len(verdict.findings) >= 6


@pytest.mark.parametrize("word", ["fail", "inconclusive", "crash"])
def test_what_judges_every_run_counts_as_much_as_the_scenarios_checks(word: str) -> None:
    """Its finding comes behind theirs; one that crashes is an error, and ends nothing."""
    verdict = judged(calm("pass"), always=[build_says("says", {"word": word})])
    expected = MEANS.get(word) or Status(word)
    assert [f.status for f in of(verdict, "says")] == [Status.PASS, expected]
    assert verdict.status is expected


MEANS = {"crash": Status.ERROR, "cannot-tell": Status.INCONCLUSIVE}
WORDS = [*Status, *MEANS]


@given(st.lists(st.sampled_from([str(word) for word in WORDS]), min_size=1, max_size=6))
def test_the_worst_word_wins(words: list[str]) -> None:
    """T7: error > fail > inconclusive > pass, whatever the number and order of the checks."""
    statuses = [MEANS.get(word) or Status(word) for word in words]
    rank = [Status.PASS, Status.INCONCLUSIVE, Status.FAIL, Status.ERROR]
    verdict = judged(calm(*words))
    assert verdict.status is max(statuses, key=rank.index) is worst(statuses)
    assert [f.status for f in verdict.findings[: len(words)]] == statuses


def test_zero_checks_is_not_a_pass() -> None:
    """A run that promised nothing has proved nothing."""
    verdict = judged(calm())
    assert verdict.status is Status.INCONCLUSIVE
    assert "zero checks is not a pass" in of(verdict, "checks")[0].seen
    assert Verdict.of([]).status is Status.INCONCLUSIVE


def test_a_crashing_check_is_an_error_with_its_text() -> None:
    """It cannot take the verdict down with it."""
    finding = judged(calm("crash")).findings[0]
    assert finding.status is Status.ERROR
    assert finding.seen == "the check crashed: ZeroDivisionError: oh"
    assert finding.place == "x.scenario.yaml:20:5"


def test_a_check_that_cannot_be_built_is_an_error() -> None:
    """A stored plan with fields that no check has."""

    def refuse(kind: str, args: Mapping[str, Any]) -> Judge:
        raise ValueError("no such field")

    w = calm("pass")
    verdict = judge(w.plan, w.history(), refuse)
    assert verdict.status is Status.ERROR
    assert "no such field" in verdict.findings[0].seen


def test_what_the_history_cannot_tell_is_inconclusive_with_the_reason() -> None:
    """CannotTell is an answer, not a crash."""
    finding = judged(calm("cannot-tell")).findings[0]
    assert (finding.status, finding.seen) == (Status.INCONCLUSIVE, "the fog is thick")


def test_a_pass_without_support_is_none() -> None:
    """A check that forgot the empty scope is caught here."""
    w = calm()
    w.check("says", word="pass", support=0)
    finding = judged(w).findings[0]
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen.startswith("nothing in scope")


def test_judging_again_gives_the_same_bytes() -> None:
    """The verdict is a function of the history; the order of findings is that of the plan."""
    from midsession.rundir import encode_verdict

    w = calm("pass", "fail", "cannot-tell")
    first = encode_verdict(judged(w))
    assert all(encode_verdict(judged(w)) == first for _ in range(3))
    assert [f.place for f in judged(w).findings[:3]] == [c.place for c in w.plan.checks]


# --- the run itself ---


def _timeout(w: World) -> None:
    w.why = "timeout"


def _interrupted(w: World) -> None:
    w.why = "interrupted"


def _unfired(w: World) -> None:
    w.step("return", at=None)


def _healed_too_early(w: World) -> None:
    w.step("cure", at=1.9, verb="heal", target="slow")
    w.step("slow", at=2.0, verb="delay").heals("slow", 10.2)


def _unwitnessed(w: World) -> None:
    w.step("noop", at=2.0, effective=False)


def _unhealed(w: World) -> None:
    w.step("freeze", at=2.0, verb="pause", for_s=1.0)


def _overrun(w: World) -> None:
    w.step("slow", at=2.0, verb="delay", for_s=1.0)
    w.heals("slow", 3.0, overrun=7)


def _unsent(w: World) -> None:
    w.step("slow", at=2.0, verb="delay", for_s=1.0)
    w.heals("slow", 3.0, unsent=2)


def _silent_client(w: World) -> None:
    w.groups = World(talkers=3).groups


def _stopped_client(w: World) -> None:
    w.groups = World(talkers=3).groups
    w.client("talkers-3").connects(0.1).closes(9.0).ends(9.1, "stopped")


@pytest.mark.parametrize(
    ("wrong", "check", "says"),
    [
        (_timeout, "run", "timeout"),
        (_interrupted, "run", "interrupted"),
        (_unfired, "timeline", "return never fired (37 of 50 connected)"),
        (_healed_too_early, "timeline", "cure came before slow, and healed nothing"),
        (_unwitnessed, "witness", "no witness"),
        (_unhealed, "healed", "no log says that it was healed"),
        (_overrun, "healed", "7 packets passed it unharmed"),
        (_unsent, "healed", "2 packets were lost by it that could not be sent"),
        (_silent_client, "outcomes", "talkers-3: no log has a record of it"),
        (_stopped_client, "outcomes", "talkers-3: stopped"),
    ],
)
def test_a_run_that_proves_less_than_it_should_is_inconclusive(
    wrong: Callable[[World], None], check: str, says: str
) -> None:
    """With the reason, though the scenario's own check passes."""
    w = calm("pass")
    wrong(w)
    verdict = judged(w)
    assert verdict.status is Status.INCONCLUSIVE
    assert any(says in f.seen and f.status is Status.INCONCLUSIVE for f in of(verdict, check))


@pytest.mark.parametrize("word", ["pass", "fail", "inconclusive"])
@pytest.mark.parametrize("since", ["noop", "later"])
def test_a_check_that_relies_on_a_fault_without_effect_has_no_say(word: str, since: str) -> None:
    """T5: neither for nor against; a step that came after the fault is no better. What it saw is told all the same."""
    w = calm().step("noop", at=2.0, effective=False).step("later", at=3.0, verb="note")
    w.timeline[-1] = msgspec.structs.replace(w.timeline[-1], when=OnEvent(event="replied", since="noop"))
    w.check("says", word=word, inner={"since": since})
    verdict = judged(w)
    assert (verdict.findings[0].status, verdict.findings[0].seen) == (
        Status.INCONCLUSIVE,
        "noop proves nothing; else: so",
    )
    assert verdict.status is Status.INCONCLUSIVE


def test_what_lies_before_a_fault_does_not_rely_on_it() -> None:
    """Who was lost before it may be the reason that it met nobody: that stays a failure."""
    w = calm().step("noop", at=2.0, effective=False)
    w.check("never", never={"event": "replied", "until": "noop"})
    finding = judge(w.plan, w.history(), build).findings[0]
    assert finding.status is Status.FAIL


def test_a_step_that_never_fired_is_all_there_is_to_say() -> None:
    """That it proves nothing either goes without saying."""
    w = calm().step("noop", at=None).check("every", every="talkers", meets="lost", since="noop")
    finding = judge(w.plan, w.history(), build).findings[0]
    assert (finding.status, finding.seen) == (Status.INCONCLUSIVE, "the step noop never fired")


def test_a_run_whose_service_did_not_come_up_could_not_begin() -> None:
    """The harness did what it should: its finding accuses nobody alone, and tells what was waited for."""
    w = calm()
    w.begun, w.why = False, "error"
    verdict = judged(w, problems=["server did not come up"])
    assert (of(verdict, "run")[0].status, of(verdict, "run")[0].seen) == (Status.ERROR, "it could not begin")
    harness = of(verdict, "harness")[0]
    assert harness.promise.startswith("every service comes up, no part of the harness fails, and no fleet dies")
    assert (harness.status, harness.seen) == (Status.ERROR, "server did not come up")


class Asks:
    """A check that has no fields, and asks the history about a step."""

    kind: ClassVar[str] = "asks"
    promise = "asks"

    def judge(self, history: History) -> Finding:
        """Count from the step."""
        assert history.events("replied").since("noop").count >= 0
        return Finding(check="asks", status=Status.FAIL, promise="asks", seen="so", support=1)


def test_a_check_in_python_relies_on_the_steps_that_it_asks_about() -> None:
    """Its fields tell nothing; another check beside it, that asks about nothing, is not taken for it."""
    w = calm("fail").step("noop", at=2.0, effective=False).check("asks")
    w.checks.reverse()
    verdict = judge(w.plan, w.history(), lambda kind, args: Asks() if kind == "asks" else build_says(kind, args))
    findings = verdict.findings[:2]
    assert [(f.check, f.status) for f in findings] == [("asks", Status.INCONCLUSIVE), ("says", Status.FAIL)]
    assert findings[0].seen == "noop proves nothing; else: so"


def test_a_check_that_relies_on_no_fault_fails_whatever_became_of_that() -> None:
    """What went wrong without it is wrong; so is a crash of a check that relies on it."""
    w = calm("fail").step("noop", at=2.0, effective=False)
    assert judged(w).status is Status.FAIL
    w.check("says", word="crash", since="noop")
    assert [f.status for f in judged(w).findings[:2]] == [Status.FAIL, Status.ERROR]


def test_a_healable_fault_must_be_healed_and_a_healed_one_is() -> None:
    """With `for`, or by its verb; healing at the end of the run counts."""
    w = calm("pass")
    w.step("freeze", at=2.0, verb="pause")
    assert judged(w).status is Status.PASS
    assert judged(w, healable={"pause"}).status is Status.INCONCLUSIVE
    w.heals("freeze", at=10.2)
    verdict = judged(w, healable={"pause"})
    assert verdict.status is Status.PASS
    assert len(of(verdict, "healed")) == 1


def test_a_heal_after_its_fault_is_fine() -> None:
    """Also when the fault had healed by itself."""
    w = calm("pass").step("slow", at=2.0, verb="delay", for_s=0.5).heals("slow", 2.5)
    assert judged(w.step("cure", at=3.0, verb="heal", target="slow")).status is Status.PASS


HEALS = [
    ("slow", 3.0, "cure healed nothing: slow was not in force any more"),
    ("all", 3.0, "cure healed nothing: no fault was in force"),
    ("all", 1.0, "cure healed nothing: no fault was in force"),
    ("slow", 2.4, ""),
    ("all", 2.4, ""),
]
"""The target of a heal, its instant, and what is said where the fault `slow` was in force from 2.0 to 2.5."""


@pytest.mark.parametrize(("target", "at", "says"), HEALS)
@pytest.mark.parametrize("relies", ["cure", "later", ""])
def test_nothing_can_be_counted_from_a_heal_that_healed_nothing(target: str, at: float, says: str, relies: str) -> None:
    """Before its fault, or when that had healed by itself; neither from a step that came after it."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2).closes(9.0).ends(9.1)
    w.step("slow", at=2.0, verb="delay").step("cure", at=at, verb="heal", target=target).step("later", 5.0, "note")
    w.timeline[-1] = msgspec.structs.replace(w.timeline[-1], when=AllOf(triggers=[After(step="cure"), At(at_s=1.0)]))
    w.heals("slow", 2.5)
    w.check("count", count={"event": "replied"}, **({"since": relies} if relies else {}))
    verdict = judge(w.plan, w.history(), lambda *_: Says(Status.PASS))
    (timeline,) = of(verdict, "timeline")
    assert (timeline.status is Status.INCONCLUSIVE) == bool(says and relies)
    assert timeline.seen == (says if says and relies else "3 of 3 fired")


def test_a_witness_in_a_log_that_is_not_believed_is_none() -> None:
    """The conductor saw it live, but its proof is gone."""
    w = calm("pass")
    w.altered["server.agent.1.jsonl"] = b""
    assert [f.status for f in of(judged(w), "witness")] == [Status.INCONCLUSIVE]


def _harness_failed(w: World) -> None:
    w.why = "error"


def _conductor_died(w: World) -> None:
    w.why = None


def _stranger(w: World) -> None:
    w.client("talkers-99").connects(0.1).closes(0.2).ends(0.3)


def _fleet_killed(w: World) -> None:
    w.dies("client-1", at=2.0)


def _fleet_crashed(w: World) -> None:
    w.dies("client-1", at=2.0, signal=None)


@pytest.mark.parametrize("wrong", [_harness_failed, _conductor_died, _stranger, _fleet_killed, _fleet_crashed])
def test_a_harness_that_failed_is_an_error(wrong: Callable[[World], None]) -> None:
    """T8: not even when every client had already ended well and every check passes."""
    w = calm("pass")
    wrong(w)
    assert judged(w).status is Status.ERROR


def test_what_the_runner_knew_to_be_wrong_is_an_error() -> None:
    """A clean-up that failed fails the run, though no log holds it."""
    verdict = judged(calm("pass"), problems=["close: the namespace is still there"])
    assert verdict.status is Status.ERROR
    assert "the namespace is still there" in of(verdict, "harness")[0].seen


def test_why_the_harness_failed_is_told_once_and_notes_are_no_cause() -> None:
    """By the finding about the harness; by that about the end, what only the conductor's log knows."""
    w = calm("pass")
    _harness_failed(w)
    w.conducts("note", 0.1, text="published server:80 at 0.0.0.0:8080").conducts(
        "note", 0.2, text="it broke", problem=True
    )
    stored, known = judged(w), judged(w, problems=["it broke"])
    assert of(stored, "run")[0].seen == "the harness failed (error); it broke"
    assert of(known, "run")[0].seen == "the harness failed (error)"
    assert of(known, "harness")[0].seen == "it broke"


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_the_stop_of_a_fleet_after_the_end_is_no_death(signal: str) -> None:
    """Tear-down kills what is left."""
    w = calm("pass").dies("client-1", at=10.6, signal=signal, stopped=True)
    assert judged(w).status is Status.PASS


@pytest.mark.parametrize(("signal", "said"), [(None, "code 1"), ("ABRT", "SIGABRT"), ("SEGV", "SIGSEGV")])
def test_a_fleet_that_fails_in_the_tear_down_is_an_error(signal: str | None, said: str) -> None:
    """It was asked to end, and died of a mistake of its own instead."""
    verdict = judged(calm("pass").dies("client-1", at=10.6, signal=signal, stopped=True))
    assert verdict.status is Status.ERROR
    assert said in of(verdict, "harness")[0].seen


# --- logs that were tampered with ---

WHOLE = calm("pass").encoded()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_log_that_was_harmed_in_any_line_is_never_a_pass(name: str) -> None:
    """T2 at the history: each line dropped, doubled, cut after, or with one byte flipped."""
    lines = WHOLE[name].splitlines(keepends=True)
    assert judged(calm("pass")).status is Status.PASS
    harmed: list[bytes] = []
    for i, line in enumerate(lines):
        before, after = b"".join(lines[:i]), b"".join(lines[i + 1 :])
        flipped = bytes([*line[:-5], line[-5] ^ 1, *line[-4:]])
        harmed += [before + after, before + line + line + after, before, before + flipped + after, before + line[:-3]]
    assert len(harmed) >= 15
    for data in harmed:
        w = calm("pass")
        w.altered[name] = data
        assert judged(w).status is not Status.PASS


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_log_that_is_missing_is_never_a_pass(name: str) -> None:
    """T2: deleting a whole file is seen too."""
    w = calm("pass")
    w.removed.add(name)
    assert judged(w).status is not Status.PASS


def _group_killed(by: str | None, *gone: str) -> World:
    """Both talkers are in conversation when their fleet dies; the second has never come to write a record."""
    w = World(talkers=2).step("crash", at=1.0)
    w.client("talkers-1").connects(0.1).talks(0.2)
    w.dies("client-1", at=1.01, by=by)
    if gone:
        w.conducts("note", 1.02, text="crash ended client-1", step="crash", gone=list(gone))
    w.check("says", word="pass")
    return w


def test_clients_that_a_step_killed_have_their_outcome_and_spoil_no_verdict() -> None:
    """`info`, with the step as the reason, also for one that left no record: the run did what it was told."""
    w = _group_killed("crash", "talkers-1", "talkers-2")
    outcomes = w.history().outcomes
    assert [(o.word, o.by) for o in outcomes.values()] == [("info", "crash")] * 2
    verdict = judged(w)
    assert verdict.status is Status.PASS
    (finding,) = of(verdict, "outcomes")
    assert finding.seen == "0 ok, 0 fail, 2 info; 2 ended by crash"


def test_a_fleet_that_no_step_killed_is_still_a_failure_of_the_harness() -> None:
    """The same death without a step in its `by`."""
    assert judged(_group_killed(None)).status is Status.ERROR
    assert judged(_group_killed("no-such-step")).status is Status.ERROR


def test_a_client_that_is_missing_for_no_reason_is_unknown_though_another_was_killed() -> None:
    """Only those of whom the conductor or their own log says it are excused."""
    verdict = judged(_group_killed("crash", "talkers-1"))
    assert verdict.status is Status.INCONCLUSIVE
    assert [f.offenders for f in of(verdict, "outcomes")] == [["talkers-2"]]


def test_a_fault_on_two_hosts_is_healed_when_both_are() -> None:
    """One cure is half a cure."""
    w = calm("pass").step("freeze", at=1.5, verb="pause")
    w.agent("client-1", "injected", 1.501, fault="freeze", verb="pause", began_ns=1)
    w.heals("freeze", at=1.9)
    assert judged(w, healable={"pause"}).status is Status.INCONCLUSIVE
    w.agent("client-1", "healed", 1.95, fault="freeze")
    assert judged(w, healable={"pause"}).status is Status.PASS


def test_a_step_that_never_fired_says_what_clients_met_instead() -> None:
    """Refusals and protocol errors are the reason that people look for."""
    w = World(talkers=3).step("crash", at=None)
    w.client("talkers-1").is_refused(0.1).is_refused(0.2).ends(0.3, "gave_up")
    w.client("talkers-2").connects(0.1).says("protocol_error", 0.5, expected="ok", got="nonsense", within_s=1.0)
    w.client("talkers-2").closes(0.6).ends(0.7, "protocol_error")
    w.client("talkers-3").connects(0.1).talks(0.2).closes(0.3).ends(0.4)
    w.check("says", word="pass")
    (finding,) = of(judged(w), "timeline")
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen == (
        "crash never fired (37 of 50 connected); clients met instead: lost as refused 2 times; "
        "protocol_error 1 time (first: 'nonsense' where ok was expected)"
    )
    assert [r.event for r in finding.witnesses] == ["lost", "protocol_error"]


# --- whom a fault hit (T5) ---


def hit_or_miss(
    at: float,
    verb: str = "kill",
    kind: str = "never",
    then: Callable[[Client], object] = lambda client: None,
    healed_at: float | None = None,
    **args: Any,
) -> Finding:
    """The finding on a fault at that instant; two sessions were open from 0.1 to 1.01, and one check is judged."""
    w = World(talkers=2).step("crash", at=at, verb=verb)
    for number in (1, 2):
        client = w.client(f"talkers-{number}").connects(0.1).talks(0.2).loses(1.01)
        then(client)
        client.ends(9.0, "lost")
    if healed_at is not None:
        w.heals("crash", healed_at)
    w.check(kind, **args)
    return of(judge(w.plan, w.history(), lambda *_: Says(Status.PASS), mending={"start"}), "witness")[0]


SINCE_CRASH = {"never": {"event": "lost", "of": "talkers", "since": "crash"}}


def test_a_fault_says_how_many_sessions_it_met() -> None:
    """Those with its target that were open at its instant."""
    finding = hit_or_miss(1.0, **SINCE_CRASH)
    assert finding.status is Status.PASS
    assert finding.seen.endswith("2 sessions with its target were open")
    assert finding.measures == {"sessions_open": 2}


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("never", SINCE_CRASH),
        ("every", {"every": "talkers", "meets": "lost", "since": "crash", "as_": "eof"}),
        ("order", {"order": [{"event": "client_lost", "since": "crash"}, {"event": "accepted"}]}),
    ],
)
def test_a_fault_that_met_no_session_proves_nothing_of_their_loss(kind: str, args: dict[str, Any]) -> None:
    """T5: the fault came too early or too late for the check that counts from it."""
    for at in (0.05, 5.0):
        finding = hit_or_miss(at, kind=kind, **args)
        assert finding.status is Status.INCONCLUSIVE
        assert "0 sessions with its target were open, and a check asks who lost one" in finding.seen


def test_a_fault_that_meets_nobody_is_fine_where_no_check_counts_on_it() -> None:
    """A server that dies before anybody comes; attempts that are refused; a program that is brought back."""
    assert hit_or_miss(0.05, never={"event": "lost", "of": "talkers"}).status is Status.PASS
    refused = {"every": "talkers", "meets": "lost", "as_": "refused", "since": "crash"}
    assert hit_or_miss(5.0, kind="every", then=lambda c: c.is_refused(5.5), **refused).status is Status.PASS
    start = hit_or_miss(5.0, verb="start", **SINCE_CRASH)
    assert (start.status, start.measures) == (Status.PASS, {})


COUNTED = [
    ("recovery", {"recovery": {"of": "talkers", "since": "crash"}}),
    ("latency", {"latency": {"of": "talkers", "since": "crash"}}),
    ("every", {"every": "talkers", "meets": "connected", "since": "crash"}),
    ("count", {"count": {"event": "accepted", "of": "server", "since": "crash"}}),
]


@pytest.mark.parametrize(("kind", "args"), COUNTED)
def test_a_fault_that_met_no_session_and_no_attempt_proves_nothing(kind: str, args: dict[str, Any]) -> None:
    """T5: whoever came afterwards was served as if nothing had been."""
    for then in (lambda c: c, lambda c: c.connects(6.0).talks(6.1).closes(6.2)):
        finding = hit_or_miss(5.0, kind=kind, then=then, **args)
        assert finding.status is Status.INCONCLUSIVE
        assert finding.seen.endswith(
            "0 sessions with its target were open, no attempt to connect met it, and a check counts from it"
        )


@pytest.mark.parametrize(("kind", "args"), COUNTED)
def test_an_attempt_that_fails_since_the_fault_or_is_made_while_it_is_in_force_has_met_it(
    kind: str, args: dict[str, Any]
) -> None:
    """A server that is dead when the clients come; a slow link when they come."""

    def refused(client: Client) -> None:
        client.is_refused(5.5).connects(6.0).talks(6.1).closes(6.2)

    def slow(client: Client) -> None:
        client.connects(5.5).talks(5.6).closes(5.7)

    assert hit_or_miss(5.0, kind=kind, then=refused, **args).status is Status.PASS
    assert hit_or_miss(5.0, verb="delay", kind=kind, then=slow, healed_at=6.0, **args).status is Status.PASS
    assert hit_or_miss(5.0, verb="delay", kind=kind, then=slow, healed_at=5.4, **args).status is Status.INCONCLUSIVE


def test_what_becomes_of_a_program_needs_no_session() -> None:
    """Its exit, its lines."""
    for args in ({"exit": {"service": "server", "since": "crash"}}, {"never": {"event": "frozen", "since": "crash"}}):
        assert hit_or_miss(5.0, kind=next(iter(args)), **args).status is Status.PASS


def test_sessions_with_others_are_no_overlap() -> None:
    """The wrong target: everybody talks to the server, and the spare is killed."""
    server, spare = (ReferenceService(name=name, port=4000) for name in ("server", "spare"))
    w = World([server, spare], talkers=1).step("crash", at=1.0)
    w.groups = [msgspec.structs.replace(w.groups[0], host="spare"), *World(others=1).groups]
    w.client("others-1").connects(0.1).talks(0.2).loses(1.01).ends(1.1, "lost")
    w.client("talkers-1").is_refused(0.1).ends(0.2, "lost")
    w.timeline[0] = msgspec.structs.replace(w.timeline[0], args={"target": "spare"})
    w.check("never", **SINCE_CRASH)
    finding = of(judge(w.plan, w.history(), lambda *_: Says(Status.PASS)), "witness")[0]
    assert (finding.status, finding.measures) == (Status.INCONCLUSIVE, {"sessions_open": 0})


def aimed(**args: Any) -> Finding:
    """The finding on a fault at 1.0, while two talkers have a session with the server and one with the spare.

    The idlers were to have one with the server, and have none.
    """
    server, spare, other = (ReferenceService(name=name, port=4000) for name in ("server", "spare", "other"))
    w = World([server, spare, other], talkers=3, idlers=1)
    talkers = w.groups[0]
    w.groups[0] = msgspec.structs.replace(talkers, script=[Repeat([Connect("spare", 4000)], times=1), *talkers.script])
    for number, to in ((1, "server:4000"), (2, "server:4000"), (3, "spare:4000")):
        w.client(f"talkers-{number}").connects(0.1, to).talks(0.2).closes(9.0).ends(9.1)
    w.client("idlers-1").connects(0.1).closes(0.5).connects(8.0).closes(9.0).ends(9.1)
    w.step("cut", at=1.0, verb="partition")
    w.timeline[0] = msgspec.structs.replace(w.timeline[0], args=args)
    w.check("never", never={"event": "lost", "since": "cut"})
    return of(judge(w.plan, w.history(), lambda *_: Says(Status.PASS)), "witness")[0]


@pytest.mark.parametrize(
    ("args", "hit"),
    [
        ({"target": "server"}, "2 sessions with its target were open"),
        ({"target": "server", "with_": "idlers"}, "0 sessions with its target and idlers were open"),
        ({"target": "server", "with_": "talkers"}, "2 sessions with its target and talkers were open"),
        ({"target": "idlers", "with_": "server"}, "0 sessions with its target and server were open"),
        ({"target": ["server", "spare"], "with_": "talkers"}, "3 sessions with its target and talkers were open"),
        ({"between": ["server", "idlers"]}, "0 sessions with its target and idlers were open"),
        ({"between": ["talkers", "spare"]}, "1 session with its target and spare was open"),
        ({"target": "talkers-3"}, "1 session with its target was open"),
        ({"target": "talkers-3", "with_": "server"}, "0 sessions with its target and server were open"),
        ({"target": "spare"}, "1 session with its target was open"),
        ({"target": "server", "port": 4000, "protocol": "tcp"}, "2 sessions with its target were open"),
        ({"target": "server", "port": 4001}, "0 sessions with its target were open"),
        ({"target": "server", "protocol": "udp"}, "0 sessions with its target were open"),
        ({"between": ["server", "other"]}, "2 sessions with its target and other were open"),
    ],
)
def test_a_fault_meets_the_sessions_between_its_two_ends(args: dict[str, Any], hit: str) -> None:
    """T5: sessions of its target with others, or of its other end with others, are not those that it was meant for."""
    finding = aimed(**args)
    assert hit in finding.seen
    assert finding.status is (Status.INCONCLUSIVE if hit.startswith("0") else Status.PASS)


@pytest.mark.parametrize("args", [{"target": "other"}, {"target": "spare", "with_": "idlers"}])
def test_the_wrong_target_proves_nothing(args: dict[str, Any]) -> None:
    """T5: nobody was to have a session with it, and everything went on as if nothing had been."""
    finding = aimed(**args)
    assert (finding.status, finding.measures) == (Status.INCONCLUSIVE, {"sessions_open": 0})
    assert finding.seen.endswith(
        "no client connects to it, no program is told of it, and no check asks what became of it"
    )


def felt_by(at: float = 1.0, verb: str = "kill", then: Callable[[World], object] = lambda w: None) -> Finding:
    """The finding on a fault on a service that no scripted client connects to; one check looks at all sessions."""
    w = World([ReferenceService(name="server", port=4000), ReferenceService(name="db", port=4000)], talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2).closes(9.0).ends(9.1)
    w.step("crash", at=at, verb=verb, target="db")
    w.check("every", every="talkers", meets="replied")
    then(w)
    return of(judge(w.plan, w.history(), lambda *_: Says(Status.PASS)), "witness")[0]


def _told(**fields: Any) -> Callable[[World], object]:
    return lambda w: w.services.append(CommandService(name="proxy", port=4001, **{"argv": ["proxy"], **fields}))


def _driven(exits: float) -> Callable[[World], object]:
    def driven(w: World) -> None:
        w.programs("drivers", 1).program("drivers-1", exits=exits)
        w.groups[-1] = msgspec.structs.replace(w.groups[-1], host="db")

    return driven


def _asked(**args: Any) -> Callable[[World], object]:
    return lambda w: w.check(next(iter(args)), **args)


@pytest.mark.parametrize(
    "then",
    [
        _told(argv=["proxy", "--to", "db:4000"]),
        _told(env={"UPSTREAM": "db"}),
        _told(files={"proxy.conf": "pass to db:4000;"}),
        _driven(exits=5.0),
        _asked(exit={"service": "db"}, code=0),
        _asked(log={"service": "db", "contains": "bye"}),
        _asked(count={"event": "exited", "of": "db"}, equals=1),
        _asked(count={"event": "exited", "where": {"signal": "KILL"}}, equals=1),
        _asked(python="promises.py::all_is_well"),
    ],
)
def test_a_service_may_be_somebodys_business_though_no_client_connects_to_it(then: Callable[[World], object]) -> None:
    """A program that is told its name, a client that is a program, a check that asks about it."""
    assert felt_by(then=then).status is Status.PASS


@pytest.mark.parametrize(
    "then",
    [
        _told(argv=["proxy", "dbase", "my-db"]),
        _driven(exits=0.5),
        _asked(count={"event": "accepted", "of": "server"}, at_least=1),
        _asked(count={"event": "injected"}, equals=1),
        _asked(exit={"service": "server"}, code=0),
    ],
)
def test_the_business_of_others_is_no_excuse(then: Callable[[World], object]) -> None:
    """T5: another name, a program that had exited before, a check of something else."""
    assert felt_by(then=then).status is Status.INCONCLUSIVE


def test_packets_that_a_fault_met_are_somebodys() -> None:
    """A program that knows the address, whatever it was told: the counter is proof enough."""

    def counted(w: World) -> None:
        w.agent("db", "witnessed", 1.001, fault="crash", by="counter", packets=3)
        w.conducts(
            "effective",
            1.001,
            step="crash",
            after_ns=1,
            witness={"host": "db", "writer": "agent", "incarnation": 1, "seq": 2},
        )

    assert felt_by(verb="partition").status is Status.INCONCLUSIVE
    assert felt_by(verb="partition", then=counted).status is Status.PASS


def test_the_right_target_after_everybody_has_left_proves_nothing() -> None:
    """T5: the promise was kept before the fault came; whoever comes after it, at any time, may feel what it left."""
    check = {"kind": "count", "count": {"event": "replied", "of": "talkers"}}
    late = hit_or_miss(5.0, **check)
    assert late.status is Status.INCONCLUSIVE
    assert "nobody tried to connect from then on" in late.seen
    for then in (lambda c: c.is_refused(5.5), lambda c: c.connects(8.0).closes(8.5)):
        assert hit_or_miss(5.0, then=then, **check).status is Status.PASS
    for healed_at, status in ((6.0, Status.INCONCLUSIVE), (8.2, Status.PASS)):
        came = hit_or_miss(5.0, "pause", then=lambda c: c.connects(8.0).closes(8.5), healed_at=healed_at, **check)
        assert came.status is status


def test_an_attempt_to_connect_elsewhere_meets_no_fault() -> None:
    """T5: the idlers come back to the server while the talkers are cut off from it."""
    args = {"target": "server", "with_": "talkers"}
    w = World(talkers=1, idlers=1).step("cut", at=1.0, verb="partition").heals("cut", 5.0)
    w.timeline[0] = msgspec.structs.replace(w.timeline[0], args=args)
    w.client("talkers-1").connects(0.1).closes(0.5).ends(0.6)
    w.client("idlers-1").connects(2.0).talks(2.1).closes(2.2).ends(2.3)
    w.check("recovery", recovery={"of": "idlers", "since": "cut"})
    finding = of(judge(w.plan, w.history(), lambda *_: Says(Status.PASS)), "witness")[0]
    assert finding.status is Status.INCONCLUSIVE
    assert "no attempt to connect met it" in finding.seen
