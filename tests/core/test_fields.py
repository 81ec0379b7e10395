"""What a `where` can ask for."""

from __future__ import annotations

import pytest

from midsession.core.fields import FIELDS, can_be
from midsession.core.record import Event


def test_every_event_has_its_fields() -> None:
    """The table is total."""
    assert set(FIELDS) == set(Event)


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
    ],
)
def test_a_value_fits_its_field_or_not(event: str, key: str, value: object, possible: bool) -> None:
    """Words are closed, numbers are no text, and true is no number."""
    assert can_be(FIELDS[Event(event)][key], value) is possible
