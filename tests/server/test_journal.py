"""What people see: bounded, and harmless on a terminal."""

from __future__ import annotations

from midsession.core.showable import showable
from server.journal import LINES_PER_SECOND, Screen


def test_no_byte_of_a_peer_steers_the_terminal() -> None:
    """Every control character is shown as an escape; letters and emoji are shown as they are."""
    controls = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x202E, 0xD83D)]
    assert all(showable(control).isprintable() for control in controls)
    assert showable("Grüße 👩‍👩‍👧‍👦\x1b[31m\n") == "Grüße 👩‍👩‍👧‍👦\\x1b[31m\\n"


def test_traffic_lines_are_bounded_and_the_rest_is_counted() -> None:
    """At most so many lines a second; the next second says how many were left out, and nothing that matters is."""
    lines: list[str] = []
    now = [0]
    screen = Screen(lines.append, lambda: now[0])
    for number in range(LINES_PER_SECOND + 7):
        screen.chatter("line {}", number)
    assert len(lines) == LINES_PER_SECOND
    now[0] = 1_000_000_000
    screen.chatter("a second later")
    assert lines[-2:] == ["… 7 lines of traffic not shown", "a second later"]
