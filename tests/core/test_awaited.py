"""Which sends of a script are waited for: what is worked out at once is what walking backwards step by step finds."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from midsession.core import plan as p
from midsession.core.awaited import awaited, operations

SEND, EXPECT = p.Send(p.Payload(text="x")), p.Expect(1, line="y")
WRITE, ACKNOWLEDGED = p.Send(p.Payload(text="x"), as_="write"), p.Expect(1, line="y", ok="write")
NO_ANSWER = [p.Expect(1, eof=True), p.Expect(1, nothing=True), p.Mark("m")]

STEPS = st.sampled_from([SEND, SEND, EXPECT, EXPECT, p.Connect(), *NO_ANSWER])
SCRIPTS: st.SearchStrategy[list[p.Instruction]] = st.recursive(
    st.lists(STEPS, max_size=6),
    lambda inner: st.lists(
        st.one_of(STEPS, st.builds(lambda script, times: p.Repeat(script, times=times), inner, st.integers(0, 4))),
        max_size=5,
    ),
    max_leaves=4,
)


def walk(script: list[p.Instruction], owed: int, waited: dict[tuple[int, ...], bool], path: tuple[int, ...]) -> int:
    """Backwards through every round of every repeat, one step at a time."""
    for at in reversed(range(len(script))):
        step = script[at]
        if isinstance(step, p.Repeat):
            for _ in range(step.times or 0):
                owed = walk(step.script, owed, waited, (*path, at))
        elif step is SEND:
            waited[*path, at] = waited.get((*path, at), False) or owed > 0
            owed = max(0, owed - 1)
        elif step is EXPECT:
            owed += 1
        elif isinstance(step, p.Connect):
            owed = 0
    return owed


def sends(script: list[p.Instruction], path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    found = []
    for at, step in enumerate(script):
        if isinstance(step, p.Repeat):
            found += sends(step.script, (*path, at))
        elif step is SEND:
            found.append((*path, at))
    return found


@given(SCRIPTS)
def test_loops_are_worked_out_without_walking_through_them(script: list[p.Instruction]) -> None:
    """A send is waited for when it is in one of its rounds; in a repeat without rounds nobody asks."""
    waited: dict[tuple[int, ...], bool] = {}
    walk(script, 0, waited, ())
    said = dict(zip(sends(script), awaited(script), strict=True))
    assert {path: said[path] for path in waited} == waited


def test_a_repeat_that_a_signal_ends_may_go_on_for_ever_or_never_begin() -> None:
    """So everything that an expect could be left for is waited for."""
    asks, hears = p.Repeat([SEND], until="stop"), p.Repeat([EXPECT], until="stop")
    assert awaited([asks, hears]) == [True]
    assert awaited([SEND, SEND, asks, EXPECT, EXPECT]) == [True, True, True]
    assert awaited([SEND, p.Repeat([SEND, EXPECT], until="stop"), EXPECT]) == [True, True]
    assert awaited([p.Repeat([SEND, SEND, EXPECT], until="stop")]) == [False, True]


def test_operations_that_a_script_sends_and_expects_name_each_other() -> None:
    """Others are like any send and any expect."""
    assert operations([p.Repeat([WRITE], times=2), ACKNOWLEDGED]) == {"write"}
    assert operations([WRITE, EXPECT]) == operations([SEND, ACKNOWLEDGED]) == frozenset()
    assert awaited([WRITE, SEND, ACKNOWLEDGED]) == [True, False]
    assert awaited([WRITE, SEND, EXPECT]) == [False, True]


def test_a_thousand_million_rounds_in_each_other_take_no_time() -> None:
    """A scenario that says so is planned as quickly as any."""
    script: list[p.Instruction] = [SEND, EXPECT, EXPECT]
    for _ in range(20):
        script = [SEND, p.Repeat(script, times=10**9), SEND]
    before = time.process_time()
    assert awaited(script) == [True] * 40 + [False]
    assert time.process_time() - before < 1
