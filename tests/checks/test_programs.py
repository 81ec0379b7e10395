"""`exit` and `log`: what a service's program did and said; and what every run is judged by."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.checks import build
from midsession.checks.alive import Alive
from midsession.checks.lifecycle import ALLOWED, Lifecycle
from midsession.core.verdict import Finding, Status
from tests.build import World


def judged(w: World, kind: str, **args: Any) -> Finding:
    """The finding of a check."""
    return build(kind, args).judge(w.history())


def killed() -> World:
    """The server is killed at 1.0, and started again at 2.0."""
    w = World(talkers=1).step("crash", at=1.0).step("return", at=2.0, verb="start")
    return w.dies("server", at=1.005, by="crash").starts("server", at=2.0, incarnation=2)


def test_exit_judges_the_first_exit_since_the_step() -> None:
    """Killed at the crash, stopped in order at the end."""
    assert judged(killed(), "exit", exit={"service": "server", "since": "crash"}, signal="KILL").status is Status.PASS
    assert judged(killed(), "exit", exit={"service": "server", "since": "return"}, code=0).status is Status.PASS
    finding = judged(killed(), "exit", exit={"service": "server"}, code=0)
    assert finding.status is Status.FAIL
    assert finding.seen == "exited by SIGKILL at +1.005 s"


def driven(*codes: int | None) -> World:
    """Client programs that exit with these codes at 5.0, or (None) do not exit; the server is killed at 1.0."""
    w = killed().programs("drivers", len(codes))
    for number, code in enumerate(codes, 1):
        end = {"exits": None} if code is None else {"code": code}
        w.program(f"drivers-{number}", (0.5, "up"), (1.5, f"lost {number}"), **end)  # type: ignore[arg-type]
    return w


@pytest.mark.parametrize(
    ("codes", "status", "seen"),
    [
        ((0, 0), Status.PASS, "2 of 2 did"),
        ((0, 3, 0), Status.FAIL, "2 of 3 did; drivers-2: exited with code 3 at +5.000 s"),
        ((3, None), Status.FAIL, "0 of 2 did; drivers-1: exited with code 3"),
        ((0, None), Status.INCONCLUSIVE, "1 of 2 did; drivers-2: nothing in scope: its program never exited"),
    ],
)
def test_exit_judges_every_program_of_a_group(codes: tuple[int | None, ...], status: Status, seen: str) -> None:
    """One bad exit fails it; one that never exited leaves it open."""
    finding = judged(driven(*codes), "exit", exit={"clients": "drivers"}, code=0)
    assert finding.status is status
    assert finding.seen.startswith(seen)


def test_exit_of_a_group_leaves_out_who_had_exited_before() -> None:
    """And is inconclusive when that is everybody."""
    w = driven(0, 0).program("drivers-1", exits=0.9, code=3)
    assert judged(w, "exit", exit={"clients": "drivers", "since": "crash"}, code=0).support == 1
    w = killed().programs("drivers", 1).program("drivers-1", exits=0.9)
    finding = judged(w, "exit", exit={"clients": "drivers", "since": "crash"}, code=0)
    assert (finding.status, finding.seen) == (
        Status.INCONCLUSIVE,
        "nothing in scope: no program of drivers was left at crash",
    )


@pytest.mark.parametrize(("kind", "more"), [("exit", {}), ("log", {"contains": "x"})])
@pytest.mark.parametrize("who", [{}, {"service": "server", "clients": "drivers"}])
def test_exit_and_log_want_one_subject(kind: str, more: dict[str, str], who: dict[str, str]) -> None:
    """A service or a group of client programs, not neither and not both."""
    with pytest.raises(ValueError, match="either 'service' or 'clients'"):
        build(kind, {kind: {**who, **more}, **({"code": 0} if kind == "exit" else {})})


@pytest.mark.parametrize(
    ("contains", "more", "status", "seen"),
    [
        ("lost", {"each": True}, Status.PASS, "3 times in all"),
        ("lost 2", {"each": True}, Status.FAIL, "once in all; drivers-1: 0 times; drivers-3: 0 times"),
        ("lost 2", {}, Status.PASS, "once"),
        ("lost", {"at_most": 2}, Status.FAIL, "3 times"),
        ("nothing", {"equals": 0, "each": True}, Status.PASS, "never in all"),
    ],
)
def test_log_counts_the_lines_of_a_group(contains: str, more: dict[str, Any], status: Status, seen: str) -> None:
    """Together, or of each program."""
    finding = judged(driven(0, 0, 0), "log", log={"clients": "drivers", "contains": contains}, **more)
    assert (finding.status, finding.seen) == (status, seen)


def test_each_is_for_groups() -> None:
    """A service is not each of anything."""
    with pytest.raises(ValueError, match="give 'clients'"):
        build("log", {"log": {"service": "server", "contains": "x"}, "each": True})


def test_records_of_client_programs_are_their_clients() -> None:
    """`every`, `count` and `never` judge them client by client, and absence by their agents."""
    w = driven(0, 3)
    assert judged(w, "every", every="drivers", meets="exited", since="crash", within_s=5.0).status is Status.PASS
    assert judged(w, "every", every="drivers", meets="exited", where={"code": 0}).offenders == ["drivers-2"]
    assert judged(w, "count", count={"event": "exited", "of": "drivers"}, equals=2).status is Status.PASS
    assert judged(w, "count", count={"event": "line", "of": "drivers"}, equals=2, each=True).status is Status.PASS
    never = judged(w, "never", never={"event": "frozen", "of": "drivers"})
    assert (never.status, never.support) == (Status.PASS, 2)
    assert judged(w, "never", never={"event": "lost"}).status is Status.INCONCLUSIVE, "nobody there has a session"


def test_a_stop_at_the_end_of_the_run_is_no_exit_of_a_client() -> None:
    """A program that the harness had to stop has not met `exited`."""
    w = World().programs("drivers", 1).program("drivers-1", exits=10.2)
    finding = judged(w, "every", every="drivers", meets="exited")
    assert finding.status is Status.INCONCLUSIVE
    assert "it still ran when the run ended" in finding.seen


def test_exit_without_an_exit_is_inconclusive() -> None:
    """The agent's log broke off, or the program never ended."""
    w = killed()
    w.altered["server.agent.1.jsonl"] = b""
    assert judged(w, "exit", exit={"service": "server"}, code=0).status is Status.INCONCLUSIVE


@pytest.mark.parametrize("how", [{}, {"code": 0, "signal": "KILL"}])
def test_exit_wants_one_way(how: dict[str, Any]) -> None:
    """Neither or both is refused."""
    with pytest.raises(ValueError, match="either"):
        build("exit", {"exit": {"service": "server"}, **how})


@pytest.mark.parametrize(
    "how", [{"signal": "SIGKILL"}, {"signal": "kill"}, {"signal": "FOO"}, {"code": 300}, {"code": -9}]
)
def test_exit_wants_a_signal_and_a_code_that_there_are(how: dict[str, Any]) -> None:
    """Nothing could ever keep the others."""
    with pytest.raises(ValueError, match=r"no signal '|no program exits"):
        build("exit", {"exit": {"service": "server"}, **how})


def spoken() -> World:
    """The server says three lines."""
    w = killed()
    for at, text in ((0.5, "Hello 10.0.0.2:1"), (0.6, "Client Lost"), (2.5, "Hello 10.0.0.2:2")):
        w.agent("server", "line", at, stream="stdout", text=text, incarnation=1)
    return w


@pytest.mark.parametrize(
    ("lines", "bounds", "status"),
    [
        ({"contains": "Hello"}, {}, Status.PASS),
        ({"contains": "Goodbye"}, {}, Status.FAIL),
        ({"matches": r"^Hello 10\.0\.0\.2:\d$"}, {"equals": 2}, Status.PASS),
        ({"matches": "hello"}, {}, Status.FAIL),
        ({"contains": "Hello", "since": "crash"}, {"equals": 1}, Status.PASS),
        ({"contains": "Traceback"}, {"equals": 0}, Status.PASS),
        ({"contains": "Client Lost"}, {"at_most": 0}, Status.FAIL),
    ],
)
def test_log_counts_lines(lines: dict[str, str], bounds: dict[str, int], status: Status) -> None:
    """At least once, unless it says how often."""
    assert judged(spoken(), "log", log={"service": "server", **lines}, **bounds).status is status


def test_log_believes_a_line_but_no_silence_of_a_broken_log() -> None:
    """A cut agent's log may have held it."""
    w = spoken()
    data = w.encoded()["server.agent.1.jsonl"]
    w.altered["server.agent.1.jsonl"] = data[: data.index(b"2.5") if b"2.5" in data else len(data) - 300]
    assert judged(w, "log", log={"service": "server", "contains": "Hello"}).status is Status.PASS
    assert judged(w, "log", log={"service": "server", "contains": "Bye"}).status is Status.INCONCLUSIVE
    assert judged(w, "log", log={"service": "server", "contains": "Bye"}, equals=0).status is Status.INCONCLUSIVE


def known_by_its_beginning() -> World:
    """The server says a line, and one that is longer than what is known of it: `ERROR: 1…`."""
    w = killed().agent("server", "line", 0.5, stream="stdout", text="Hello", incarnation=1)
    return w.agent("server", "line", 0.6, stream="stdout", text="ERROR: 11", incarnation=1, cut=True)


@pytest.mark.parametrize(
    ("lines", "bounds", "status"),
    [
        ({"contains": "ERROR"}, {"equals": 1}, Status.PASS),
        ({"contains": "ERROR"}, {"equals": 0}, Status.FAIL),
        ({"contains": "FATAL"}, {"equals": 0}, Status.INCONCLUSIVE),
        ({"contains": "FATAL"}, {"at_least": 1}, Status.INCONCLUSIVE),
        ({"contains": "FATAL"}, {"at_least": 2}, Status.FAIL),
        ({"contains": "FATAL"}, {"at_most": 1}, Status.PASS),
        ({"contains": "Hello"}, {"at_least": 1}, Status.PASS),
        ({"contains": "Hello"}, {"equals": 1}, Status.INCONCLUSIVE),
        ({"matches": "^FATAL"}, {"equals": 0}, Status.PASS),
        ({"matches": "^ERRORS?: 12"}, {"equals": 0}, Status.INCONCLUSIVE),
        ({"matches": "^FATAL|12$"}, {"equals": 0}, Status.INCONCLUSIVE),
        ({"matches": "ERROR: .*"}, {"equals": 0}, Status.FAIL),
        ({"matches": "11$"}, {"equals": 0}, Status.INCONCLUSIVE),
        ({"matches": "^Hello$"}, {"equals": 1}, Status.PASS),
    ],
)
def test_log_does_not_guess_how_a_long_line_goes_on(
    lines: dict[str, str], bounds: dict[str, int], status: Status
) -> None:
    """What is found in its beginning is there; what is not may stand in the rest."""
    finding = judged(known_by_its_beginning(), "log", log={"service": "server", **lines}, **bounds)
    assert finding.status is status
    assert ("1 line of which the beginning alone is known" in finding.seen) is (status is Status.INCONCLUSIVE)


@pytest.mark.parametrize("lines", [{}, {"contains": "x", "matches": "y"}, {"matches": "(?=x)"}, {"matches": "("}])
def test_log_wants_one_pattern_that_re2_takes(lines: dict[str, str]) -> None:
    """No look-around: a user's regex cannot hang the run."""
    with pytest.raises(ValueError, match=r"either|RE2"):
        build("log", {"log": {"service": "server", **lines}})


# --- no service exits by itself ---


def alive(w: World) -> Finding:
    """The always-on finding."""
    return Alive().judge(w.history())


def test_a_service_that_runs_to_the_end_is_alive() -> None:
    """It is stopped with the run."""
    assert (alive(World(talkers=1)).status, alive(World(talkers=1)).support) == (Status.PASS, 1)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ({"signal": None, "code": 3}, "server exited with code 3 by itself at +2.000 s; its last line: 'out of luck'"),
        ({"signal": None, "code": 0}, "exited with code 0 by itself"),
        ({"signal": "SEGV"}, "exited by SIGSEGV by itself"),
        ({"signal": "KILL", "by": "some other tool"}, "exited by SIGKILL by itself"),
    ],
)
def test_a_service_that_exits_by_itself_fails_the_run(death: dict[str, Any], words: str) -> None:
    """Whatever its exit code: with its last line, and when."""
    w = World(talkers=1).agent("server", "line", 1.9, stream="stderr", text="out of luck", incarnation=1)
    finding = alive(w.dies("server", at=2.0, **death))
    assert finding.status is Status.FAIL
    assert words in finding.seen
    assert finding.offenders == ["server"]
    assert len(finding.witnesses) == 1


def test_a_crash_that_the_end_of_the_run_overtook_is_a_crash() -> None:
    """Its clients were lost and done before anybody had noticed the exit."""
    assert alive(World(talkers=1).dies("server", at=10.001, signal=None)).status is Status.FAIL


def test_a_service_that_a_step_ended_has_not_exited_by_itself() -> None:
    """The agent names the step whose signal it was."""
    assert alive(World(talkers=1).step("crash", at=1.0).dies("server", at=1.0, by="crash")).status is Status.PASS


def test_nobody_knows_whether_a_late_answer_to_a_signal_is_one() -> None:
    """Neither kept nor broken; but a step that is none of the plan's is no excuse."""
    w = World(talkers=1).step("ask", at=1.0).dies("server", at=3.0, signal=None, code=1, maybe="ask")
    finding = alive(w)
    assert (finding.status, finding.offenders, len(finding.witnesses)) == (Status.INCONCLUSIVE, ["server"], 1)
    assert finding.seen == "server exited with code 1 at +3.000 s: by itself, or late by ask"
    assert alive(World(talkers=1).dies("server", at=3.0, signal=None, code=1, maybe="nothing")).status is Status.FAIL


def test_an_exit_that_the_scenario_looks_at_is_its_own_business() -> None:
    """One exit for each `exit` check, and of the service that it names; a second crash is still one."""
    w = World(talkers=1).step("crash", at=1.0, verb="pause").starts("server", at=3.0, incarnation=2)
    w.dies("server", at=2.0, signal=None, code=3).check("exit", exit={"service": "server", "since": "crash"}, code=3)
    assert alive(w).status is Status.PASS
    w.dies("server", at=4.0, incarnation=2, signal="SEGV")
    assert alive(w).status is Status.FAIL
    assert alive(w).seen.startswith("server exited by SIGSEGV")


def test_an_exit_check_whose_step_never_fired_expects_nothing() -> None:
    """It is inconclusive itself, and the crash is still a crash."""
    w = World(talkers=1).step("crash", at=None).dies("server", at=2.0, signal=None)
    assert alive(w.check("exit", exit={"service": "server", "since": "crash"}, code=1)).status is Status.FAIL


def test_an_agents_log_that_is_cut_may_have_held_the_exit() -> None:
    """Absence is believed only of whole logs."""
    w = World(talkers=1)
    data = w.encoded()["server.agent.1.jsonl"]
    w.altered["server.agent.1.jsonl"] = data[: len(data) - 300]
    assert alive(w).status is Status.INCONCLUSIVE


# --- the lifecycle contract ---


def contract(w: World) -> Finding:
    """The always-on finding."""
    return Lifecycle().judge(w.history())


def test_an_orderly_session_keeps_the_contract() -> None:
    """Connect, talk, lose, be refused, come back, close, done."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2).loses(0.3).is_refused(0.4).connects(0.5).closes(0.6).ends(0.7)
    assert contract(w).status is Status.PASS
    assert contract(w).support == 1


@pytest.mark.parametrize(
    ("events", "breach"),
    [
        (["connected"], "connected on its connection 1, which is new"),
        (["connecting", "sent"], "sent on its connection 1, which is trying"),
        (["connecting", "connected", "closed", "received"], "received on its connection 1, which is closed"),
        (["connecting", "connected", "lost", "sent"], "sent on its connection 1, which is lost"),
        (["connecting", "connected", "closed", "closed"], "closed on its connection 1, which is closed"),
        (["connecting", "connected", "lost", "lost"], "lost on its connection 1, which is lost"),
        (["connecting", "connected", "done"], "its connection 1 was never closed"),
        (["connecting", "connected", "closed", "done", "done"], "done after its done"),
        (["connecting", "closed", "done", "connecting"], "connecting after its done"),
    ],
)
def test_each_breach_of_the_contract_is_an_error_and_named(events: list[str], breach: str) -> None:
    """A harness that breaks its own contract cannot be believed."""
    w = World(talkers=1)
    for n, event in enumerate(events):
        w.client("talkers-1").says(event, n / 10, connection=0 if event == "done" else 1, outcome="ok", how="eof")
    finding = contract(w)
    assert finding.status is Status.ERROR
    assert breach in finding.seen


def test_a_session_that_was_cut_off_has_broken_nothing() -> None:
    """Its fleet was killed with the connection open."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2)
    assert contract(w.dies("client-1", at=1.0)).status is Status.PASS


def test_without_any_record_of_a_client_the_contract_is_inconclusive() -> None:
    """Nothing in scope."""
    assert contract(World(talkers=1)).status is Status.INCONCLUSIVE


def test_every_state_of_the_contract_can_be_reached_and_left_by_closing() -> None:
    """The table is closed: each target is a state, and each state but the last can be closed."""
    states = {target for allowed in ALLOWED.values() for target in allowed.values()}
    assert states == set(ALLOWED) - {"new"}
    assert all("closed" in allowed for state, allowed in ALLOWED.items() if state not in ("new", "closed"))


@pytest.mark.parametrize("event", ["line", "exited"])
@pytest.mark.parametrize(("kind", "more"), [("never", {}), ("count", {"equals": 0})])
def test_programs_that_had_exited_before_prove_no_absence(event: str, kind: str, more: dict[str, int]) -> None:
    """Who was gone when the server was killed could say nothing of it; one who lived can."""
    pattern = {"event": event, "of": "drivers", "since": "crash", "where": {"incarnation": 7}}
    w = killed().programs("drivers", 2).program("drivers-1", exits=0.9).program("drivers-2", exits=0.9)
    finding = judged(w, kind, **{kind: pattern}, **more)
    assert (finding.status, finding.support) == (Status.INCONCLUSIVE, 0)
    w = killed().programs("drivers", 2).program("drivers-1", exits=0.9).program("drivers-2", exits=5.0)
    finding = judged(w, kind, **{kind: pattern}, **more)
    assert (finding.status, finding.support) == (Status.PASS, 1)
