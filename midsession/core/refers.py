"""The names by which one part of a scenario speaks of another, as types: the type of a field says what it refers to.

A fault or check declares `of: Subject`, and `references` sees that there is such a one before anything runs; to all
others it is text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

from midsession.core.units import split_name

Kind = Literal[
    "service",
    "client group",
    "service or client group",
    "service, client group or client",
    "group or client with a script",
    "group of client programs",
    "step",
]


@dataclasses.dataclass(frozen=True)
class Refers:
    """Marks a text that names something of this kind. (One client, `drivers-2`, will do for a group of programs.)"""

    kind: Kind


ServiceName = Annotated[str, Refers("service")]
GroupName = Annotated[str, Refers("client group")]
Side = Annotated[str, Refers("service or client group")]
Subject = Annotated[str, Refers("service, client group or client")]
Players = Annotated[str, Refers("group or client with a script")]
Programs = Annotated[str, Refers("group of client programs")]
StepId = Annotated[str, Refers("step")]


def references_of(cls: type[Any]) -> Mapping[str, Kind | type[Any]]:
    """The keys of a fault's or check's mapping that refer to something, and what; or the class of what they hold."""
    hints = get_type_hints(cls, include_extras=True)
    found = ((split_name(field.name)[0], _meant(hints[field.name])) for field in dataclasses.fields(cls))
    return {key: meant for key, meant in found if meant is not None}


def _meant(annotation: Any) -> Kind | type[Any] | None:
    for part in _parts(annotation):
        if isinstance(part, Refers):
            return part.kind
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return part
    return None


def _parts(annotation: Any) -> Iterator[Any]:
    """All that a type is made of: the type of a list's items, those of a union, the notes of an annotated one."""
    yield annotation
    for inner in get_args(annotation):
        yield from _parts(inner)
