"""The small types of the scenario language."""

from __future__ import annotations

from functools import cache, partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from midsession.core.shape import Late, Model, Size
from midsession.core.texts import Argument
from midsession.core.wrong import Wrong, quoted

MAX_CLIENTS = 100_000
MAX_RANDOM_BYTES = 64 * 1024 * 1024

Argv = Annotated[list[Argument], Field(min_length=1, max_length=1000)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Payload = Annotated[Size, Field(ge=1, le=MAX_RANDOM_BYTES)]
Yes = Literal[True]
Operation = Literal["write", "read"]


def _no_twins(names: list[str]) -> list[str]:
    if twins := [name for at, name in enumerate(names) if name in names[:at]]:
        raise Wrong("duplicate-id", f"{quoted(twins[0])} is named twice", "name it once")
    return names


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def text_or(other: Any, value: object) -> object:
    """Text, or else the other type, whose complaints then are the only ones."""
    return _reader(str if isinstance(value, str) else other).validate_python(value, strict=True)


Names = Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(_no_twins)]
Candidates = Annotated[Any, Late(partial(text_or, Names), lambda: str | Names)]


def _argv(value: object) -> object:
    if isinstance(value, str):
        remedy = "write it as a list: [program, argument, …]; nothing is given to a shell"
        raise Wrong("wrong-type", "a command is a list of words, not one text", remedy)
    return value


Command = Annotated[Argv, BeforeValidator(_argv)]


class Nothing(Model):
    """A verb that has no more to say."""

    empty: ClassVar[bool] = True
