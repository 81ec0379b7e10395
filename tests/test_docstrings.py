"""The docstrings of attributes, read from the source."""

from __future__ import annotations

from pydantic import BaseModel, Field

from midsession import docstrings


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


class Root(BaseModel):
    """What a language's models derive from."""


class Middle(Root):
    one: int
    """One thing."""


class Leaf(Middle):
    two: int = Field(description="given")
    """Not this."""


def test_a_docstring_is_the_description_of_a_field_that_has_no_other() -> None:
    """Of every model below the base; one that was given stays."""
    docstrings.describe(Root)
    assert Middle.model_fields["one"].description == "One thing."
    assert Leaf.model_fields["one"].description == "One thing."
    assert Leaf.model_fields["two"].description == "given"
