"""Placeholders in the texts of a script: a closed set, expanded at the moment of use.

`{client}` number in the group, `{group}`, `{session}` = `<group>-<number>`, `{n}` number of this send (in an `expect`:
of the last one), `{run}`. `{{` and `}}` are braces. Nothing else may stand in braces, and nothing is evaluated.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PLACEHOLDERS = ("client", "group", "session", "run", "n")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_KNOWN = re.compile(r"\{(client|group|session|run|n)\}")


class Names(NamedTuple):
    """What a session's placeholders stand for, all but `{n}`; in the order of `PLACEHOLDERS`."""

    client: int
    group: str
    session: str
    run: str


class Template:
    """A text with placeholders. Raises ValueError, with a text for people, for any other word in braces.

    `constant` is the text itself where it holds no placeholder, else None. `end` is appended to it.
    """

    __slots__ = ("_format", "constant")

    def __init__(self, text: str, end: str = "") -> None:
        used = False

        def token(match: re.Match[str]) -> str:
            nonlocal used
            if match[0] in ("{{", "}}"):
                return match[0]
            if match[1] not in PLACEHOLDERS:
                raise ValueError(_unknown(match[0]))
            used = True
            return f"{{{PLACEHOLDERS.index(match[1])}}}"

        self._format = _TOKEN.sub(token, text) + end
        self.constant = None if used else self._format.format()

    def expand(self, names: Names, n: int) -> str:
        """The text for one session and send."""
        if self.constant is not None:
            return self.constant
        return self._format.format(*names, n)


def _unknown(what: str) -> str:
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    return f"unknown placeholder {what}; there are {known}, and {{{{ for a brace"


def expand_pattern(pattern: str, names: Names, n: int) -> str:
    """A regular expression with its placeholders replaced by their escaped values.

    Braces are part of that language (`\\d{3}`), so everything but a known placeholder stays as it is.
    """
    values = dict(zip(PLACEHOLDERS, (*names, n), strict=True))
    return _KNOWN.sub(lambda found: re.escape(str(values[found[1]])), pattern)
