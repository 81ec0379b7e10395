"""Whatever a peer sends, what people see shows it and does nothing else."""

from __future__ import annotations

import unicodedata

import pytest

from midsession.core.record import Event, Record
from midsession.report.text import count, duration, phrase, reference, some, visible

ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_every_character_of_unicode_shows_or_is_escaped() -> None:
    """No control, format, surrogate, private or unassigned character passes, but the joiner of emoji."""
    passed = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) in ACTING and chr(n) in visible(chr(n))]
    assert passed == ["\u200d"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Got your message ✅ 👨‍👩‍👧 é", "Got your message ✅ 👨‍👩‍👧 é"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x1b]52;c;aGk=\x07", "\\x1b[2J\\x1b]52;c;aGk=\\x07"),
        ("\x9b31m\x00", "\\x9b31m\\x00"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("\ud83d", "\\ud83d"),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_what_acts_on_a_display_is_shown_as_an_escape(raw: object, shown: str) -> None:
    """Controls, OSC and CSI in both forms, bidi overrides and lone surrogates; everything else stays itself."""
    assert visible(raw) == shown


def test_long_texts_are_cut_with_a_sign() -> None:
    """What is shown is bounded."""
    assert visible("x" * 10, 4) == "xxxx…"
    assert visible("xxxx", 4) == "xxxx"


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0 ns"),
        (380, "380 ns"),
        (4_213_000, "4.21 ms"),
        (999_999_999, "1.00 s"),
        (12_345_678_901, "12.3 s"),
        (192_000_000_000, "3 min 12 s"),
        (-1_500, "-1.50 µs"),
        (156_000_000, "156 ms"),
    ],
)
def test_durations_have_three_digits_and_a_unit(ns: int, shown: str) -> None:
    """As people write them."""
    assert duration(ns) == shown


def test_lists_say_how_many_they_leave_out() -> None:
    """Nothing is dropped without a word."""
    assert some(["a"]) == "a"
    assert some(["a", "b", "c"]) == "a, b and c"
    assert some([f"c{n}" for n in range(9)], limit=2) == "c0, c1 and 7 more"
    assert some(["a", "b"], of=50) == "a, b and 48 more"
    assert count(1, "client") == "1 client"
    assert count(1200, "reply", "replies") == "1,200 replies"


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize(
    "fields", [{}, {"n": None, "by": [], "fault": {}}, {"text": "\x1b[31m", "how": "\x1b", "by": 3}]
)
def test_a_phrase_for_every_event_and_any_fields(event: Event, fields: dict[str, object]) -> None:
    """A record with missing or strange fields is still shown, and shown safely."""
    assert "\x1b" not in phrase(Record(event, 1, 0, fields=fields))


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ({"client": "talkers-1", "event": "replied"}, "talkers-1 replied"),
        ({"client": "drivers-2", "event": "line"}, "drivers-2 said a line"),
        ({"host": "server", "event": "witnessed"}, "server saw it at work"),
        ({"host": "server", "event": "listening"}, "server listening"),
        ({"host": "server", "event": "listening", "by": "line"}, "server said its ready line"),
        ({}, "?"),
    ],
)
def test_a_record_that_is_named_by_another_is_a_sentence(ref: dict[str, str], shown: str) -> None:
    """Who, and what it did, whether the event is a verb of its own or not."""
    assert reference(ref) == shown


@pytest.mark.parametrize(
    ("got", "shown"),
    [
        ("stale hi 13", 'expected line "hi", got “stale hi 13”'),
        (None, 'expected line "hi", got nothing within 1.5 s'),
        ("", 'expected line "hi", got “”'),
    ],
)
def test_an_expect_that_is_not_met_says_what_came(got: str | None, shown: str) -> None:
    """As a quotation; the time counts where nothing came in it."""
    fields = {"expected": 'line "hi"', "got": got, "within_s": 1.5}
    assert phrase(Record(Event.PROTOCOL_ERROR, 1, 0, fields=fields)) == shown
