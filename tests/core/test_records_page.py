"""`docs/records.md` names every event, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from midsession.core.record import Event

PAGE = Path(__file__).parents[2] / "docs" / "records.md"


def test_the_page_names_every_event_and_no_other() -> None:
    """Whoever adds an event writes down what it means."""
    text = PAGE.read_text()
    tables = re.findall(r"^\| event \| when \| fields \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    named = {re.match(r"\| `(\w+)` \|", row)[1] for table in tables for row in table.splitlines()}  # type: ignore[index]
    assert named == set(Event)
