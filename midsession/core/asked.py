"""Questions that no record could answer: a typing mistake finds nothing, and nothing may be what was hoped for.

So they are refused, as the language refuses them, with what there is (`core/fields.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from midsession.core.fields import FIELDS, NOUNS, can_be, known_words
from midsession.core.record import Event
from midsession.core.wrong import did_you_mean, quoted


def event_called(word: str) -> Event:
    """The event. Raises ValueError for a word that is none."""
    try:
        return Event(word)
    except ValueError:
        raise ValueError(f"there is no event {quoted(word)}; {did_you_mean(str(word), Event)}") from None


def refuse_name(what: str, name: str, known: Collection[str]) -> None:
    """Raises ValueError for a name that is not among those that are known."""
    if name not in known:
        raise ValueError(f"there is no {what} {quoted(name)}; {did_you_mean(str(name), known)}")


def is_field(events: Sequence[Event], field: str) -> bool:
    """Whether one of the events has it at least; where no events are named, any."""
    return any(field in FIELDS[event] for event in events or FIELDS)


def refuse_field(events: Sequence[Event], field: str) -> None:
    """Raises ValueError for a field that none of the events has."""
    if not is_field(events, field):
        known = {key for event in events or FIELDS for key in FIELDS[event]}
        raise ValueError(f"{_said(events)} no field {quoted(field)}; {did_you_mean(field, known)}")


def refuse_value(events: Sequence[Event], field: str, value: object) -> None:
    """Raises ValueError for a value that the field has in none of the events. Any field may be null."""
    kinds = [FIELDS[event][field] for event in events or FIELDS if field in FIELDS[event]]
    if value is None or not kinds or any(can_be(kind, value) for kind in kinds):
        return
    words = sorted({word for kind in kinds for word in known_words(kind)})
    near = did_you_mean(value, words) if isinstance(value, str) and words else _types(kinds, words)
    raise ValueError(f"the field {quoted(field)} is never {quoted(value)}; {near}")


def _said(events: Sequence[Event]) -> str:
    names = [f"'{event}'" for event in events]
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}" if names else "there is"


def _types(kinds: Iterable[Any], words: Sequence[str]) -> str:
    nouns = dict.fromkeys(NOUNS[kind] for kind in kinds if isinstance(kind, type))
    return f"it is {' or '.join([*words, *nouns])}"
