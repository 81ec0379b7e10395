"""The reference server over real sockets on loopback."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midsession.core.logfile import LogState, read_log
from midsession.core.record import Header, Log
from server.behaviours import NONSENSE
from tests.server.conftest import HEADER, PATIENCE_S, REPOSITORY, Client, Server
from tests.spoilt import WAYS, python
from tests.waiting import eventually

Start = Callable[..., Server]


# --- behaviours ------------------------------------------------------------------------------------------------------


def test_greet_is_the_lesson(start: Start) -> None:
    """The client is greeted by its own address, hears the end at once, and is still heard."""
    server = start("greet")
    client = server.connect()
    assert client.rest().decode() == f"Hello {client.address}, I hear you 👋\n"
    client.send("Thank you 👋\n")
    assert server.wait_for_records("received", 1)[0].fields["text"] == "Thank you 👋\n"
    client.close()
    server.wait_for_records("closed", 1)
    code, out, log = server.stop()
    assert code == 0
    assert log.state is LogState.COMPLETE
    assert [r.event for r in log.records] == ["listening", "accepted", "sent", "received", "end", "closed"]
    assert f"{client.address} ← Thank you 👋\\n" in out


def test_reply_answers_each_line_once(start: Start) -> None:
    """Three lines, cut anywhere, get three replies; a line without its end gets none."""
    server = start("reply")
    client = server.connect()
    client.send("one\ntwo\nthr")
    assert [client.line() for _ in range(2)] == ["Got your message ✅\n"] * 2
    client.send("ee\nhalf a line")
    client.half_close()
    assert client.rest().decode() == "Got your message ✅\n"
    texts = [r.fields["text"] for r in server.wait_for_records("received", 4)]
    assert texts == ["one\n", "two\n", "three\n", "half a line"]


def test_what_is_recorded_is_what_came(start: Start) -> None:
    """A carriage return stands in the record of its line, whose bytes are those of the connection; it is not heard."""
    server = start("chat")
    talker, listener = server.connect(), server.connect()
    server.wait_for_records("accepted", 2)
    talker.send("hello\r\n\nbye\r")
    assert [listener.line() for _ in range(2)] == ["hello\n", "\n"]
    talker.close()
    (closed,) = server.wait_for_records("closed", 1)
    came = [r.fields for r in server.records("received")]
    assert [fields["text"] for fields in came] == ["hello\r\n", "\n", "bye\r"]
    assert sum(fields["bytes"] for fields in came) == closed.fields["bytes_in"] == 12


def test_an_emoji_cut_across_reads_stays_whole(start: Start) -> None:
    """Whatever the cut, the character comes back whole, and stands whole in the log of a server that hears lines."""
    echo, reply = start("echo"), start("reply")
    talker, liner = echo.connect(), reply.connect()
    emoji = "👩‍👩‍👧‍👦".encode()
    for at in range(1, len(emoji)):
        before = sum(r.fields["bytes"] for r in echo.records("received"))
        talker.send(emoji[:at])
        liner.send(emoji[:at])
        assert talker.read(at) == emoji[:at]  # so it was a read of its own
        talker.send(emoji[at:])
        liner.send(emoji[at:] + b"\n")
        assert talker.read(len(emoji) - at) == emoji[at:]
        assert liner.line() == "Got your message ✅\n"
        assert sum(r.fields["bytes"] for r in echo.records("received")) == before + len(emoji)
    texts = {r.fields["text"] for r in reply.records("received")}
    assert texts == {emoji.decode() + "\n"}


def test_chat_tells_all_others(start: Start) -> None:
    """Each line goes to everybody but its sender."""
    server = start("chat")
    clients = [server.connect() for _ in range(3)]
    server.wait_for_records("accepted", 3)
    clients[0].send("hello all 💬\n")
    assert [c.line() for c in clients[1:]] == ["hello all 💬\n"] * 2
    clients[1].send("hello back\n")
    assert clients[0].line() == "hello back\n"


def test_sink_reads_and_answers_nothing(start: Start) -> None:
    """Every byte is taken, none comes back."""
    server = start("sink")
    client = server.connect()
    client.send(b"x" * 1_000_000)
    client.half_close()
    assert client.rest() == b""
    assert server.wait_for_records("closed", 1)[0].fields == {"had_error": False, "bytes_in": 1_000_000, "bytes_out": 0}


def test_silent_accepts_and_never_reads(start: Start) -> None:
    """The client is accepted; its bytes stay unread, its end unheard, until the server is stopped."""
    server = start("silent", "--grace", "0")
    client = server.connect()
    server.wait_for_records("accepted", 1)
    client.send("anybody there?\n")
    client.half_close()
    code, _, log = server.stop()
    assert code == 0
    assert [r.event for r in log.records] == ["listening", "accepted", "closed"]


def test_nonsense_comes_unasked_and_as_an_answer(start: Start) -> None:
    """Garbage at once, garbage for whatever is said."""
    client = start("nonsense").connect()
    assert client.read(len(NONSENSE)) == NONSENSE
    client.send("hello?\n")
    assert client.read(len(NONSENSE)) == NONSENSE


# --- losing clients --------------------------------------------------------------------------------------------------


def test_a_reset_client_is_lost_and_the_others_go_on(start: Start) -> None:
    """RST: `error`, `client_lost`, `closed`, a line for people; the next client's conversation does not feel it."""
    server = start("reply")
    stayer, quitter = server.connect(), server.connect()
    server.wait_for_records("accepted", 2)
    quitter.send("I will not say goodbye 💥\n")
    assert quitter.line()
    quitter.abort()
    (lost,) = server.wait_for_records("client_lost", 1)
    assert lost.fields == {"peer": quitter.address, "how": "reset"}
    stayer.send("still here\n")
    assert stayer.line() == "Got your message ✅\n"
    stayer.close()
    _, out, log = server.stop()
    assert f"Client Lost: {quitter.address} (reset)" in out
    own = [r for r in log.records if r.connection == lost.connection]
    assert [r.event for r in own] == ["accepted", "received", "sent", "error", "client_lost", "closed"]
    assert own[-1].fields["had_error"]
    assert [r.fields["had_error"] for r in log.records if r.event == "closed" and r not in own] == [False]


def test_clients_that_reset_at_any_moment_harm_nobody(start: Start) -> None:
    """Two hundred resets, most before the server has looked: each connection is closed once, a conversation goes on."""
    server = start("reply")
    stayer = server.connect()
    for number in range(200):
        client = server.connect()
        if number % 2:
            client.send("hi\n")
        client.abort()
    server.wait_for_records("accepted", 2)
    stayer.send("still here\n")
    assert stayer.line()
    stayer.close()
    code, out, log = server.stop()
    events = Counter(r.event for r in log.records)
    assert code == 0
    assert "Traceback" not in out
    assert 100 < events["accepted"] == events["closed"] <= 201
    assert events["client_lost"] == events["accepted"] - 1


def test_both_halves_close_in_any_order(start: Start) -> None:
    """The client ends first and hears all of its answer; the server ends first and hears all of its client."""
    echo = start("echo").connect()
    echo.send(b"y" * 500_000)
    echo.half_close()
    assert echo.rest() == b"y" * 500_000
    server = start("greet")
    greeted = server.connect()
    assert greeted.rest()
    for number in range(3):
        greeted.send(f"line {number}\n")
    greeted.close()
    server.wait_for_records("end", 1)
    assert [r.fields["text"] for r in server.records("received")] == ["line 0\n", "line 1\n", "line 2\n"]
    assert not server.records("client_lost")


def test_a_hundred_clients_have_a_hundred_addresses(start: Start) -> None:
    """The server knows each client by its own remote address and port, and tells it so."""
    server = start("greet")
    clients = [server.connect() for _ in range(100)]
    assert [c.rest().decode() for c in clients] == [f"Hello {c.address}, I hear you 👋\n" for c in clients]
    peers = {r.fields["peer"] for r in server.wait_for_records("accepted", 100)}
    assert peers == {c.address for c in clients}
    assert sorted(r.connection or 0 for r in server.records("accepted")) == list(range(1, 101))


def test_both_directions_flow_at_once(start: Start) -> None:
    """A client that writes two megabytes while it reads gets every byte back in order."""
    client = start("echo").connect()
    payload = os.urandom(2_000_000)
    pid = os.fork()
    if pid == 0:  # the writing half, in a process of its own
        client.send(payload)
        client.half_close()
        os._exit(0)
    assert client.rest() == payload
    assert os.waitpid(pid, 0)[1] == 0


# --- bounds ----------------------------------------------------------------------------------------------------------


def _resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _send_until_blocked(client: Client, data: bytes, most_bytes: int) -> int:
    """Write until nothing more is taken for half a second, or `most_bytes`; how many were taken."""
    client.socket.settimeout(0.5)
    taken = 0
    while taken < most_bytes:
        try:
            taken += client.socket.send(data)
        except TimeoutError:
            break
    return taken


def test_a_client_that_does_not_read_is_not_read(start: Start) -> None:
    """Its answers wait in the kernel and not in the server: memory stays bounded, others are served."""
    server = start("echo")
    deaf, other = server.connect(), server.connect()
    before = _resident_bytes(server.pid)
    taken = _send_until_blocked(deaf, b"z" * 65536, 200_000_000)
    assert 0 < taken < 200_000_000
    assert _resident_bytes(server.pid) - before < 16_000_000
    other.send("me?")
    assert other.read(3) == b"me?"


def test_chat_cuts_off_a_slow_reader(start: Start) -> None:
    """A client that does not read what it is told is cut off; who talks and who reads go on."""
    server = start("chat")
    slow, talker = server.connect(), server.connect()
    server.wait_for_records("accepted", 2)
    line = b"w" * 50_000 + b"\n"
    for _ in range(1000):  # 50 MB: more than the kernel's buffers and the server's bound together
        talker.send(line)
        if server.events.read_bytes().find(b'"how":"slow"', 0) >= 0:
            break
    (error,) = server.wait_for_records("error", 1)
    assert error.fields["how"] == "slow"
    assert error.connection == 1
    reader = server.connect()
    server.wait_for_records("accepted", 3)
    talker.send("anybody left?\n")
    assert reader.line() == "anybody left?\n"
    assert not server.records("client_lost")
    slow.close()


def test_an_endless_line_is_cut_off(start: Start) -> None:
    """A client that never ends its line is cut off at a bound, with a record that says so."""
    server = start("reply")
    client = server.connect()
    with pytest.raises(ConnectionError):
        client.send(b"a" * 50_000_000)
    (error,) = server.wait_for_records("error", 1)
    assert error.fields["how"] == "line_too_long"
    assert server.wait_for_records("closed", 1)[0].fields["had_error"]


def _allow_descriptors(pid: int, count: int) -> None:
    """Let a running process have no more than so many of them."""
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))


@pytest.mark.parametrize("behaviour", ["reply", "silent"])
def test_a_server_without_descriptors_says_so_once(start: Start, behaviour: str) -> None:
    """On either event loop: one record and one line, nobody is turned away, and all come in once there is room."""
    server = start(behaviour, "--grace", "0.2")
    _allow_descriptors(server.pid, 30)
    clients = [server.connect() for _ in range(60)]
    (error,) = server.wait_for_records("error", 1)
    assert (error.connection, error.fields["how"], error.fields["errno"]) == (None, "exhausted", errno.EMFILE)
    in_time = len(server.records("accepted"))
    assert 0 < in_time < 30
    for round_ in range(3):  # that one more is let in, and still nobody else, is no news
        _allow_descriptors(server.pid, 31 + round_)
        server.wait_for_records("accepted", in_time + 1 + round_)
    _allow_descriptors(server.pid, 1000)
    server.wait_for_records("accepted", 60)
    if behaviour == "reply":
        for client in clients:
            client.send("hello\n")
            assert client.line() == "Got your message ✅\n"
    _, out, log = server.stop()
    assert out.count("No Room: Too many open files") == 1
    assert [r.event for r in log.records].count("error") == 1
    assert [r.fields["had_error"] for r in log.records if r.event == "closed"] == [False] * 60


def _room_for(server: Server, more: int) -> int:
    """Let the server have so many descriptors that it can take in `more` clients, or a few more; how many exactly."""
    server.connect().close()
    server.wait_for_records("closed", 1)  # what it opens for its first client, it has opened
    held = [int(entry.name) for entry in os.scandir(f"/proc/{server.pid}/fd")]
    limit = max(held) + 1 + more
    _allow_descriptors(server.pid, limit)
    return limit - len(held)


def test_a_server_that_is_just_full_has_nothing_to_say(start: Start) -> None:
    """Every descriptor is taken, and nobody waits for one; there is room again as soon as somebody leaves."""
    server = start("reply")
    clients = [server.connect() for _ in range(_room_for(server, 9))]
    server.wait_for_records("accepted", 1 + len(clients))
    clients[0].close()
    server.wait_for_records("closed", 2)
    late = server.connect()
    late.send("hello\n")
    assert late.line() == "Got your message ✅\n"
    assert server.records("error") == []


def test_each_time_that_somebody_must_wait_is_told(start: Start) -> None:
    """The one who waited is in, the server is full without a queue, and then there is one again."""
    server = start("reply")
    clients = [server.connect() for _ in range(_room_for(server, 9))]
    for times in (1, 2):
        clients.append(server.connect())
        server.wait_for_records("error", times)
        clients.pop(0).close()
        server.wait_for_records("accepted", 1 + len(clients) + times)
    assert len(server.records("error")) == 2


def test_a_full_server_goes_on_when_clients_leave(start: Start) -> None:
    """Who waited is let in for who has left; the next time that it is full is told again."""
    server = start("reply")
    _allow_descriptors(server.pid, 20)
    for times in (1, 2):
        crowd = [server.connect() for _ in range(20)]
        server.wait_for_records("error", times)
        crowd[0].close()
        crowd[-1].send("hello\n")
        for client in crowd[1:-1]:
            client.close()
        assert crowd[-1].line() == "Got your message ✅\n"
        crowd[-1].close()
        server.wait_for_records("closed", 20 * times)
    assert len(server.records("error")) == 2


def test_what_came_before_a_line_that_is_too_long_is_answered(start: Start) -> None:
    """In one piece with it, or in pieces: the same."""
    server = start("reply")
    client = server.connect()
    with contextlib.suppress(ConnectionError):  # the server may cut it off before all is sent
        client.send(b"hello\n" + b"a" * 80_000)
    server.wait_for_records("closed", 1)
    (received,), (sent,), (error,) = (server.records(event) for event in ("received", "sent", "error"))
    assert received.fields["text"] == "hello\n"
    assert error.fields["how"] == "line_too_long"
    assert received.seq < sent.seq < error.seq


# --- beginning and end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_ends_its_sessions_in_order(start: Start, number: int) -> None:
    """Clients hear FIN and no reset, no new ones are accepted, what they still say is heard, the log is complete."""
    server = start("reply")
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.send("Tell me when you close 👂\n")
        assert client.line()
    server.signal(number)
    assert [client.line() for client in clients] == [""] * 5
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    for client in clients:
        client.send("goodbye\n")
        client.close()
    code, out, log = server.end()
    events = Counter(r.event for r in log.records)
    assert code == 0
    assert log.state is LogState.COMPLETE
    assert (events["received"], events["end"], events["closed"], events["error"]) == (10, 5, 5, 0)
    assert out.endswith("Stopped\n")


def test_a_stop_ends_every_session_whatever_became_of_one(start: Start) -> None:
    """A silent server learns only now that a client has reset: that one is lost, and all others get their end."""
    server = start("silent", "--grace", "0.2")
    first, quitter, last = (server.connect() for _ in range(3))
    server.wait_for_records("accepted", 3)
    quitter.abort()
    code, out, log = server.stop()
    assert (code, log.state) == (0, LogState.COMPLETE)
    assert "Traceback" not in out
    assert out.endswith("Stopped\n")
    assert [first.line(), last.line()] == ["", ""]
    lost = [(r.connection, r.fields["how"]) for r in log.records if r.event == "client_lost"]
    assert lost == [(2, "reset")]
    assert [r.fields["had_error"] for r in log.records if r.event == "closed"].count(True) == 1


def test_a_stop_is_bounded_by_its_grace(start: Start) -> None:
    """A client that never ends is closed when the grace is over; the log is complete all the same."""
    server = start("reply", "--grace", "0.2")
    client = server.connect()
    server.wait_for_records("accepted", 1)
    code, _, log = server.stop()
    assert code == 0
    assert [r.event for r in log.records] == ["listening", "accepted", "closed"]
    assert client.line() == ""


def test_a_second_signal_ends_the_grace(start: Start) -> None:
    """Who presses Ctrl-C twice does not wait."""
    server = start("reply", "--grace", "3600")
    client = server.connect()
    server.wait_for_records("accepted", 1)
    server.signal(signal.SIGINT)
    assert client.line() == ""  # it is on its way out
    server.signal(signal.SIGINT)
    assert server.end()[0] == 0


def test_a_killed_server_comes_back_on_its_port(start: Start) -> None:
    """SIGKILL under live connections, twice: the same port can be had again at once, and the clients hear it."""
    port = "0"
    for _ in range(3):
        server = start("reply", "--port", port)
        port = str(server.port)
        clients = [server.connect() for _ in range(10)]
        for client in clients:
            client.send("hi\n")
            assert client.line()
        server.signal(signal.SIGKILL)
        assert [client.line() for client in clients] == [""] * 10
        assert server.end()[0] == -signal.SIGKILL


def test_sigkill_loses_no_acknowledged_record(start: Start) -> None:
    """Every reply that a client has got stands in the killed server's log, which is known to be cut."""
    server = start("reply")
    client = server.connect()
    with mmap.mmap(-1, 8) as replies:
        killer = os.fork()
        if killer == 0:  # beside the conversation, so that the kill can fall anywhere in it
            try:
                eventually(lambda: int.from_bytes(replies[:8], "little") >= 200, PATIENCE_S, "200 replies", pause_s=0)
                os.kill(server.pid, signal.SIGKILL)
            finally:
                os._exit(0)
        count = _talk_until_lost(client, replies)
        os.waitpid(killer, 0)
    _, _, log = server.end()
    sent = [r for r in log.records if r.event == "sent"]
    assert log.state is LogState.CUT
    assert 200 <= count <= len(sent) <= count + 1


def _talk_until_lost(client: Client, replies: mmap.mmap) -> int:
    count = 0
    try:
        while client.send(f"message {count}\n") and client.line():
            count += 1
            replies[:8] = count.to_bytes(8, "little")
    except ConnectionError:
        pass  # RST instead of FIN: the message was unread when the server died
    return count


def test_a_port_in_use_is_said_in_one_line() -> None:
    """Exit 1, one line, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("--host", "127.0.0.1", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"server: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("option", "word", "right"),
    [
        ("--port", "abc", "a port from 0 to 65535"),
        ("--port", "70000", "a port from 0 to 65535"),
        ("--grace", "nan", "a number of seconds from 0 to 86400"),
        ("--grace", "soon", "a number of seconds from 0 to 86400"),
        ("--host", "no..dots", "neither an address nor a name that a host can have"),
        ("--host", os.fsdecode(b"\xff"), "neither an address nor a name that a host can have"),
    ],
)
def test_a_wrong_command_line_says_what_is_right(option: str, word: str, right: str) -> None:
    """Usage, exit 2, no traceback."""
    done = _run(option, word)
    assert done.returncode == 2
    assert right in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_no_server_needs_its_streams(way: str, tmp_path: Path) -> None:
    """Whatever becomes of what it shows, it serves, ends in order, and its log is whole."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    events = tmp_path / "events.jsonl"
    ours = {"MIDSESSION_EVENT_FILE": str(events), "MIDSESSION_HEADER": json.dumps(HEADER)}
    run = ["-m", "server", "--host", "127.0.0.1", "--port", str(port)]
    with python(run, way, [1, 2], cwd=REPOSITORY, env={**os.environ, **ours}) as process:
        client = eventually(lambda: _connect(port), PATIENCE_S, f"somebody listens at port {port}")
        assert client.rest().decode().startswith("Hello ")
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    log = read_log(events.read_bytes())
    assert log.state is LogState.COMPLETE
    assert [r.event for r in log.records] == ["listening", "accepted", "sent", "end", "closed"]


def _connect(port: int) -> Client | None:
    with contextlib.suppress(ConnectionRefusedError):
        return Client(port)
    return None


def test_a_log_that_cannot_be_opened_is_said_in_one_line() -> None:
    """Exit 3: a run without its records is void, so it does not begin."""
    done = _run("--port", "0", MIDSESSION_EVENT_FILE="/nowhere/x.jsonl", MIDSESSION_HEADER="{}")
    assert done.returncode == 3
    assert done.stderr.startswith("server: the event file cannot be opened: ")
    assert done.stderr.count("\n") == 1


def test_a_full_disk_ends_the_server(start: Start) -> None:
    """Exit 3 and one line, never a shorter log: a bound on the size of files stands in for the full disk."""
    server = start("sink")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    client = server.connect()
    with pytest.raises(ConnectionError):
        client.send(b"x" * 1_000_000_000)
    code, out, log = server.end()
    assert code == 3
    assert out.splitlines()[-1].startswith("server: the event file cannot be written: ")
    assert "Traceback" not in out
    assert log.state is LogState.CUT


@pytest.mark.parametrize("what", ["header", "record"])
def test_a_disk_that_is_full_from_the_start_is_said_in_one_line(tmp_path: Path, what: str) -> None:
    """Not even the header has room, or no record after it: exit 3, no traceback, and nobody is served."""
    told = {"run": "r", "host": "server", "writer": "program", "incarnation": 1, "clock": "d", "seed": 1, "plan": "x"}
    written: list[bytes] = []
    Log(Header(**told, pid=1), lambda line: written.append(line) or len(line), lambda: 0)  # type: ignore[arg-type]
    room_bytes = len(written[0]) + 20 if what == "record" else 20
    environment = {"MIDSESSION_EVENT_FILE": str(tmp_path / "x.jsonl"), "MIDSESSION_HEADER": json.dumps(told)}
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))}
    done = _run("--host", "127.0.0.1", "--port", "0", limits=limits, **environment)
    assert done.returncode == 3
    assert done.stderr.startswith("server: the event file cannot be written: ")
    assert done.stderr.count("\n") == 1


def _run(*arguments: str, limits: dict[str, Any] | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        **(limits or {}),
    )
