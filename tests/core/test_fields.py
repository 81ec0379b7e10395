"""What a `where` can ask for."""

from __future__ import annotations

import pytest

from midsession.core.fields import FIELDS, can_be, fields_of, known_words
from midsession.core.record import Event


def test_every_event_has_its_fields() -> None:
    """The table is total."""
    assert set(FIELDS) == set(Event)


def test_what_two_write_is_known_of_each() -> None:
    """And of both, where nobody says whose records are meant."""
    assert "n" not in fields_of(Event.SENT, "server")
    assert fields_of(Event.SENT, "client") == FIELDS[Event.SENT]
    assert (
        fields_of(Event.LISTENING, "server").keys() | fields_of(Event.LISTENING, "agent").keys()
        == FIELDS[Event.LISTENING].keys()
    )
    assert can_be(FIELDS[Event.ERROR]["how"], "slow")
    assert can_be(FIELDS[Event.ERROR]["how"], "refused")
    assert not can_be(fields_of(Event.ERROR, "client")["how"], "slow")
    assert fields_of(Event.EXITED, "server") == FIELDS[Event.EXITED]


def test_words_are_said_as_in_yaml() -> None:
    """True and false, too."""
    assert known_words(FIELDS[Event.MARK]["barrier"]) == ["true"]
    assert known_words(FIELDS[Event.LINE]["stream"]) == ["stderr", "stdout"]
    assert known_words(int) == []


@pytest.mark.parametrize(
    ("event", "key", "value", "possible"),
    [
        ("lost", "how", "eof", True),
        ("lost", "how", "eoff", False),
        ("reconnecting", "attempt", 1, True),
        ("reconnecting", "attempt", "1", False),
        ("reconnecting", "attempt", True, False),
        ("reconnecting", "delay_s", 1, True),
        ("closed", "had_error", True, True),
        ("closed", "had_error", 1, False),
        ("done", "outcome", "loost", False),
        ("mark", "barrier", True, True),
        ("mark", "barrier", False, False),
        ("mark", "barrier", 1, False),
        ("witnessed", "by", "queue", True),
        ("witnessed", "by", "query", True),
        ("injected", "mechanism", "netem", True),
        ("injected", "verb", "partition", False),
        ("healed", "overrun", 3, True),
        ("client_lost", "how", "eof", False),
    ],
)
def test_a_value_fits_its_field_or_not(event: str, key: str, value: object, possible: bool) -> None:
    """Words are closed, numbers are no text, and true is no number."""
    assert can_be(FIELDS[Event(event)][key], value) is possible
