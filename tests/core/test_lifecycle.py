"""The lifecycle contract, over random scripts and random events: connect before data, one close, nothing after the end.

The network is a fake that keeps to the driver's contract and otherwise does what Hypothesis draws.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from midsession.checks.lifecycle import ALLOWED
from midsession.core import plan as p
from midsession.core.session import State
from tests.core.stage import Stage, hears, line, wait

_LEAF: list[p.Instruction] = [
    p.Connect(),
    p.Connect(port=9),
    line("a{n}"),
    p.Send(p.Payload(text="long"), slice_bytes=1, pause_s=0.1),
    hears("A", within_s=0.5),
    p.Expect(0.5, exact="A\n"),
    p.Expect(0.5, bytes=3),
    p.Expect(0.5, eof=True),
    p.Expect(0.5, reset=True),
    p.Expect(0.5, eof=True, drain=True),
    p.Expect(0.5, reset=True, drain=True),
    p.Expect(0.5, nothing=True),
    wait(0.3),
    p.Wait(signal="s"),
    p.Barrier("b"),
    p.Mark("m"),
    p.HalfClose(),
    p.End(within_s=0.5),
    p.Abort(),
    p.Read("never"),
    p.Read("normal"),
]


def _repeat(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        p.Repeat,
        st.lists(inner, min_size=1, max_size=4),
        times=st.one_of(st.none(), st.integers(0, 3)),
        until=st.one_of(st.none(), st.just("s")),
        for_s=st.one_of(st.none(), st.just(0.4)),
    )


scripts = st.lists(st.recursive(st.sampled_from(_LEAF), _repeat, max_leaves=6), min_size=1, max_size=6)
policies = st.one_of(st.none(), st.just(p.Reconnect(attempts=2)))
_PASSING = ("0.05", "0.6", "2")
_HAPPENINGS = ("connected", "refused", "A", "AA", "xyz", "eof", "reset", "closed", "drained", "s", "b", *_PASSING)
happenings = st.lists(st.sampled_from((*_HAPPENINGS, "stop")), max_size=40)


class Network:
    """Lets happen to a stage what can happen there: no data after the FIN, no event without a connection."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.ended = False
        self.seen: Counter[str] = Counter()

    def happen(self, what: str) -> None:
        stage, closing = self.stage, self.stage.state is State.CLOSING
        if what in ("connected", "refused"):
            if stage.connecting and not closing:
                self.ended = False
                getattr(stage, what)()
        elif what in ("eof", "A", "AA", "xyz"):
            if stage.open and not self.ended and stage.reading != "never":
                self.ended = what == "eof"
                stage.eof() if self.ended else stage.data(what.replace("A", "A\n"))
        elif what == "reset":
            if stage.open:
                stage.reset()
        elif what == "closed":
            if closing:
                stage.closed()
        elif what == "s":
            stage.signal("s")
        elif what == "b":
            stage.release("b")
        elif what in ("stop", "drained"):
            if what == "stop" or stage.open:
                getattr(stage, what)()
        else:
            stage.after(float(what))

    def end(self) -> None:
        """Stop the session, and let the network do its part until it is done."""
        self.stage.stop()
        for _ in range(10):
            if self.stage.outcome is None:
                self.stage.after(2.0)
                self.happen("closed")
        assert self.stage.outcome is not None


def check_contract(stage: Stage) -> None:
    """What must hold of every session's records."""
    events = stage.events()
    assert events[-1] == "done"
    assert events.count("done") == 1
    by_connection: dict[int, list[str]] = {}
    for event, connection, _ in stage.records:
        if connection is not None:
            by_connection.setdefault(connection, []).append(event)
    assert list(by_connection) == list(range(1, len(by_connection) + 1))
    for told in by_connection.values():
        state = "new"
        for event in told:
            state = state if event == "mark" else ALLOWED[state][event]
        assert state == "closed"
        assert told[0] == "connecting"
        assert told[-1] == "closed"
        assert told.count("closed") == 1
        assert told.count("end") <= 1
        assert told.count("lost") <= 1
        traffic = [at for at, event in enumerate(told) if event in ("sent", "received", "replied", "end")]
        if traffic:
            assert told[1] == "connected"
            assert traffic[0] > 1
        if "connected" not in told and stage.outcome != "stopped":
            assert told[1:] == ["error", "lost", "closed"]


@settings(max_examples=300, deadline=None)
@given(scripts, policies, happenings, st.booleans())
def test_every_session_keeps_the_lifecycle(
    script: list[p.Instruction], policy: p.Reconnect | None, events: list[str], full: bool
) -> None:
    """Whatever the script and whatever happens: the contract holds, and the session can always be ended."""
    stage = Stage(*script, on_loss=policy, write_full=full).begin()
    network = Network(stage)
    for what in events:
        if stage.outcome is None:
            network.happen(what)
    network.end()
    check_contract(stage)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40).map(lambda junk: junk.replace(b"\r", b"")), st.integers(0, 60), st.integers(0, 60))
def test_how_bytes_are_cut_changes_nothing(junk: bytes, one: int, two: int) -> None:
    """The same bytes in other reads meet the same expects and end the same way."""
    stream = b"A\n" + junk + b"\nA\n"
    a, b = sorted((min(one, len(stream)), min(two, len(stream))))
    told = []
    for pieces in ([stream], [stream[:a], stream[a:b], stream[b:]]):
        stage = Stage(line("q"), hears("A"), hears("A"), p.Expect(1, bytes=2)).begin().connected()
        for piece in pieces:
            if piece and stage.state is State.EXPECTING:
                stage.data(piece)
        told.append([event for event in stage.events() if event != "received"])
    assert told[0] == told[1]
