"""The process verbs, on real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from midsession.agent import procfs
from midsession.agent.protocol import (
    NOTHING_TO_HEAL,
    AwaitPort,
    Finish,
    Freeze,
    Kill,
    List,
    Reset,
    Start,
    Status,
    Stop,
    Tell,
    Thaw,
)
from midsession.core.logfile import LogState
from midsession.core.pulse import BEAT_S
from midsession.core.record import Record
from tests.waiting import eventually, stand_still

from .conductor import FLOOD, PATIENCE_S, WAIT, WRITER, Agent, Refusal, TestConductor, is_alive

KILLS = 20


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_killed_program_exits_by_signal_after_its_last_record(conductor: TestConductor) -> None:
    """A kill is injected, then the program's records end, then `exited` says KILL and names the step."""
    conductor.begin("started", "sent", "replied", "injected", "exited")
    pid = conductor.start(FLOOD)["pid"]
    conductor.wait_record("replied")
    value = conductor.ask(Kill(id=0, fault="crash"))
    exited = conductor.wait_record("exited")
    assert exited.fields["signal"] == "KILL"
    assert exited.fields["code"] is None
    assert exited.fields["by"] == "crash"
    assert exited.fields["pid"] == pid
    assert conductor.records[-1] is exited, "something came after the program's end"
    (injected,) = conductor.of("injected")
    assert injected.fields == {"fault": "crash", "verb": "kill", "began_ns": value["began_ns"], "signal": "KILL"}
    assert injected.t_ns == value["t_ns"] >= value["began_ns"]
    assert not is_alive(pid)
    pushed = [record for record in conductor.records if record.writer == "program"]
    assert len(pushed) == len(conductor.log("program").records) > 0


def test_records_of_a_client_program_bear_its_name(conductor: TestConductor) -> None:
    """Its life, its lines and what is done to it."""
    conductor.begin("started", "line", "injected", "exited", client="drivers-1")
    conductor.start("print('hi', flush=True); import signal; signal.pause()")
    conductor.wait_record("line")
    conductor.ask(Kill(id=0, fault="crash"))
    conductor.wait_record("exited")
    assert [(r.event, r.client) for r in conductor.records] == [
        (event, "drivers-1") for event in ("started", "line", "injected", "exited")
    ]


def test_a_program_may_leave_files_of_its_own(conductor: TestConductor) -> None:
    """In the directory that it is told of; one that was not asked to is told of none."""
    conductor.begin("line", "exited")
    where = "import os; print(os.environ.get('MIDSESSION_LOGS'), flush=True)"
    conductor.start(where)
    conductor.wait_line("None")
    conductor.wait_record("exited")
    assert not (conductor.directory / "logs" / "server").exists()
    conductor.start(f"{where}; open(os.environ['MIDSESSION_LOGS'] + '/trace', 'w').write('x')", logs=True)
    conductor.wait_record("exited", partial(is_of, 2))
    assert (conductor.directory / "logs" / "server" / "trace").read_text() == "x"
    assert conductor.ask(List(id=0))["files"]["logs/server/trace"] == 1


def test_killed_writers_file_is_whole(conductor: TestConductor) -> None:
    """Killed at twenty random moments, a writer's file is a whole chain of as many bytes as `exited` tells."""
    conductor.begin("sent", "exited")
    for n in range(1, KILLS + 1):
        conductor.start(FLOOD)
        conductor.wait_record("sent", partial(is_late, n))
        conductor.ask(Kill(id=0))
        exited = conductor.wait_record("exited", partial(is_of, n))
        log = conductor.log("program", n)
        assert exited.fields["event_file"] == conductor.path("program", n).name
        data = conductor.path("program", n).read_bytes()
        assert exited.fields["event_bytes"] == len(data)
        assert b"\n" not in data[log.whole_bytes :]  # at most the line that it was writing is torn
        assert log.state is LogState.CUT
        assert len(log.records) > n
    assert len(conductor.of("exited")) == KILLS
    conductor.ask(Finish(id=0))
    assert conductor.log().state is LogState.COMPLETE


def is_late(incarnation: int, record: Record) -> bool:
    return record.incarnation == incarnation and record.seq > 40 * incarnation


def is_of(incarnation: int, record: Record) -> bool:
    return bool(record.fields["incarnation"] == incarnation)


def test_kill_without_step_is_nobodys_fault(conductor: TestConductor) -> None:
    """A kill that no step asked for is not written as a fault."""
    conductor.begin("injected", "exited")
    conductor.start(WAIT)
    conductor.ask(Kill(id=0, signal="TERM"))
    assert conductor.wait_record("exited").fields["by"] is None
    assert conductor.of("injected") == []


def test_own_death_is_not_blamed_on_an_earlier_signal(conductor: TestConductor) -> None:
    """A program that survives a step's SIGUSR1 and exits later was not ended by that step."""
    conductor.begin("line", "exited")
    conductor.start(
        "import signal,sys; signal.signal(signal.SIGUSR1, lambda *_: print('hit', flush=True));"
        "print('up', flush=True); sys.stdin.readline(); sys.exit(7)"
    )
    conductor.wait_line("up")
    conductor.ask(Kill(id=0, signal="USR1", fault="poke"))
    conductor.wait_line("hit")
    conductor.ask(Tell(id=0, line="go"))
    exited = conductor.wait_record("exited")
    assert (exited.fields["code"], exited.fields["signal"], exited.fields["by"]) == (7, None, None)


CRASHES = (
    "import os,signal,sys; signal.signal(signal.{caught}, lambda *_: print('hit', flush=True));"
    "print('up', flush=True); sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)"
)
"""Catches a signal, lives on, and dies of SEGV when it is told a line."""


@pytest.mark.parametrize("name", ["HUP", "TERM"])
def test_a_crash_is_not_blamed_on_a_signal_that_was_survived(conductor: TestConductor, name: str) -> None:
    """A program that catches a step's signal, lives on and dies of SEGV has crashed by itself."""
    conductor.begin("line", "exited")
    conductor.start(CRASHES.format(caught=f"SIG{name}"))
    conductor.wait_line("up")
    conductor.ask(Kill(id=0, signal=name, fault="reload"))
    conductor.wait_line("hit")
    conductor.ask(Tell(id=0, line="go"))
    exited = conductor.wait_record("exited")
    assert (exited.fields["signal"], exited.fields["by"], "stopped" in exited.fields) == ("SEGV", None, False)


def test_a_crash_on_the_way_out_is_the_programs_own(conductor: TestConductor) -> None:
    """Asked to end, it dies of SEGV within its grace: neither the step nor the one who asked has done that."""
    conductor.begin("line", "exited")
    conductor.start(
        "import os,signal; signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGSEGV));"
        "print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    assert conductor.ask(Stop(id=0, grace_s=600, fault="stop"))["signal"] == "SEGV"
    exited = conductor.wait_record("exited")
    assert (exited.fields["by"], "stopped" in exited.fields) == (None, False)


def test_a_program_that_outlives_a_steps_signal_is_ended_by_the_runs_end(conductor: TestConductor) -> None:
    """It caught the SIGTERM and went on; that it is killed in the end is no step's doing."""
    conductor.begin("line", "exited")
    conductor.start(CRASHES.format(caught="SIGTERM"))
    conductor.wait_line("up")
    conductor.ask(Kill(id=0, signal="TERM", fault="ask"))
    conductor.wait_line("hit")
    conductor.ask(Finish(id=0))
    exited = conductor.wait_record("exited")
    assert (exited.fields["signal"], exited.fields["by"], exited.fields["stopped"]) == ("KILL", None, True)


def test_a_pause_does_not_hide_who_ended_a_program(conductor: TestConductor) -> None:
    """A step's SIGTERM that is still being obeyed when the program is frozen and thawed has ended it all the same."""
    conductor.begin("line", "exited", "frozen", "thawed")
    conductor.start(
        "import signal,sys; signal.signal(signal.SIGTERM, lambda *_: (print('hit', flush=True),"
        "sys.stdin.readline(), sys.exit(0))); print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    conductor.ask(Kill(id=0, signal="TERM", fault="crash"))
    conductor.wait_line("hit")
    conductor.ask(Freeze(id=0))
    conductor.ask(Thaw(id=0))
    conductor.ask(Tell(id=0, line="go"))
    exited = conductor.wait_record("exited")
    assert (exited.fields["code"], exited.fields["by"]) == (0, "crash")


@pytest.mark.parametrize("name", ["SIGKILL", "kill", "NOSUCH", "", "9"])
def test_unknown_signal_is_refused(conductor: TestConductor, name: str) -> None:
    """A signal has a name without SIG; anything else harms nobody."""
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    with pytest.raises(Refusal, match="there is no signal"):
        conductor.ask(Kill(id=0, signal=name, fault="crash"))
    assert is_alive(pid)
    assert not [r for r in conductor.book() if r.event == "injected"]


def test_verbs_need_a_program(conductor: TestConductor) -> None:
    """What is done to a program is refused when none runs."""
    conductor.begin()
    for request in (Kill(id=0), Stop(id=0, grace_s=1), Freeze(id=0), Thaw(id=0), Tell(id=0, line="x")):
        with pytest.raises(Refusal, match="no program runs"):
            conductor.ask(request)


# --- start ---------------------------------------------------------------------------------------------------------


def test_second_start_is_refused(conductor: TestConductor) -> None:
    """A host has one program at a time; after its end the next incarnation begins."""
    conductor.begin("started", "exited")
    first = conductor.start(WAIT)
    with pytest.raises(Refusal, match="runs already"):
        conductor.start(WAIT)
    conductor.ask(Kill(id=0))
    conductor.wait_record("exited")
    second = conductor.start(WAIT, fault="return")
    assert (first["incarnation"], second["incarnation"]) == (1, 2)
    status = conductor.ask(Status(id=0))
    del status["listening"]
    assert status == {"running": True, "pid": second["pid"], "incarnation": 2, "exit": None}
    events = [(r.event, r.fields.get("verb")) for r in conductor.book()]
    assert events[-2:] == [("injected", "start"), ("started", None)]


def test_program_that_cannot_start_is_refused(conductor: TestConductor) -> None:
    """An absent file and an empty argv are told at once, leave no record, and count as no incarnation."""
    conductor.begin()
    with pytest.raises(Refusal, match="cannot start '/nowhere/at/all'"):
        conductor.ask(Start(id=0, argv=["/nowhere/at/all"], fault="f"))
    with pytest.raises(Refusal, match="argv is empty"):
        conductor.ask(Start(id=0, argv=[]))
    assert conductor.book() == []
    assert conductor.start(WAIT)["incarnation"] == 1


def test_a_program_that_cannot_start_is_told_with_the_place_where_it_was_looked_for(
    conductor: TestConductor, tmp_path: Path
) -> None:
    """Its folder, when its name has one; and what is wrong with a file that is there."""
    conductor.begin()
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "text").write_text("words")
    told = {
        "./server": f"cannot start './server': there is no {tmp_path}/server",
        "no-such-server": "cannot start 'no-such-server': it is in no folder of PATH",
        "./script": f"the interpreter that the first line of {tmp_path}/script names is not on this host",
        "./text": "cannot start './text': Permission denied",
    }
    for program, words in told.items():
        with pytest.raises(Refusal, match=re.escape(words)):
            conductor.ask(Start(id=0, argv=[program], cwd=str(tmp_path)))


def test_a_working_directory_that_is_not_there_is_not_blamed_on_the_program(conductor: TestConductor) -> None:
    """The program is all right."""
    conductor.begin()
    with pytest.raises(Refusal, match="its working directory '/no/such/folder' is not on this host"):
        conductor.ask(Start(id=0, argv=["true"], cwd="/no/such/folder"))


def test_nothing_is_run_by_a_shell(conductor: TestConductor, tmp_path: Path) -> None:
    """Shell signs in argv and env reach the program as they are."""
    conductor.begin("line")
    conductor.start(
        "import sys,os; print(sys.argv[1], os.environ['X'])", f"$(touch {tmp_path}/no); `id`", env={"X": "$HOME;"}
    )
    conductor.wait_line(f"$(touch {tmp_path}/no); `id` $HOME;")
    assert not (tmp_path / "no").exists()


def test_program_finds_its_files_header_and_modules(conductor: TestConductor, tmp_path: Path) -> None:
    """A word of argv that names a given file becomes its path; `python -m` finds the programs of our directory."""
    conductor.begin("line")
    conductor.start(
        WRITER
        + "import json,server; print(open(sys.argv[1]).read(), header.host, header.pid == os.getpid(), flush=True)",
        "job.json",
        files={"job.json": "ein Auftrag ✅"},
    )
    conductor.wait_line("ein Auftrag ✅ server True")
    assert (tmp_path / "files" / "server.job.json").read_text() == "ein Auftrag ✅"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".", "..", "-x", "x\0y", "x" * 200])
def test_files_stay_in_the_directory(conductor: TestConductor, name: str, tmp_path: Path) -> None:
    """A file that is given has a plain name; any other is refused and nothing starts."""
    conductor.begin()
    with pytest.raises(Refusal, match="is no name"):
        conductor.start(WAIT, files={name: "x"})
    assert list((tmp_path / "files").iterdir()) == []
    assert not conductor.ask(Status(id=0))["running"]


def test_agents_own_settings_are_not_inherited(agent: Agent, tmp_path: Path) -> None:
    """A program sees nothing of where the conductor and its token are."""
    other = Agent("--stdio", env={"MIDSESSION_TOKEN_FILE": "/t", "MIDSESSION_CONDUCTOR": "c:1"})
    try:
        conductor = other.conductor(tmp_path)
        conductor.begin("line")
        conductor.start("import os; print(sorted(n for n in os.environ if n.startswith('MIDSESSION_')))")
        conductor.wait_line("['MIDSESSION_EVENT_FILE', 'MIDSESSION_HEADER']")
    finally:
        other.end()


def test_ready_by_line(conductor: TestConductor) -> None:
    """A program is up when a line of it contains the text; said once, after the line."""
    conductor.begin("line", "listening")
    conductor.start("print('a'); print('now ready 1'); print('ready 2'); input()", ready_line="ready", ready_port=4000)
    conductor.wait_line("ready 2")
    (listening,) = conductor.of("listening")
    assert listening.fields == {"port": 4000, "by": "line", "incarnation": 1}
    assert [r.event for r in conductor.records] == ["line", "line", "listening", "line"]


def test_ready_by_port_without_a_connection(conductor: TestConductor) -> None:
    """A program is up when its port listens where others reach it; the agent finds out without connecting to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conductor.begin("line", "listening")
    conductor.start(
        "import socket,sys; home=socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('at home', flush=True);"
        "sys.stdin.readline(); home.close(); s=socket.create_server(('', int(sys.argv[1]))); s.settimeout(0.3)\n"
        "try: s.accept(); print('somebody came', flush=True)\n"
        "except TimeoutError: print('nobody came', flush=True)",
        str(port),
        ready_port=port,
    )
    conductor.wait_line("at home")
    assert f"127.0.0.1:{port}" in conductor.ask(Status(id=0))["listening"]
    assert conductor.of("listening") == []
    conductor.ask(Tell(id=0, line="go"))
    assert conductor.wait_record("listening").fields == {"port": port, "by": "port", "incarnation": 1}
    conductor.wait_line("nobody came")


def test_who_waits_for_a_port_waits_no_longer_than_the_run(conductor: TestConductor) -> None:
    """The next run's program is not taken for the last one's, nor is its port looked for any more."""
    conductor.begin()
    looking = conductor.send(AwaitPort(id=0, port=1, within_s=3600.0))
    conductor.ask(Finish(id=0))
    conductor.ask(Reset(id=0, scratch=[]))
    with pytest.raises(Refusal, match="before the end of the run"):
        conductor.reply(looking)


def test_port_of_another_is_no_readiness(conductor: TestConductor) -> None:
    """A port that listens before the program started cannot tell that the program is up."""
    conductor.begin()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(Refusal, match="before its program has started"),
    ):
        conductor.start(WAIT, ready_port=other.getsockname()[1])


# --- stop, freeze, thaw --------------------------------------------------------------------------------------------


def test_stop_lets_a_program_end_by_itself(conductor: TestConductor) -> None:
    """SIGTERM first; answered when the program is gone, with how it went."""
    conductor.begin("line", "exited", "injected")
    conductor.start(
        "import signal,sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3));"
        "print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    value = conductor.ask(Stop(id=0, grace_s=10, fault="stop"))
    assert (value["code"], value["signal"]) == (3, None)
    assert conductor.wait_record("exited").fields["by"] == "stop"
    assert conductor.wait_record("injected").fields["verb"] == "stop"


def test_an_end_that_was_asked_for_is_told_from_one_that_was_not(conductor: TestConductor) -> None:
    """Stopped without a step, then gone by itself: only the first was asked for."""
    conductor.begin("exited")
    conductor.start(WAIT)
    conductor.ask(Stop(id=0, grace_s=10))
    assert conductor.wait_record("exited").fields["stopped"] is True
    conductor.start("raise SystemExit(3)")
    own = conductor.wait_record("exited", partial(is_of, 2))
    assert (own.fields["code"], own.fields["by"], "stopped" in own.fields) == (3, None, False)


def test_a_process_that_is_dead_is_on_its_way_out() -> None:
    """Nothing that is sent to a zombie, or to nobody, can be the cause of its end."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert procfs.is_exiting(child.pid)
    assert procfs.is_exiting(child.pid)
    assert not procfs.is_exiting(os.getpid())


GOODBYE = (
    "import signal; signal.signal(signal.SIGTERM, lambda *_: print('goodbye', flush=True));"
    "print('up', flush=True)\nwhile True: signal.pause()"
)


@pytest.mark.parametrize("code", [WAIT, GOODBYE])
def test_a_stop_without_grace_is_a_kill(conductor: TestConductor, code: str) -> None:
    """SIGKILL at once, with no SIGTERM before it, and answered when all is gone."""
    conductor.begin("line", "exited")
    conductor.start(code)
    conductor.wait_line("up")
    value = conductor.ask(Stop(id=0, grace_s=0, fault="bounce"))
    assert (value["code"], value["signal"]) == (None, "KILL")
    assert conductor.wait_record("exited").fields["by"] == "bounce"
    assert [line.fields["text"] for line in conductor.of("line")] == ["up"]


def test_stop_kills_when_the_grace_is_over(conductor: TestConductor) -> None:
    """A program that ignores SIGTERM is killed after its grace, and not before."""
    conductor.begin("line", "exited")
    conductor.start(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    value = conductor.ask(Stop(id=0, grace_s=0.2, fault="stop"))
    assert value["signal"] == "KILL"
    assert 200 <= (value["t_ns"] - value["began_ns"]) / 1e6 < 5000
    assert conductor.wait_record("exited").fields["by"] == "stop"


def test_kill_does_not_wait_for_a_stop(conductor: TestConductor) -> None:
    """A kill during a stop's grace is carried out at once and ends both."""
    conductor.begin("line", "exited")
    conductor.start(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    )
    conductor.wait_line("up")
    stop = conductor.send(Stop(id=0, grace_s=600))
    conductor.ask(Kill(id=0, fault="crash"))
    assert conductor.reply(stop)["signal"] == "KILL"
    assert conductor.wait_record("exited").fields["by"] == "crash"


FAMILY = """
import os, signal
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""


def test_freeze_and_thaw_are_proven_for_the_whole_group(conductor: TestConductor) -> None:
    """`frozen` is written once every process is stopped, `thawed` once none is; the thaw heals the freeze."""
    conductor.begin("line", "frozen", "thawed", "healed", "injected")
    pids = [conductor.start(FAMILY)["pid"]]
    pids.append(int(conductor.wait_record("line").fields["text"]))
    assert conductor.ask(Freeze(id=0, fault="pause"))["pids"] == 2
    assert [state_of(pid) for pid in pids] == ["T", "T"]
    assert conductor.wait_record("frozen").fields == {"fault": "pause", "pids": 2}
    assert conductor.ask(Thaw(id=0, fault="pause"))["pids"] == 2
    assert {state_of(pid) for pid in pids} <= {"R", "S"}, "running again: asleep at once, or about to be"
    assert conductor.wait_record("healed").fields == {"fault": "pause"}
    assert [r.event for r in conductor.records[1:]] == ["injected", "frozen", "thawed", "healed"]


def test_thaw_by_another_step_is_a_fault_and_heals_the_freeze(conductor: TestConductor) -> None:
    """`resume` is a step of its own; the pause that it ends is healed, once, however often it is asked."""
    conductor.begin()
    conductor.start(WAIT)
    conductor.ask(Freeze(id=0, fault="pause"))
    conductor.ask(Thaw(id=0, fault="resume"))
    conductor.ask(Thaw(id=0, fault="pause"))
    events = [(r.event, r.fields.get("fault")) for r in conductor.book() if r.event != "started"]
    assert events == [
        ("injected", "pause"),
        ("frozen", "pause"),
        ("injected", "resume"),
        ("thawed", "resume"),
        ("healed", "pause"),
        ("thawed", "pause"),
    ]


def test_a_freeze_that_is_healed_leaves_another_in_force(conductor: TestConductor) -> None:
    """Two pauses stack and heal independently: the program goes on when the last of them ends."""
    conductor.begin()
    conductor.start(WAIT)
    conductor.ask(Freeze(id=0, fault="short"))
    conductor.ask(Freeze(id=0, fault="long"))
    conductor.ask(Thaw(id=0, fault="short"))
    assert [(r.event, r.fields.get("fault")) for r in conductor.book()][-1] == ("healed", "short")
    conductor.ask(Thaw(id=0, fault="long"))
    events = [(r.event, r.fields.get("fault")) for r in conductor.book()]
    assert events[-2:] == [("thawed", "long"), ("healed", "long")]
    assert [event for event, _ in events].count("thawed") == 1


def test_thaw_after_the_program_died_heals(conductor: TestConductor) -> None:
    """A frozen program that was killed needs no thaw: healing it is no error."""
    conductor.begin("exited")
    conductor.start(WAIT)
    conductor.ask(Freeze(id=0, fault="pause"))
    conductor.ask(Kill(id=0, fault="crash"))
    conductor.wait_record("exited")
    assert conductor.ask(Thaw(id=0, fault="pause")) == {"pids": 0}
    assert [r.fields for r in conductor.book() if r.event == "healed"] == [{"fault": "pause"}]


def test_the_cure_of_a_freeze_that_froze_nothing_has_nothing_to_do(conductor: TestConductor) -> None:
    """Whether or not a program runs; a thaw that is a step of its own needs one."""
    conductor.begin("exited")
    cure = Thaw(id=0, fault="pause", cure=True)
    assert conductor.ask(cure) == NOTHING_TO_HEAL
    with pytest.raises(Refusal, match="no program runs"):
        conductor.ask(Thaw(id=0, fault="resume"))
    conductor.start(WAIT)
    assert conductor.ask(cure) == NOTHING_TO_HEAL
    conductor.ask(Freeze(id=0, fault="pause"))
    assert conductor.ask(cure)["pids"] == 1
    assert conductor.ask(cure) == {}
    assert [r.event for r in conductor.book() if "fault" in r.fields] == ["injected", "frozen", "thawed", "healed"]


def test_what_is_thawed_at_once_is_not_frozen_after_that(conductor: TestConductor) -> None:
    """A freeze that is healed before it is proven is over, whichever of the two saw its signal at work last."""
    conductor.begin("healed")
    pid = conductor.start(WAIT)["pid"]
    for n in range(20):
        freeze = conductor.send(Freeze(id=0, fault=f"pause-{n}"))
        thaw = conductor.send(Thaw(id=0, fault=f"pause-{n}", cure=True))
        with suppress(Refusal):
            conductor.reply(freeze)
        conductor.reply(thaw)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "Tt"
    assert len([r for r in conductor.book() if r.event == "healed"]) == 20


def test_finish_heals_and_kills(conductor: TestConductor) -> None:
    """The end of a run heals what is frozen, ends what runs, and closes the book."""
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    conductor.ask(Freeze(id=0, fault="pause"))
    conductor.ask(Finish(id=0))
    assert not is_alive(pid)
    log = conductor.log()
    assert log.state is LogState.COMPLETE
    assert [r.event for r in log.records[-2:]] == ["exited", "healed"]
    with pytest.raises(Refusal, match="the run is finished"):
        conductor.start(WAIT)


# --- what a program leaves behind ----------------------------------------------------------------------------------

ORPHAN = """
import os, signal, sys
from tests.waiting import eventually, stand_still
if sys.argv[1] == 'daemon' and os.fork(): os.wait(); signal.pause()
if sys.argv[1] == 'daemon': os.setsid()
child = os.fork()
if child:
    print(child, flush=True)
    if sys.argv[1] == 'daemon': os._exit(0)
signal.pause()
"""


@pytest.mark.parametrize("how", ["worker", "daemon"])
def test_leftovers_die_with_the_program(conductor: TestConductor, how: str) -> None:
    """A worker of a killed server, and a daemon in a session of its own, are gone before `exited` is written."""
    conductor.begin("line", "exited")
    conductor.start(ORPHAN, how)
    orphan = int(conductor.wait_record("line").fields["text"])
    assert is_alive(orphan)
    conductor.ask(Kill(id=0, fault="crash"))
    exited = conductor.wait_record("exited")
    assert not is_alive(orphan)
    assert "left" not in exited.fields


def test_zombies_are_reaped(conductor: TestConductor, agent: Agent) -> None:
    """Grandchildren whose parent died become the agent's children, and leave no zombie."""
    conductor.begin("line")
    conductor.start(
        "import os,time,sys,signal\n"
        "for _ in range(20):\n"
        "  if os.fork() == 0:\n"
        "    if os.fork() == 0: time.sleep(0.05)\n"
        "    os._exit(0)\n"
        "for _ in range(20): os.wait()\n"
        "print('done', flush=True); signal.pause()"
    )
    conductor.wait_line("done")

    def children() -> list[str]:
        path = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
        return path.read_text().split()

    eventually(lambda: len(children()) == 1, PATIENCE_S, "only the program is left")


def test_output_is_kept_raw_and_told_in_lines(conductor: TestConductor, tmp_path: Path) -> None:
    """The log file has the bytes; the records have the first 4096 characters of each line, hostile bytes escaped."""
    conductor.begin("line", "exited")
    conductor.start(
        "import os; os.write(1, b'\\xf0\\x9f'); os.write(1, b'\\x91\\x8b\\x1b[2J\\xff\\n');"
        "os.write(1, b'x' * 9000 + b'\\n\\nend'); os.write(2, b'oops\\n')"
    )
    conductor.wait_record("exited")
    raw = "👋\x1b[2J".encode() + b"\xff\n" + b"x" * 9000 + b"\n\nend"
    assert (tmp_path / "logs" / "server.program.1.stdout.log").read_bytes() == raw
    assert (tmp_path / "logs" / "server.program.1.stderr.log").read_bytes() == b"oops\n"
    told = [r.fields["text"] for r in conductor.of("line") if r.fields["stream"] == "stdout"]
    assert told == ["👋\x1b[2J\\xff", "x" * 4096, "", "end"]
    assert [r.fields["text"] for r in conductor.of("line") if "cut" in r.fields] == ["x" * 4096]
    assert conductor.records[-1].event == "exited"


def test_tell_reaches_standard_input(conductor: TestConductor) -> None:
    """What a program is told comes whole and in order, also when it reads late; two lines in one are refused."""
    conductor.begin("line")
    conductor.start(
        "import sys; print('up', flush=True)\n"
        "lines = list(iter(sys.stdin.readline, 'end\\n')); print(len(lines), {len(l) for l in lines}, flush=True)"
    )
    conductor.wait_line("up")
    for _ in range(50):
        conductor.ask(Tell(id=0, line="y" * 9999))
    with pytest.raises(Refusal, match="one line at a time"):
        conductor.ask(Tell(id=0, line="a\nb"))
    conductor.ask(Tell(id=0, line="end"))
    conductor.wait_line("50 {10000}")


def test_tell_after_the_program_closed_its_input(conductor: TestConductor) -> None:
    """A program that has closed its standard input cannot be told anything."""
    conductor.begin("line")
    conductor.start("import os,signal; os.close(0); print('closed', flush=True); signal.pause()")
    conductor.wait_line("closed")
    with pytest.raises(Refusal, match="closed its standard input"):
        conductor.ask(Tell(id=0, line="x"))


def test_program_dies_when_the_conductor_hangs_up(agent: Agent, conductor: TestConductor) -> None:
    """Without its conductor the agent kills the program, closes its book, and ends with 0."""
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    agent.hang_up()
    assert agent.wait() == 0
    assert not is_alive(pid)
    assert conductor.log().state is LogState.COMPLETE


def test_python_is_the_agents_own(conductor: TestConductor) -> None:
    """`python` in argv is the Python that the agent runs in."""
    conductor.begin("line")
    conductor.ask(Start(id=0, argv=["python", "-c", "import sys; print(sys.prefix)"]))
    conductor.wait_line(sys.prefix)


def test_frozen_program_hears_sigterm_of_the_agent(agent: Agent, conductor: TestConductor) -> None:
    """SIGTERM ends the agent and even a frozen program, in less than a second."""
    conductor.begin()
    pid = conductor.start(WAIT)["pid"]
    conductor.ask(Freeze(id=0))
    os.kill(agent.process.pid, signal.SIGTERM)
    try:
        assert agent.process.wait(1.0) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("the agent took longer than a second")
    assert not is_alive(pid)


def test_an_agent_that_was_not_run_in_time_says_so(conductor: TestConductor, agent: Agent) -> None:
    """Stopped from outside: it writes for how long once it runs again."""
    conductor.begin("stalled")
    still_s = 0.4
    stand_still(agent.process.pid, still_s)
    longest = partial(is_at_least, round((still_s - BEAT_S) * 1e9))
    assert conductor.wait_record("stalled", longest).writer == "agent"


def is_at_least(for_ns: int, record: Record) -> bool:
    return bool(record.fields["for_ns"] >= for_ns)
