"""`docs/records.md` names every event and every field, and no other."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from midsession.core.fields import FIELDS, known_words
from midsession.core.record import Event

PAGE = Path(__file__).parents[2] / "docs" / "records.md"
PAYLOAD = {"bytes", "text", "hash"}


def rows() -> dict[str, str]:
    """What the tables say of the fields of each event, all its rows together."""
    text = PAGE.read_text()
    tables = re.findall(r"^\| event \| when \| fields \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    said: defaultdict[str, str] = defaultdict(str)
    for row in (row for table in tables for row in table.splitlines()):
        _, event, _, fields, _ = row.split("|")
        said[event.strip().strip("`")] += re.sub(r"\[.*?\]\(.*?\)", "", fields)
    measured = re.search(r"^What was measured of an impaired link: .*\n.*", text, re.MULTILINE)
    assert measured is not None
    return {event: fields.replace("what was measured", measured[0]) for event, fields in said.items()}


def test_the_page_names_every_event_and_no_other() -> None:
    """Whoever adds an event writes down what it means."""
    assert set(rows()) == set(Event)


def test_the_page_names_every_field_and_no_other() -> None:
    """Whoever adds a field writes it down, and what is written down can be asked for."""
    for event, said in rows().items():
        fields = FIELDS[Event(event)]
        names = set(re.findall(r"`(\w+)`", said)) | (PAYLOAD if "payload" in said else set())
        words = {word for kind in fields.values() for word in known_words(kind)}
        assert names >= set(fields), event
        assert names <= set(fields) | words, event
