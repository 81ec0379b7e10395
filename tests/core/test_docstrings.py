"""The docstrings of attributes, read from the source."""

from __future__ import annotations

from midsession.core import docstrings


class Base:
    told: int = 1
    """What is told,
    on two lines."""
    untold: int = 2
    method_less = 3
    """Not annotated: no field."""


class Derived(Base):
    untold: int = 4
    """Told here."""


def test_the_text_below_an_annotation_is_its_docstring() -> None:
    """Only what stands right below an annotated name, without its indentation."""
    assert docstrings.of_attributes(Base) == {"told": "What is told,\non two lines."}


def test_a_class_has_those_of_its_bases() -> None:
    """Inherited fields keep theirs."""
    assert docstrings.of_attributes(Derived) == {"told": "What is told,\non two lines.", "untold": "Told here."}


def test_a_class_without_a_source_has_none() -> None:
    """A class that was made at run time, and one that was written in C."""
    assert docstrings.of_attributes(type("Made", (), {"__module__": "nowhere"})) == {}
    assert docstrings.of_attributes(int) == {}
