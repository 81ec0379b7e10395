"""How the language says that one value is wrong, before it is known where the value stands."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class Wrong(ValueError):
    """One value is wrong: a slug of `docs/errors.md`, a message, and a remedy. Whoever knows the place adds it.

    A ValueError, so that pydantic collects it with the value's path.
    """

    def __init__(self, slug: str, message: str, remedy: str = "") -> None:
        self.slug, self.message, self.remedy = slug, message, remedy
        super().__init__(message)


def quoted(value: object, limit: int = 60) -> str:
    """Show a value of the user's in a message: short, on one line, without a control character."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…{text[0] if isinstance(value, str) else ''}"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that an unknown word is most like; None where none is like it."""
    near = get_close_matches(word[:60], sorted(names), n=1, cutoff=0.6)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest known one, else all of them when they are few.

    Names of the user's with control characters are no help, and no terminal should see them.
    """
    names = sorted({name for name in known if name.isprintable()})
    if near := nearest(word, names):
        return f"did you mean '{near}'?"
    if not names:
        return "there is none"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (", …" if len(names) > 12 else "")
