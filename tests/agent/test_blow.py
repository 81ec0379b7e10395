"""What a program ended by: signals sent and an exit in, the blow out; no process."""

from __future__ import annotations

import pytest

from midsession.agent.blow import Blow, Exit, blame, cause

SECOND = 1_000_000_000
TERM, HUP, KILL = Blow("TERM", "ask", 0), Blow("HUP", "reload", 0), Blow("KILL", "crash", 0)
STOP = Blow("TERM", "stop")

ENDINGS: list[tuple[list[Blow], int | None, str | None, Blow | None]] = [
    # It dies of what it was sent.
    ([TERM], None, "TERM", TERM),
    ([HUP], None, "HUP", HUP),
    ([KILL], None, "KILL", KILL),
    ([TERM, KILL], None, "KILL", KILL),
    ([TERM, KILL], None, "TERM", TERM),
    ([Blow("USR1", "poke")], None, "USR1", Blow("USR1", "poke")),
    ([TERM, Blow("TERM", "again")], None, "TERM", Blow("TERM", "again")),
    # It catches what it was sent, and exits with a code.
    ([TERM], 0, None, TERM),
    ([TERM], 3, None, TERM),
    ([Blow("ABRT", "x")], 2, None, Blow("ABRT", "x")),
    ([TERM, Blow("CONT", "")], 0, None, TERM),
    ([TERM, KILL], 0, None, TERM),
    ([HUP], 0, None, HUP),
    # A code that tells of a signal.
    ([TERM], 143, None, TERM),
    ([HUP], 129, None, HUP),
    ([TERM], 255, None, TERM),
    # It goes by itself.
    ([], 0, None, None),
    ([], None, "SEGV", None),
    ([HUP], None, "SEGV", None),
    ([TERM], None, "SEGV", None),
    ([TERM], None, "KILL", None),
    ([TERM, HUP], None, "ABRT", None),
    ([HUP], 1, None, None),
    ([HUP], 139, None, None),
    ([TERM], 139, None, None),
    ([KILL], 0, None, None),
    ([Blow("USR1", "poke")], 7, None, None),
    # The last one that can be.
    ([TERM, HUP], 1, None, TERM),
    ([TERM, HUP], 0, None, HUP),
]


@pytest.mark.parametrize(("blows", "code", "died_of", "blow"), ENDINGS)
def test_a_program_ends_by_what_it_was_sent_or_by_itself(
    blows: list[Blow], code: int | None, died_of: str | None, blow: Blow | None
) -> None:
    """By a death of that very signal, or by a code that can be its answer; else no step has done it."""
    assert cause(blows, Exit(code, died_of, SECOND)) == blow


LATE: list[tuple[list[Blow], int | None, str | None, dict[str, object]]] = [
    ([TERM], 1, None, {"by": None, "maybe": "ask"}),
    ([Blow("INT", "ask", 0)], 1, None, {"by": None, "maybe": "ask"}),
    ([TERM, Blow("CONT", "", 0)], 3, None, {"by": None, "maybe": "ask"}),
    ([Blow("TERM", "", 0)], 1, None, {"by": None}),
    # What tells of itself needs no clock.
    ([TERM], 0, None, {"by": "ask"}),
    ([TERM], 143, None, {"by": "ask"}),
    ([TERM], None, "TERM", {"by": "ask"}),
    ([TERM], None, "SEGV", {"by": None}),
    ([HUP], 1, None, {"by": None}),
    # Where SIGKILL bounds the time, all of it is there to be taken.
    ([STOP], 1, None, {"by": "stop"}),
    ([STOP, TERM], 1, None, {"by": "stop"}),
    ([TERM, Blow("TERM", "again", 10 * SECOND)], 1, None, {"by": "again"}),
]


@pytest.mark.parametrize(("blows", "code", "died_of", "told"), LATE)
def test_a_code_that_comes_late_may_be_that_of_a_crash(
    blows: list[Blow], code: int | None, died_of: str | None, told: dict[str, object]
) -> None:
    """Of a program that has survived the signal, unless it was given that time."""
    assert blame(blows, Exit(code, died_of, 11 * SECOND)) == told


def test_who_ended_it_is_told() -> None:
    """The step; or that its end was asked for by none; or nobody."""
    assert blame([TERM], Exit(0, None, 1)) == {"by": "ask"}
    assert blame([Blow("TERM", "")], Exit(0, None, 1)) == {"by": None, "stopped": True}
    assert blame([TERM], Exit(None, "SEGV", 1)) == {"by": None}
