"""The fleet against raw peers on loopback: what the kernel does to a connection, and the name it gets.

Every test runs on asyncio's own loop and on uvloop: their transports tell the same things differently.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from midsession.core import plan as p
from tests.client.peers import hang_up, listening, play, unanswering, until_end
from tests.core.stage import hears, line, wait

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    """What makes the event loop."""
    factory: Loop = request.param
    return factory


def test_a_conversation_with_a_cut_emoji(loop: Loop) -> None:
    """The peer cuts an emoji in two writes; the reply is whole."""
    reply = "Got 👋\n".encode()

    def peer(endpoint: socket.socket) -> None:
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert endpoint.recv(100) == "Hi 👋\n".encode()
        endpoint.sendall(reply[:6])
        assert endpoint.recv(100) == b"more\n"
        endpoint.sendall(reply[6:])
        assert until_end(endpoint) == b""

    with listening(peer) as port:
        tape = play(loop, port, line("Hi 👋"), wait(0.05), line("more"), hears("Got 👋"), p.End())
    assert tape.events[:2] == ["connecting", "connected"]
    assert tape.fields("replied")["text"] == "Got 👋"
    assert tape.events.count("received") == 2
    assert tape.events[-3:] == ["end", "closed", "done"]
    assert tape.outcomes == ["ok"]


def test_reply_and_fin_together(loop: Loop) -> None:
    """The last line comes with the FIN: met, and no loss."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)
        endpoint.sendall(b"A\n")
        endpoint.shutdown(socket.SHUT_WR)
        until_end(endpoint)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"), p.End())
    assert tape.outcomes == ["ok"]
    assert tape.ways == []


def test_the_lesson(loop: Loop) -> None:
    """The server greets and ends its side; the client hears both, writes afterwards, and ends: full duplex."""
    heard = []

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall("Hello from the server 👋".encode())
        endpoint.shutdown(socket.SHUT_WR)
        heard.append(until_end(endpoint))

    script = (hears("Hello from the server 👋"), p.Expect(1, eof=True), wait(0.05), line("Hello back"), p.End())
    with listening(peer) as port:
        tape = play(loop, port, *script)
    assert heard == [b"Hello back\n"]
    assert tape.outcomes == ["ok"]
    assert tape.ways == []


def test_a_fin_in_mid_conversation_is_eof(loop: Loop) -> None:
    """The peer closes in order: `end`, `lost eof`, closed without error."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"))
    assert tape.events[-4:] == ["end", "lost", "closed", "done"]
    assert tape.ways == ["eof"]
    assert tape.fields("closed")["had_error"] is False


def test_an_rst_in_mid_conversation_is_reset(loop: Loop) -> None:
    """SO_LINGER 0: `error` with its errno, `lost reset`, closed with an error, and no `end`."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)
        hang_up(endpoint)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"))
    assert tape.events[-4:] == ["error", "lost", "closed", "done"]
    assert tape.fields("error")["errno"] == errno.ECONNRESET
    assert tape.ways == ["reset"]


def test_a_peer_that_dies_with_unread_bytes_resets(loop: Loop) -> None:
    """Bytes that the peer never read turn its FIN into an RST."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(2, socket.MSG_PEEK | socket.MSG_WAITALL)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"))
    assert tape.ways == ["reset"]


def test_data_before_an_rst_still_counts(loop: Loop) -> None:
    """The reply arrived before the RST: it is met, then the loss is judged."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)
        endpoint.sendall(b"A\n")
        endpoint.recv(100)
        hang_up(endpoint)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"), line("r"), hears("B"))
    assert tape.events.count("replied") == 1
    assert tape.ways == ["reset"]


def test_an_expected_rst(loop: Loop) -> None:
    """`expect: reset` is met by it."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)
        hang_up(endpoint)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), p.Expect(2, reset=True))
    assert tape.outcomes == ["ok"]
    assert tape.ways == []


def test_writing_to_a_peer_that_is_gone(loop: Loop) -> None:
    """EOF is heard and kept; the first send is swallowed, a later one breaks the pipe: lost by that eof."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)

    writes = p.Repeat([line("x"), wait(0.02)], times=10)
    with listening(peer) as port:
        # The FIN is there before the writes begin: bytes that a closing peer has not read would make it an RST.
        tape = play(loop, port, line("q"), wait(0.5), writes, hears("never"), p.Expect(1, eof=True))
    assert tape.fields("error")["errno"] == errno.EPIPE
    assert tape.fields("error")["how"] == "eof"
    assert tape.ways == ["eof"]


def test_silence_is_a_protocol_error(loop: Loop) -> None:
    """A peer that accepts and never answers: in time, by name."""
    with listening(until_end) as port:
        tape = play(loop, port, line("q"), hears("A", within_s=0.1))
    assert tape.outcomes == ["protocol_error"]
    assert tape.fields("protocol_error") == {"expected": 'line "A"', "got": None, "within_s": 0.1, "n": 1}


def test_refused(loop: Loop) -> None:
    """Nobody listens: refused, with errno, one connection, no crash."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    tape = play(loop, port, line("q"))
    assert tape.events == ["connecting", "error", "lost", "closed", "done"]
    assert tape.fields("error")["errno"] == errno.ECONNREFUSED
    assert tape.ways == ["refused"]


def test_a_name_that_does_not_exist(loop: Loop) -> None:
    """The resolver's no is `name`."""
    tape = play(loop, 4000, line("q"), host="no-such-host.invalid")
    assert tape.ways == ["name"]


def test_no_lookup_waits_for_another(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that answers none of forty clients before all have asked: each is connected."""
    clients = 40
    asked = threading.Barrier(clients, timeout=10)

    def resolver(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with listening(until_end, clients) as port:
        tape = play(loop, port, p.End(), host="server", clients=clients, timeout_s=10)
    assert tape.outcomes == ["ok"] * clients


def test_a_fleet_that_is_over_waits_for_no_lookup(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says nothing until the fleet has ended and its loop is closed."""
    over, ended = threading.Event(), threading.Event()

    def resolver(*_: object, **__: object) -> list[tuple[object, ...]]:
        over.wait(10)
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    tape = play(loop, 4000, p.End(), host="server", timeout_s=0.05)
    assert not ended.is_set()
    assert tape.ways == ["timeout"]
    over.set()
    assert ended.wait(10)


def test_a_full_backlog_times_out(loop: Loop) -> None:
    """SYNs that are not answered: `timeout`, after the time that was given."""
    with unanswering() as port:
        tape = play(loop, port, line("q"), timeout_s=0.2)
    assert tape.ways == ["timeout"]
    assert tape.fields("error")["message"] == "no answer within 0.2 s"


def late(base: type[asyncio.AbstractEventLoop]) -> type[asyncio.AbstractEventLoop]:
    """An event loop that says only after a second that a connection was made, although its protocol knows by then."""

    class Late(base):  # type: ignore[misc, valid-type]
        async def connect_accepted_socket(self, *args: Any, **options: Any) -> Any:
            made = await super().connect_accepted_socket(*args, **options)
            told = self.create_future()
            self.call_later(1.0, told.set_result, made)
            return await told

    return Late


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop])
def test_a_timeout_ends_no_connection_that_was_made(base: type[asyncio.AbstractEventLoop]) -> None:
    """The time for an attempt runs out just as its connection stands: it stands, and the conversation goes on."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall(endpoint.recv(100))
        assert endpoint.recv(100) == b"still here\n"
        until_end(endpoint)

    with listening(peer) as port:
        tape = play(late(base), port, line("q"), hears("q"), wait(0.8), line("still here"), p.End(), timeout_s=0.5)
    assert tape.events.count("connected") == 1
    assert tape.outcomes == ["ok"]


@pytest.mark.parametrize("timeout_ms", [1, 2, 3, 4, 6, 9])
def test_timeouts_as_short_as_an_attempt_harm_no_fleet(loop: Loop, timeout_ms: int) -> None:
    """Each of fifty clients is in conversation or timed out, and nothing else happens."""

    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        tape = play(loop, server.getsockname()[1], line("q"), p.Abort(), clients=50, timeout_s=timeout_ms / 1000)
    assert len(tape.outcomes) == 50
    assert set(tape.outcomes) <= {"ok", "lost"}
    assert set(tape.ways) <= {"timeout"}


def test_an_attempt_that_is_over_leaves_the_next_one_alone(loop: Loop) -> None:
    """Stopped in a second attempt that nobody answers: it is given up at once, like a first one."""
    with listening(lambda endpoint: None) as port, unanswering() as nowhere:
        script = (p.Connect(), p.Abort(), p.Connect(port=nowhere, timeout_s=60.0))
        tape = play(loop, port, *script, stop_at="closed", stop_after_s=0.2)
    assert tape.events == ["connecting", "connected", "closed", "connecting", "closed", "done"]
    assert tape.outcomes == ["stopped"]


def test_reconnect_to_a_server_that_comes_back(loop: Loop) -> None:
    """Lost twice, back twice, each connection with its own number and port."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.recv(100)
        endpoint.sendall(b"A\n")
        if endpoint.recv(100) == b"more\n":
            hang_up(endpoint)

    script = (line("q"), hears("A"), line("more"), hears("B"))
    policy = p.Reconnect(first_s=0.01, attempts=1)
    with listening(peer, connections=3) as port:
        tape = play(loop, port, *script, on_loss=policy)
    assert tape.ways == [*["reset"] * 3, "refused"]
    assert tape.outcomes == ["gave_up"]
    assert [n for event, n, _ in tape.records if event == "connected"] == [1, 2, 3]
    assert len({f["local"] for event, _, f in tape.records if event == "connected"}) == 3


def test_half_close_keeps_hearing(loop: Loop) -> None:
    """Our FIN first; the peer answers what it heard until then."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall(b"%d bytes\n" % len(until_end(endpoint)))

    with listening(peer) as port:
        tape = play(loop, port, line("12345"), p.HalfClose(), hears("6 bytes"), p.Expect(1, eof=True))
    assert tape.outcomes == ["ok"]


def test_abort_is_an_rst_at_the_peer(loop: Loop) -> None:
    """SO_LINGER 0: the peer gets ECONNRESET; for us it is no error."""
    seen = []

    def peer(endpoint: socket.socket) -> None:
        assert endpoint.recv(100) == b"q\n"
        endpoint.sendall(b"A\n")
        try:
            until_end(endpoint)
        except ConnectionResetError as error:
            seen.append(error)

    with listening(peer) as port:
        tape = play(loop, port, line("q"), hears("A"), p.Abort())
    assert len(seen) == 1
    assert tape.fields("closed")["had_error"] is False
    assert tape.outcomes == ["ok"]


def test_slices_are_separate_segments(loop: Loop) -> None:
    """The peer reads the slices one by one, Nagle or not."""
    reads = []

    def peer(endpoint: socket.socket) -> None:
        while data := endpoint.recv(100):
            reads.append(data)

    send = p.Send(p.Payload(text="👋"), slice_bytes=1, pause_s=0.03)
    with listening(peer) as port:
        play(loop, port, send)
    assert reads == [b"\xf0", b"\x9f", b"\x91", b"\x8b"]


def test_a_client_that_never_reads_fills_its_peer(loop: Loop) -> None:
    """Not a byte is heard, and the peer's writes come to a stop: the window is closed."""
    written = []

    def peer(endpoint: socket.socket) -> None:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        endpoint.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                written.append(endpoint.send(b"x" * 65536))
        endpoint.settimeout(5)
        with contextlib.suppress(OSError):
            until_end(endpoint)

    with listening(peer) as port:
        tape = play(loop, port, p.Connect(), p.Read("never"), wait(1), p.Abort())
    assert sum(written) < 32 * 1024 * 1024
    assert "received" not in tape.events


def test_slow_reading_keeps_its_rate(loop: Loop) -> None:
    """4,000 bytes at 10,000 a second take about 0.4 s, in small reads."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall(b"x" * 4000)
        until_end(endpoint)

    script = (p.Connect(), p.Read("slow", 10_000), line("q"), p.Expect(3, bytes=4000), p.End())
    with listening(peer) as port:
        tape = play(loop, port, *script)
    assert tape.outcomes == ["ok"]
    assert 0.3e9 < tape.fields("replied")["rtt_ns"] < 2e9
    assert max(f["bytes"] for event, _, f in tape.records if event == "received") <= 500


def test_a_peer_that_does_not_read_holds_the_script(loop: Loop) -> None:
    """64 MB do not fit in any buffer: the mark after them comes only once the peer reads."""
    size = 64 * 1024 * 1024
    got = []

    def peer(endpoint: socket.socket) -> None:
        assert endpoint.recv(1, socket.MSG_PEEK)
        count = 0
        while data := endpoint.recv(1 << 20):
            count += len(data)
        got.append(count)

    with listening(peer) as port:
        tape = play(loop, port, p.Send(p.Payload(random_bytes=size)), p.Mark("written"), p.End())
    assert got == [size]
    assert tape.outcomes == ["ok"]


def test_the_source_port_is_the_one_asked_for(loop: Loop) -> None:
    """And it works again at once, TIME_WAIT or not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = server.getsockname()[1]
    with listening(until_end, connections=2) as port:
        for _ in range(2):
            tape = play(loop, port, p.Connect(source_port=source), p.End())
            assert tape.fields("connected")["local"] == f"127.0.0.1:{source}"


@pytest.mark.parametrize("at", ["connected", "sent"])
def test_stop_ends_every_session(loop: Loop, at: str) -> None:
    """Stopped while it talks: a graceful end, `done stopped`."""
    with listening(until_end) as port:
        tape = play(loop, port, line("q"), hears("A"), stop_at=at)
    assert tape.outcomes == ["stopped"]
    assert tape.events[-2:] == ["closed", "done"]


def test_stop_gives_up_connecting(loop: Loop) -> None:
    """Stopped before its connection stands: no connection is left behind, and one `closed` all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        tape = play(loop, server.getsockname()[1], line("q"), hears("A"), stop_at="connecting")
    assert tape.events == ["connecting", "closed", "done"]
    assert tape.outcomes == ["stopped"]


def test_a_hundred_clients_have_a_hundred_ports(loop: Loop) -> None:
    """Each has its own connection, remote address and outcome."""

    def peer(endpoint: socket.socket) -> None:
        endpoint.sendall(endpoint.recv(100))
        until_end(endpoint)

    with listening(peer, connections=100) as port:
        tape = play(loop, port, line("{session}"), hears("{session}", within_s=8), p.End(), clients=100)
    assert tape.outcomes == ["ok"] * 100
    assert len({f["local"] for event, _, f in tape.records if event == "connected"}) == 100
