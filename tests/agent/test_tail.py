"""What the conductor is pushed, from real files of real programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from midsession.agent import libc
from midsession.agent.loop import Loop
from midsession.agent.protocol import Kill, Records, Status, Subscribe, Tell, decode_from_agent
from midsession.agent.source import Source
from midsession.agent.tail import Tail
from midsession.core.record import Record

from .conductor import WRITER, Refusal, TestConductor, wait_dead

COUNT = WRITER + "for n in range(int(sys.argv[1])): log.append(('sent', 'replied')[n % 2], fields={'n': n})\n"
WAITING = COUNT + "print('written', flush=True)\nsys.stdin.readline()\nlog.append('done')\nlog.close()\n"


def test_only_subscribed_events_in_file_order(conductor: TestConductor) -> None:
    """The conductor gets exactly the records it subscribed to, each once, in the order of the file."""
    conductor.begin("replied", "exited")
    conductor.start(COUNT, "5000")
    conductor.wait_record("exited")
    assert [r.fields["n"] for r in conductor.of("replied")] == list(range(1, 5000, 2))
    assert {r.event for r in conductor.records} == {"replied", "exited"}
    assert conductor.of("replied")[0].host == "server"
    assert conductor.of("replied")[0].writer == "program"


def test_late_subscription_brings_what_was_missed_once(conductor: TestConductor) -> None:
    """A new set brings its events from the begin of the run, and none of those again that were pushed already."""
    conductor.begin("replied", "line")
    conductor.start(WAITING, "3000")
    conductor.wait_line("written")
    conductor.ask(Subscribe(id=0, events=["replied", "sent", "done", "exited"]))
    conductor.ask(Tell(id=0, line="go"))
    conductor.wait_record("exited")
    assert [r.fields["n"] for r in conductor.of("sent")] == list(range(0, 3000, 2))
    assert [r.fields["n"] for r in conductor.of("replied")] == list(range(1, 3000, 2))
    assert len(conductor.of("done")) == 1
    assert [r.event for r in conductor.records[-2:]] == ["done", "exited"]


def test_subscription_can_shrink(conductor: TestConductor) -> None:
    """An event that is in the new set no more is pushed no more."""
    conductor.begin("replied", "done", "line", "exited")
    conductor.start(WAITING, "10")
    conductor.wait_line("written")
    conductor.ask(Subscribe(id=0, events=["exited"]))
    conductor.ask(Tell(id=0, line="go"))
    conductor.wait_record("exited")
    assert conductor.of("done") == []


def test_unknown_event_is_refused(conductor: TestConductor) -> None:
    """There is a closed set of events; a name outside it is an error, not silence."""
    conductor.begin("exited")
    with pytest.raises(Refusal, match="no event 'repliedd'"):
        conductor.ask(Subscribe(id=0, events=["exited", "repliedd"]))


def test_incarnations_come_one_after_the_other(conductor: TestConductor) -> None:
    """started, the program's records, exited, started …: the same order across files as in life, also when late."""
    conductor.begin()
    for n in range(1, 4):
        conductor.start(COUNT, "300")
        conductor.ask(Subscribe(id=0, events=["exited"]))
        conductor.wait_record("exited", partial(is_of, n))
    conductor.records.clear()
    conductor.ask(Subscribe(id=0, events=["started", "sent", "replied"]))
    conductor.ask(Subscribe(id=0, events=["started", "sent", "replied", "exited"]))
    conductor.wait_record("exited", lambda r: r.fields["incarnation"] == 3)
    spans = [r for r in conductor.records if r.event != "exited"]
    assert [(r.event if r.event == "started" else "record") for r in spans] == (["started"] + ["record"] * 300) * 3
    assert [r.fields["incarnation"] for r in conductor.of("exited")] == [1, 2, 3]


def is_of(incarnation: int, record: Record) -> bool:
    return bool(record.fields["incarnation"] == incarnation)


def test_torn_and_foreign_lines_are_not_pushed(conductor: TestConductor) -> None:
    """A line without its end, and one that is no record, never reach the conductor, and break nothing."""
    conductor.begin("replied", "line", "exited")
    code = (
        "import os,sys; fd = os.open(os.environ['MIDSESSION_EVENT_FILE'], os.O_WRONLY | os.O_CREAT)\n"
        'os.write(fd, b\'{"event":"replied",nonsense}\\n{"event":"replied"\\n\\n\\xff\\n\')\n'
        'os.write(fd, b\'{"event":"replied","seq":1,\')\n'
        "print('half', flush=True); sys.stdin.readline()\n"
        'os.write(fd, b\'"t_ns":5,"crc":"00000000"}\\n{"event":"replied","seq":2\')\n'
    )
    conductor.start(code)
    conductor.wait_line("half")
    conductor.ask(Status(id=0))
    assert conductor.of("replied") == []
    conductor.ask(Tell(id=0, line="go"))
    conductor.wait_record("exited")
    assert [(r.seq, r.t_ns) for r in conductor.of("replied")] == [(1, 5)]


def test_endless_line_is_given_up(conductor: TestConductor) -> None:
    """A file with a line of more than a MiB is followed no further; the agent lives on."""
    conductor.begin("replied", "exited")
    conductor.start(
        "import os; fd = os.open(os.environ['MIDSESSION_EVENT_FILE'], os.O_WRONLY | os.O_CREAT)\n"
        "for _ in range(20): os.write(fd, b'x' * 100000)"
    )
    assert conductor.wait_record("exited").fields["event_bytes"] == 2_000_000


def test_slow_conductor_does_not_make_the_agent_grow(conductor: TestConductor) -> None:
    """While nobody reads, the files are the buffer; then everything comes, and nothing twice."""
    conductor.begin("replied", "exited")
    records = 150_000
    pid = conductor.start(
        WRITER + f"for n in range({records}): log.append('replied', fields={{'n': n, 'text': 'x' * 64}})"
    )["pid"]
    wait_dead(pid)
    status = Path(f"/proc/{conductor.hello.pid}/status").read_text()
    resident_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert conductor.path("program").stat().st_size > 20_000_000
    assert resident_kib < 60_000
    conductor.wait_record("exited")
    assert [r.fields["n"] for r in conductor.of("replied")] == list(range(records))


def test_kill_is_heard_while_records_flow(conductor: TestConductor) -> None:
    """A conductor that reads, and kills in the middle of a flood, gets everything up to the end."""
    conductor.begin("replied", "exited")
    conductor.start(WRITER + "n = 0\nwhile True:\n  log.append('replied', fields={'n': n})\n  n += 1")
    conductor.wait_record("replied", lambda r: r.fields["n"] == 20_000)
    conductor.ask(Kill(id=0, fault="crash"))
    conductor.wait_record("exited")
    whole = conductor.log("program").records
    assert [r.seq for r in conductor.of("replied")] == [r.seq for r in whole]
    assert len(whole) > 20_000


# --- without inotify -----------------------------------------------------------------------------------------------


def test_without_inotify_files_are_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the user's inotify instances are all in use, records come all the same, and people are told why."""

    def none_left() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(libc, "inotify", none_left)
    own, program = tmp_path / "own", tmp_path / "program"
    own.touch()
    loop = Loop()
    pushed: list[bytes] = []

    def push(frame: bytes) -> None:
        pushed.append(frame)
        loop.stop()

    tail = Tail(loop, Source("h", "agent", 1, str(own)), push, lambda: False)
    tail.subscribe(frozenset({"done"}))
    tail.add(Source("h", "program", 1, str(program)))
    loop.later(0.02, lambda: write_line(program))
    give_up = loop.later(10, loop.stop)
    loop.run()
    give_up.cancel()
    tail.close()
    loop.close()
    (message,) = map(decode_from_agent, pushed)
    assert isinstance(message, Records)
    assert len(message.records) == 1
    assert "polling instead" in capfd.readouterr().err


def write_line(path: Path) -> None:
    path.write_bytes(b'{"event":"done","seq":1,"t_ns":1,"crc":"00000000"}\n')
