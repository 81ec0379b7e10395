"""Placeholders are a closed set, and nothing else in a text means anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsession.core.template import Names, Template, expand_pattern

NAMES = Names(7, "talkers", "talkers-7", "r1")


def test_every_placeholder_stands_for_its_value() -> None:
    """All five, and the line end that was asked for."""
    text = Template("{client} {group} {session} {n} {run}", end="\n")
    assert text.constant is None
    assert text.expand(NAMES, 3) == "7 talkers talkers-7 3 r1\n"


def test_doubled_braces_are_braces() -> None:
    """`{{` and `}}` are how a text says braces; it is a constant then."""
    assert Template("{{client}} {{}}").constant == "{client} {}"
    assert Template("{{{n}}}").expand(NAMES, 2) == "{2}"


@pytest.mark.parametrize("text", ["{", "}", "{}", "{clients}", "{0}", "{n!r}", "{n:>9}", "{client.__class__}", "{ n }"])
def test_anything_else_in_braces_is_refused(text: str) -> None:
    """No format language, no attribute of anything: a ValueError that says what there is."""
    with pytest.raises(ValueError, match=r"there are \{client\}, \{group\}"):
        Template(text)


@given(st.text())
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    """A text whose braces are doubled is that text, whatever it holds."""
    assert Template(text.replace("{", "{{").replace("}", "}}")).constant == text


def test_a_pattern_keeps_its_braces() -> None:
    """In a regular expression only known placeholders are replaced, by their escaped values."""
    dotted = Names(1, "a.b", "a.b-1", "r")
    assert expand_pattern(r"^\d{3} {group} {n}$", dotted, 5) == r"^\d{3} a\.b 5$"
