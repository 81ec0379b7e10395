"""Steps of a script that stand after the end of their connection, where nothing is connected any more.

A session would open another connection for them, silently: whoever means that says `connect`. Only the way from one
round of a `repeat` to the next is left alone: there a connection for each round is what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midsession.core.loader import Node
from midsession.errors import Place

_ENDS = frozenset({"end", "abort"})
_NEEDS = _ENDS | {"send", "expect", "half_close"}


@dataclass(frozen=True, slots=True)
class Stranded:
    """A step (its verb) after the `end` or `abort` (`ended`) of its connection."""

    verb: str
    ended: str
    place: Place


def stranded_steps(script: Node | None) -> Iterator[Stranded]:
    """The first step after each end that needs the connection which that has closed."""
    ended = ""
    for verb, place in _steps(script):
        if ended and verb in _NEEDS:
            yield Stranded(verb, ended, place)
            ended = ""
        elif verb in _ENDS:
            ended = verb
        elif verb == "connect":
            ended = ""


def _steps(script: Node | None) -> Iterator[tuple[str, Place]]:
    """Every verb in the order in which a first round comes to it."""
    for step in script.each() if script else ():
        if isinstance(step.value, str):
            yield step.value, step.place
        for verb, body in step.items():
            yield verb, step.keys.get(verb, body.place)
            if verb == "repeat":
                yield from _steps(body.get("script"))
