"""A session's life as transcripts: what happens to it, what it does, on a clock that moves when told."""

from __future__ import annotations

import pytest

from midsession.core import plan as p
from midsession.core.session import TABLE, Input, State
from tests.core.stage import Stage, hears, line, wait

BACKOFF = p.Reconnect(first_s=0.1, factor=2, max_s=1.0, attempts=3)
MET = ["connecting", "connect server:4000", "connected"]


def test_the_table_is_total() -> None:
    """Every state says what it does with every input."""
    assert set(TABLE) == set(State)
    assert all(len(row) == len(Input) for row in TABLE.values())
    assert all(callable(cell) for row in TABLE.values() for cell in row)


def test_a_conversation() -> None:
    """Connect first, record a send before its bytes, hear the reply, end gracefully, one close, one outcome."""
    stage = Stage(line("Hi from {client}, {n} 👋"), hears("Got {n} ✅"), p.End()).begin().connected()
    assert stage.news() == [*MET, "sent n=1", "write 'Hi from 7, 1 👋\\n'"]
    stage.after(0.002).data("Got 1 ✅\n")
    assert stage.news() == ["received", "replied n=1", "fin"]
    assert stage.records[-1][2] == {"n": 1, "text": "Got 1 ✅", "rtt_ns": 2_000_000}
    stage.eof().closed()
    assert stage.news() == ["end", "close", "closed had_error=False", "done outcome=ok"]
    assert stage.records[-2][2] == {"had_error": False, "bytes_in": 10, "bytes_out": 18, "ending_ns": stage.now}


def replies(stage: Stage) -> list[tuple[int, int]]:
    """Of each reply: the number of the send that it answers, and after how many milliseconds it came."""
    return [(f["n"], f["rtt_ns"] // 1_000_000) for event, _, f in stage.records if event == "replied"]


def write(text: str) -> p.Send:
    return p.Send(p.Payload(text=text, line=True), as_="write")


def hears_ok(text: str, operation: str = "write") -> p.Expect:
    return p.Expect(5, line=text, ok=operation)


def test_replies_answer_pipelined_sends_in_their_order() -> None:
    """A reply that took long is not taken for a quick one to the send after it."""
    script = [line("a"), wait(1), line("b"), hears("A"), hears("B"), line("c"), hears("C")]
    stage = Stage(*script).begin().connected().after(1).after(0.01).data("A\n").after(0.01).data("B\n")
    stage.after(0.002).data("C\n")
    assert replies(stage) == [(1, 1010), (2, 20), (3, 2)]


@pytest.mark.parametrize(
    ("script", "answered"),
    [
        ([line("a"), hears("x"), hears("x"), hears("x")], [1, 1, 1]),
        ([hears("x"), line("a"), hears("x")], [1]),
        ([line("a"), line("b"), line("c"), hears("x")], [3]),
        ([p.Repeat([line("say"), line("ask"), hears("x")], times=3)], [2, 4, 6]),
        ([p.Repeat([line("a")], times=3), p.Repeat([hears("x")], times=3)], [1, 2, 3]),
        ([line("a"), line("a"), p.Repeat([line("a"), hears("x")], times=2), hears("x"), hears("x")], [1, 2, 3, 4]),
        ([write("a"), write("b"), hears_ok("x"), hears_ok("x")], [1, 2]),
        ([write("a"), write("b"), hears_ok("x")], [1]),
        ([write("a"), line("b"), hears("x"), hears_ok("x")], [2, 1]),
        ([write("a"), write("b"), hears("x"), hears_ok("x"), hears("x"), hears_ok("x")], [1, 1, 2, 2]),
        ([write("a"), hears("x"), line("b"), hears_ok("x", "read")], [1, 2]),
        ([write("a"), hears_ok("x"), hears_ok("x")], [1, 1]),
        ([line("a"), line("b"), p.Expect(5, bytes=2), p.Expect(5, exact="x\n")], [1, 2]),
        ([line("a"), line("b"), p.Expect(0.1, nothing=True), hears("x"), hears("x")], [1, 2]),
    ],
)
def test_whose_answer_a_reply_is(script: list[p.Instruction], answered: list[int]) -> None:
    """The oldest send that waits for such an expect; of one without any, the last that was answered."""
    stage = Stage(*script).begin().connected()
    stage.after(0.1)
    for _ in range(6):
        stage.data("x\n")
    assert [n for n, _ in replies(stage)] == answered
    assert "protocol_error" not in stage.events()


def test_what_was_asked_on_a_lost_connection_is_not_answered_on_the_next() -> None:
    """The numbers go on, the debts do not."""
    stage = Stage(line("a"), line("b"), hears("x"), hears("x"), on_loss=BACKOFF).begin().connected().data("x\n")
    stage.reset().after(0.1).connected().data("x\nx\n")
    assert [n for n, _ in replies(stage)] == [1, 3, 4]


@pytest.mark.parametrize(
    ("script", "data", "n"),
    [
        ([line("a"), line("b"), hears("x"), hears("y")], "x\nz\n", 2),
        ([line("a"), line("b"), hears("x"), hears("y")], "", 1),
        ([line("a"), hears("x")], "half", 1),
        ([hears("x")], "z\n", None),
        ([line("a"), hears("x"), p.Expect(1, eof=True)], "x\n", None),
        ([line("a"), hears("x"), p.Expect(1, nothing=True)], "x\nx\n", None),
    ],
)
def test_a_broken_expect_says_which_send_has_got_no_answer(
    script: list[p.Instruction], data: str, n: int | None
) -> None:
    """Where it was to be an answer: a greeting, a FIN and silence are none."""
    stage = Stage(*script).begin().connected()
    if data:
        stage.data(data)
    stage.after(2)
    (error,) = [fields for event, _, fields in stage.records if event == "protocol_error"]
    assert error.get("n") == n


def test_a_script_without_an_end_ends_gracefully() -> None:
    """Running off the script's end is an `end`."""
    stage = Stage(line("bye")).begin().connected().eof().closed()
    assert stage.news()[-5:] == ["fin", "end", "close", "closed had_error=False", "done outcome=ok"]


@pytest.mark.parametrize(
    ("script", "ending_s"),
    [([line("a"), wait(2), p.End()], 2.0), ([wait(1), p.Abort()], 1.0), ([wait(1)], 1.0), ([wait(9)], None)],
)
def test_a_closed_connection_says_when_its_own_client_began_to_end_it(
    script: list[p.Instruction], ending_s: float | None
) -> None:
    """By `end`, `abort` or the end of the script; of one that was lost it says nothing."""
    stage = Stage(*script).begin().connected()
    connected_ns = stage.now
    stage.after(3)
    stage = stage.reset() if ending_s is None else stage.closed()
    (closed,) = [fields for event, _, fields in stage.records if event == "closed"]
    assert closed.get("ending_ns") == (None if ending_s is None else connected_ns + round(ending_s * 1e9))


@pytest.mark.parametrize("script", [[p.End(within_s=2)], []])
def test_a_peer_that_never_ends_is_a_protocol_error_in_time(script: list[p.Instruction]) -> None:
    """`end` waits for the peer's FIN as long as it says, and then says that it did not come; so does a script's end."""
    within_s = 2 if script else 10
    stage = Stage(*script, on_loss=BACKOFF).begin().connected()
    assert stage.after(within_s - 0.1).news() == [*MET, "fin"]
    stage.data("what it still has to say is no end")
    assert stage.after(0.1).news() == ["received", "protocol_error expected=eof got=None", "close"]
    assert stage.records[-1][2]["within_s"] == within_s
    assert stage.after(1.0).news() == ["abort"]
    assert stage.closed().news() == ["closed had_error=False", "done outcome=protocol_error"]


def test_what_came_with_the_fin_counts_before_the_loss() -> None:
    """Reply and FIN in one read: the reply is met, then the script's own end is under way: no loss."""
    stage = Stage(line("a"), hears("A"), p.End()).begin().connected().data("A\n").eof().closed()
    assert "lost" not in " ".join(stage.tape)
    assert stage.outcome == "ok"


@pytest.mark.parametrize("last", ["eof", "reset"])
def test_buffered_lines_satisfy_expects_after_fin_and_rst(last: str) -> None:
    """Three lines, then FIN or RST, while the client sleeps: all three are met, and only then is the loss judged."""
    stage = Stage(line("go"), wait(1), hears("1"), hears("2"), wait(1), hears("3"), wait(1)).begin().connected()
    stage.data("1\n2\n3\n")
    getattr(stage, last)()
    stage.after(3)
    if stage.open:
        stage.closed()
    events = stage.events()
    assert events.count("replied") == 3
    assert events.index("lost") > max(at for at, event in enumerate(events) if event == "replied")
    assert events[-2:] == ["closed", "done"]
    assert stage.outcome == "lost"


def test_a_last_line_without_its_end_is_a_line() -> None:
    """What follows the last line feed counts as a line once the peer has ended."""
    stage = Stage(hears("bye"), p.End()).begin().connected().data("bye")
    assert stage.state is State.EXPECTING
    stage.eof().closed()
    assert stage.outcome == "ok"


@pytest.mark.parametrize("last", ["eof", "reset"])
def test_a_loss_without_a_policy_ends_the_session(last: str) -> None:
    """FIN or RST in mid-conversation is a loss by its name, then one close, then `done lost`."""
    stage = Stage(line("a"), hears("A")).begin().connected()
    stage.news()
    getattr(stage, last)()
    if last == "eof":
        assert stage.news() == ["end", "lost how=eof", "close"]
        stage.closed()
        assert stage.news() == ["closed had_error=False", "done outcome=lost"]
    else:
        assert stage.news() == ["error how=reset", "lost how=reset", "closed had_error=True", "done outcome=lost"]


def test_refused_is_a_connection_that_failed() -> None:
    """An attempt that fails is a connection with error, lost and closed, and no crash."""
    stage = Stage(line("a")).begin().refused()
    failed = ["error how=refused", "lost how=refused", "closed had_error=True", "done outcome=lost"]
    assert stage.news() == ["connecting", "connect server:4000", *failed]


def test_reconnect_backs_off_and_gives_up() -> None:
    """Delays grow; after the attempts in a row the client gives up; every attempt has its own number."""
    stage = Stage(line("a"), on_loss=BACKOFF).begin().refused()
    for delay in (0.1, 0.2, 0.4):
        assert stage.tape[-1] == f"reconnecting attempt={stage.session.connection} delay_s={delay}"
        stage.after(delay - 0.001)
        assert not stage.connecting
        stage.after(0.001).refused()
    assert stage.news()[-2:] == ["gave_up attempts=3", "done outcome=gave_up"]
    assert {number for event, number, _ in stage.records if event == "closed"} == {1, 2, 3, 4}


def test_a_connection_that_is_made_starts_the_count_anew() -> None:
    """Two failures, a connection, another loss: the delay is the first one again."""
    stage = Stage(wait(9), on_loss=BACKOFF).begin().refused().after(0.1).refused().after(0.2).connected().reset()
    assert stage.tape[-1] == "reconnecting attempt=1 delay_s=0.1"


def test_a_reconnected_client_goes_on_in_its_innermost_repeat() -> None:
    """What stands before the repeat is not said again; rounds that were done stay done."""
    repeat = p.Repeat(times=3, script=[line("round {n}"), hears("ok")])
    stage = Stage(line("hello"), hears("welcome"), repeat, on_loss=BACKOFF).begin().connected()
    stage.data("welcome\n").data("ok\n").reset().after(0.1).connected()
    assert stage.tape[-1] == "write 'round 4\\n'"
    stage.data("ok\n").data("ok\n").eof().closed()
    assert stage.written == b"hello\nround 2\nround 3\nround 4\nround 5\n"
    assert stage.outcome == "ok"


def test_a_reconnected_client_without_repeat_starts_its_script_again() -> None:
    """And a `connect` that stands first is the reconnection itself, not another one."""
    script = (p.Connect(host="other", port=1), line("hello"), hears("welcome"))
    stage = Stage(*script, on_loss=BACKOFF).begin().connected().reset().after(0.1)
    assert stage.tape[-1] == "connect other:1"
    stage.connected()
    assert stage.tape[-1] == "write 'hello\\n'"
    assert stage.session.connection == 2


def test_an_expected_fin_is_no_loss() -> None:
    """With `expect: eof` ahead the FIN is kept for it, and sends after it are legal (half-open, both ways)."""
    stage = Stage(hears("Hello"), p.Expect(1, eof=True), wait(2), line("still here"), p.End()).begin().connected()
    stage.data("Hello\n").eof().after(2).closed()
    assert stage.news()[len(MET) :] == [
        "received",
        "end",
        "sent n=1",
        "write 'still here\\n'",
        "fin",
        "close",
        "closed had_error=False",
        "done outcome=ok",
    ]


def test_a_fin_that_came_early_is_remembered() -> None:
    """The FIN comes while the client waits and still writes; `expect: eof` finds it."""
    stage = Stage(wait(1), line("a"), p.HalfClose(), p.Expect(1, eof=True)).begin().connected().eof().after(1).closed()
    assert stage.outcome == "ok"
    assert "lost" not in stage.events()


def test_a_remembered_fin_is_judged_where_it_makes_an_expect_hopeless() -> None:
    """`expect: eof` is ahead, but first a line must come that cannot come any more: lost, not silence."""
    stage = Stage(line("a"), hears("A"), p.Expect(1, eof=True)).begin().connected().eof().closed()
    assert stage.outcome == "lost"
    assert "lost how=eof" in stage.tape


def test_an_expected_rst_is_no_loss() -> None:
    """`expect: reset` is met by the RST, early or late; the connection closed with an error all the same."""
    late = Stage(p.Expect(1, reset=True)).begin().connected().reset()
    early = Stage(wait(1), p.Expect(1, reset=True)).begin().connected().reset().after(1)
    for stage in (late, early):
        assert stage.news() == [*MET, "error how=reset", "closed had_error=True", "done outcome=ok"]


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("early", [False, True])
def test_bytes_before_an_expected_end_are_a_protocol_error(end: str, early: bool) -> None:
    """The end is to come next; whatever else comes, while it is waited for or before, breaks that promise."""
    expect = p.Expect(1, eof=end == "eof", reset=end == "reset")
    stage = Stage(*([wait(1)] if early else []), expect).begin().connected().data("not yet")
    getattr(stage, end)() if early else None
    stage.after(1)
    assert f"protocol_error expected={end} got=not yet" in stage.tape
    assert "lost" not in stage.events()


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("early", [False, True])
def test_bytes_before_an_expected_end_can_be_passed_over(end: str, early: bool) -> None:
    """Where the script says so, however many they are; nothing is held of them, and nobody stops reading."""
    expect = p.Expect(1, eof=end == "eof", reset=end == "reset", drain=True)
    stage = Stage(*([wait(1)] if early else []), expect).begin().connected()
    for _ in range(4):
        stage.data(b"x" * 50_000)
    assert stage.reading == "normal"
    getattr(stage, end)()
    stage.after(1)
    if stage.open:
        stage.closed()
    assert stage.outcome == "ok"


def test_a_broken_pipe_after_the_fin_is_that_fin() -> None:
    """EOF seen, the second send meets EPIPE: lost by eof, for that is how the peer went."""
    sends = p.Repeat(times=9, script=[line("x"), wait(1)])
    stage = Stage(sends, p.Expect(1, eof=True)).begin().connected().eof().after(1).broken_pipe().after(20)
    assert "error how=eof" in stage.tape
    assert stage.outcome == "ok", "it was remembered for the expect, and the sends went nowhere"


def test_a_broken_pipe_without_fin_is_a_reset() -> None:
    """No EOF was seen: the RST that made the pipe break is how it was lost."""
    stage = Stage(line("x"), wait(1)).begin().connected().broken_pipe()
    assert "lost how=reset" in stage.tape


def test_other_bytes_are_a_protocol_error() -> None:
    """It says what was expected and what came, and the session ends there, whatever its policy."""
    stage = Stage(line("a"), hears("A", within_s=2), on_loss=BACKOFF).begin().connected().data("B\n").closed()
    error = 'protocol_error expected=line "A" got=B n=1'
    assert stage.news()[-4:] == [error, "close", "closed had_error=False", "done outcome=protocol_error"]


def test_silence_is_a_protocol_error_in_time() -> None:
    """Not before `within`, and at it; what came by then is told, or that nothing came."""
    stage = Stage(line("a"), hears("A", within_s=2)).begin().connected().after(1.999)
    assert stage.state is State.EXPECTING
    stage.after(0.001)
    assert stage.tape[-2:] == ['protocol_error expected=line "A" got=None n=1', "close"]


def test_a_deadline_belongs_to_its_own_expect() -> None:
    """A reply in time moves the deadline on: the wake-up for the first expect does not end the second."""
    stage = Stage(line("a"), hears("A"), hears("B", within_s=5)).begin().connected().after(0.5).data("A\n").after(4.9)
    assert stage.state is State.EXPECTING
    assert stage.after(0.2).tape[-1] == "close"


@pytest.mark.parametrize(
    ("expect", "good", "bad"),
    [
        (p.Expect(1, line="a{client}"), b"a7\r\n", b"a8\n"),
        (p.Expect(1, contains="👋"), "Hi 👋!\n".encode(), b"Hi\n"),
        (p.Expect(1, glob="Got * ?"), "Got it ✅\n".encode(), b"got it x\n"),
        (p.Expect(1, regex=r"^id=\d{3}$"), b"id=123\n", b"id=1234\n"),
        (p.Expect(1, exact="ab\n{n}"), b"ab\n1", b"ac"),
        (p.Expect(1, hex="00ff"), b"\x00\xff", b"\x00\xfe"),
        (p.Expect(1, bytes=3), b"\x00\xff\n", None),
    ],
)
def test_each_matcher_takes_its_own_and_nothing_else(expect: p.Expect, good: bytes, bad: bytes | None) -> None:
    """Right bytes meet it whatever the cut, wrong ones are a protocol error."""
    for cut in range(1, len(good)):
        stage = Stage(line("q"), expect, wait(1)).begin().connected().data(good[:cut]).data(good[cut:])
        assert stage.state is State.PAUSING, cut
        assert "replied" in stage.events()
    if bad is not None:
        assert "protocol_error" in Stage(line("q"), expect).begin().connected().data(bad).events()


def test_nothing_is_met_by_silence_and_broken_by_a_byte() -> None:
    """No byte for the whole time; one byte, even one that came before, is too much."""
    assert Stage(p.Expect(1, nothing=True), wait(1)).begin().connected().after(1).state is State.PAUSING
    assert "protocol_error" in Stage(p.Expect(1, nothing=True)).begin().connected().data("x").events()
    early = Stage(wait(1), p.Expect(1, nothing=True)).begin().connected().data("x").after(1)
    assert "protocol_error" in early.events()


def test_a_count_larger_than_the_buffer_is_counted_not_held() -> None:
    """A megabyte in pieces; what follows it is the next message."""
    stage = Stage(p.Expect(1, bytes=1_000_000), hears("end")).begin().connected()
    for _ in range(100):
        stage.data(b"x" * 10_000)
    assert stage.state is State.EXPECTING
    assert stage.data("end\n").tape[-1] == "fin"


def test_a_line_without_end_is_a_protocol_error() -> None:
    """A peer that never ends its line cannot fill the memory."""
    stage = Stage(hears("x")).begin().connected().data(b"y" * 40_000).data(b"y" * 40_000)
    assert "protocol_error" in stage.events()


def test_a_line_that_is_too_long_is_one_however_it_comes() -> None:
    """In one read with its end, too."""
    longest = "y" * (64 * 1024)
    for text, met in ((longest, True), (longest + "y", False)):
        for cut in (0, 40_000):
            stage = Stage(p.Expect(1, contains="y"), wait(1)).begin().connected()
            if cut:
                stage.data(text[:cut])
            stage.data(text[cut:] + "\n")
            assert (stage.state is State.PAUSING) is met


def test_a_client_that_hears_too_much_ahead_stops_reading() -> None:
    """TCP's own backpressure, not memory; reading goes on when an expect needs more."""
    stage = Stage(wait(1), p.Expect(1, bytes=100_000), wait(1)).begin().connected().data(b"x" * 70_000)
    assert stage.reading == "never"
    assert stage.after(1).reading == "normal"
    assert stage.data(b"x" * 30_000).state is State.PAUSING


def test_waits_end_by_time_or_signal() -> None:
    """A signal that was raised before counts; another one does not."""
    stage = Stage(p.Wait(signal="on"), wait(1), p.Wait(signal="on"), p.Mark("through")).begin().connected()
    assert stage.signal("off").state is State.AWAITING
    assert stage.signal("on").state is State.PAUSING
    assert stage.after(1).events()[-1] == "mark"


def test_a_barrier_is_told_and_released_by_name() -> None:
    """The `mark` says that it is a barrier; only its own release lets the client on."""
    stage = Stage(p.Barrier("ready"), p.Mark("through")).begin().connected()
    assert stage.tape[-1] == "mark name=ready barrier=True"
    assert stage.release("other").state is State.AT_BARRIER
    assert "mark name=through" in stage.release("ready").tape


def test_repeat_ends_by_rounds_signal_or_time() -> None:
    """The first of them; a signal or the time is looked at between rounds, and before the first."""
    by_rounds = Stage(p.Repeat([line("x")], times=3)).begin().connected()
    assert by_rounds.written == b"x\n" * 3
    by_signal = Stage(p.Repeat([line("x"), wait(1)], until="stop")).begin().connected().after(1.5).signal("stop")
    assert by_signal.after(0.4).state is State.PAUSING
    assert by_signal.after(0.1).written == b"x\n" * 2
    by_time = Stage(p.Repeat([line("x"), wait(1)], for_s=2.5)).begin().connected().after(10)
    assert by_time.written == b"x\n" * 3
    never = Stage(p.Repeat([line("x")], times=0)).begin().connected()
    assert never.written == b""


def silent_rounds() -> list[list[p.Instruction]]:
    """Bodies of a `repeat` that end their connection without ever writing to it."""
    nothing = p.Expect(0.1, nothing=True)
    return [[wait(0.05), p.End()], [p.End()], [nothing, p.Abort()], [p.Expect(1, eof=True), p.End()]]


@pytest.mark.parametrize("body", silent_rounds())
def test_each_round_has_a_connection_of_its_own(body: list[p.Instruction]) -> None:
    """A round that has ended its connection is followed by one on another, whatever its first step is."""
    stage = Stage(p.Repeat(body, times=3)).begin()
    rounds = 0
    while stage.outcome is None:
        stage.connected().after(0.2)
        if stage.open and stage.state is not State.CLOSING:
            stage.eof()
        stage.closed()
        rounds += 1
    assert rounds == 3
    assert stage.outcome == "ok"
    assert [number for event, number, _ in stage.records if event == "connected"] == [1, 2, 3]


def test_each_round_goes_where_the_first_went() -> None:
    """To the place to which the client was connected when it came to the repeat, wherever it was in between."""
    body = [line("x"), p.End(), p.Connect(port=5000), p.Abort()]
    stage = Stage(p.Connect(host="other"), p.Repeat(body, times=2)).begin()
    while stage.outcome is None:
        stage.connected()
        if stage.state is State.ENDING:
            stage.eof()
        stage.closed()
    places = [what for what in stage.tape if what.startswith("connect ")]
    assert places == ["connect other:4000", "connect server:5000"] * 2


def test_a_repeat_of_repeats_connects_once_a_round() -> None:
    """The inner rounds and the outer ones need one connection each, and a `connect` that stands first makes it."""
    for first in ([], [p.Connect()]):
        stage = Stage(p.Repeat([p.Repeat([*first, p.Abort()], times=2)], times=2)).begin()
        rounds = 0
        while stage.outcome is None:
            assert stage.connected().tape[-1] == "rst"
            stage.closed()
            rounds += 1
        assert rounds == stage.session.connection == 4


def test_rounds_without_a_connection_stay_without() -> None:
    """Nothing was connected when the repeat began: nobody asked for a connection."""
    stage = Stage(p.Abort(), p.Repeat([p.Mark("m"), wait(1)], times=3)).begin().connected().closed().after(3)
    assert stage.events().count("mark") == 3
    assert stage.events().count("connecting") == 1
    assert stage.outcome == "ok"


def test_an_end_belongs_to_its_connection() -> None:
    """The FIN of a connection that is closed meets no later expect."""
    script = (p.Connect(), p.Expect(1, eof=True), p.End(), p.Expect(1, eof=True))
    stage = Stage(*script).begin().connected().eof().closed()
    assert stage.tape[-2:] == ["protocol_error expected=eof got=None", "done outcome=protocol_error"]


def test_a_session_that_starts_again_starts_where_it_started() -> None:
    """Lost at another place, without a repeat: the script goes on from its start, and so at the group's own place."""
    script = (line("a"), p.End(), p.Connect(host="other"), wait(9))
    stage = Stage(*script, on_loss=BACKOFF).begin().connected().eof().closed().connected().reset().after(0.1)
    assert stage.tape[-1] == "connect server:4000"


def test_nested_repeats_count_their_own_rounds() -> None:
    """Two rounds of (three of x, one of y)."""
    inner = p.Repeat([p.Send(p.Payload(text="x"))], times=3)
    stage = Stage(p.Repeat([inner, p.Send(p.Payload(text="y"))], times=2)).begin().connected()
    assert stage.written == b"xxxyxxxy"


def test_a_script_that_never_waits_gives_way() -> None:
    """An endless loop without a wait lets other sessions run, and can still be signalled."""
    stage = Stage(p.Repeat([p.Mark("m")], until="stop")).begin().connected()
    assert stage.state is State.YIELDED
    assert stage.signal("stop").after(0.0).tape[-1] == "fin"


def test_slices_leave_with_their_pauses() -> None:
    """One `sent`, many writes; the last slice may be shorter; the pause stands between them only."""
    stage = Stage(p.Send(p.Payload(text="👋!"), slice_bytes=2, pause_s=1), wait(9)).begin().connected()
    assert stage.written == "👋".encode()[:2]
    assert stage.after(0.999).written == "👋".encode()[:2]
    stage.after(1.001)
    assert stage.written == "👋!".encode()
    assert stage.state is State.PAUSING
    assert stage.events().count("sent") == 1


def test_a_full_write_buffer_holds_the_script() -> None:
    """The next step waits until the buffer has drained: a peer that does not read slows its client down."""
    stage = Stage(line("a"), line("b"), write_full=True).begin().connected()
    assert stage.written == b"a\n"
    assert stage.state is State.FLUSHING
    assert stage.drained().written == b"a\nb\n"


def test_half_close_sends_fin_and_still_hears() -> None:
    """FIN once; lines are heard after it; the end does not send another."""
    stage = Stage(line("q"), p.HalfClose(), hears("A"), p.Expect(1, eof=True), p.End()).begin().connected()
    stage.data("A\n").eof().closed()
    assert stage.tape.count("fin") == 1
    assert stage.outcome == "ok"


def test_a_send_after_the_own_fin_is_an_error_of_this_end() -> None:
    """The kernel would say EPIPE; the record does."""
    stage = Stage(p.HalfClose(), line("x")).begin().connected().closed()
    assert "lost how=aborted" in stage.tape
    assert stage.written == b""


def test_abort_resets_and_the_script_goes_on() -> None:
    """An RST of our own is no error; what needs a connection afterwards makes a new one."""
    stage = Stage(line("a"), p.Abort(), line("b")).begin().connected()
    assert stage.tape[-1] == "rst"
    stage.closed()
    assert stage.tape[-3:] == ["closed had_error=False", "connecting", "connect server:4000"]
    assert stage.connected().written == b"a\nb\n"


def test_a_second_connect_closes_the_first() -> None:
    """`connect` opens a new connection; the old one gets its own `closed` first."""
    stage = Stage(p.Connect(), p.Connect(port=5000)).begin().connected()
    assert stage.tape[-1] == "close"
    assert stage.closed().tape[-3:] == ["closed had_error=False", "connecting", "connect server:5000"]


def test_reading_policies_are_carried_over() -> None:
    """`read` acts at once, and on the next connection too."""
    stage = Stage(p.Read("never"), p.Repeat([wait(1)], times=9), on_loss=BACKOFF).begin().connected()
    assert stage.reading == "never"
    stage.reset()
    stage.reading = "normal"
    assert stage.after(0.1).connected().reading == "never"


def test_waits_are_drawn_from_the_clients_own_key() -> None:
    """The same key waits the same, within the span."""
    waits = []
    for _ in range(2):
        stage = Stage(p.Wait(span=p.Span(1, 2))).begin().connected()
        assert stage.wake is not None
        waits.append(stage.wake - stage.now)
    assert waits[0] == waits[1]
    assert 1e9 <= waits[0] <= 2e9


def test_random_payloads_are_drawn_from_key_and_number() -> None:
    """As long as asked, the same again with the same key, another one for the next send."""
    one, two = (Stage(*[p.Send(p.Payload(random_bytes=50))] * 2).begin().connected().written for _ in range(2))
    assert one == two
    assert len(one) == 100
    assert one[:50] != one[50:]


@pytest.mark.parametrize("where", ["new", "connecting", "backoff", "expecting", "ending", "closing"])
def test_stop_ends_gracefully_wherever_the_session_is(where: str) -> None:
    """One `done stopped`, with FIN and close where there is a connection."""
    stage = Stage(line("a"), hears("A"), p.End(), on_loss=BACKOFF)
    if where != "new":
        stage.begin()
    if where == "backoff":
        stage.refused()
    if where in ("expecting", "ending", "closing"):
        stage.connected()
    if where in ("ending", "closing"):
        stage.data("A\n")
    if where == "closing":
        stage.eof()
    stage.stop()
    if stage.open and where != "closing":
        assert "fin" in stage.tape
        stage.eof()
    if stage.open or stage.connecting:
        stage.closed()
    assert stage.outcome == "stopped"
    assert stage.events().count("done") == 1
    assert "lost" not in stage.events() or where == "backoff"


def test_a_peer_that_is_silent_does_not_hold_up_the_stop() -> None:
    """After the grace the connection is closed, and a close that hangs is aborted."""
    stage = Stage(hears("x", within_s=60)).begin().connected().stop().after(2)
    assert stage.tape[-3:] == ["fin", "close", "abort"]
