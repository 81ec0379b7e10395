"""What an `expect` accepts: one small class per matcher, built once per script step and shared by all its sessions.

A matcher takes the peer's next message from an `Inbox`: the next line, or a number of bytes. `eof`, `reset` and
`nothing` match no bytes; the session machine knows them by type. Regular expressions run on RE2 (linear time: a
pattern cannot hang the fleet), which is imported only when a script uses one.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable
from typing import Any

from midsession.core.plan import Expect
from midsession.core.template import Names, Template, expand_pattern
from midsession.core.wire import LINE_LIMIT_BYTES, Inbox, preview


class Matcher:
    """Base. `wanted` says, for people, what was expected."""

    __slots__ = ()

    def wanted(self, names: Names, n: int) -> str:
        raise NotImplementedError


class Lines(Matcher):
    """Base of what takes the next line. At the end of the stream an unfinished line counts as a line."""

    __slots__ = ()

    def test(self, line: bytes, names: Names, n: int) -> bool:
        """Whether this line (without its end) is the expected one."""
        raise NotImplementedError


class Line(Lines):
    """The line is this text."""

    __slots__ = ("_bytes", "_template")

    def __init__(self, text: str) -> None:
        self._template = Template(text)
        constant = self._template.constant
        self._bytes = None if constant is None else constant.encode()

    def test(self, line: bytes, names: Names, n: int) -> bool:
        if self._bytes is not None:
            return line == self._bytes
        return line == self._template.expand(names, n).encode()

    def wanted(self, names: Names, n: int) -> str:
        return f'line "{self._template.expand(names, n)}"'


class Contains(Lines):
    """The line holds this text."""

    __slots__ = ("_template",)

    def __init__(self, text: str) -> None:
        self._template = Template(text)

    def test(self, line: bytes, names: Names, n: int) -> bool:
        return self._template.expand(names, n).encode() in line

    def wanted(self, names: Names, n: int) -> str:
        return f'a line with "{self._template.expand(names, n)}"'


class Glob(Lines):
    """The whole line matches a shell pattern (`*`, `?`, `[…]`; upper and lower case differ)."""

    __slots__ = ("_template",)

    def __init__(self, pattern: str) -> None:
        self._template = Template(pattern)

    def test(self, line: bytes, names: Names, n: int) -> bool:
        pattern = _glob(self._template.expand(names, n))
        return pattern(line.decode("utf-8", "backslashreplace")) is not None

    def wanted(self, names: Names, n: int) -> str:
        return f'a line like "{self._template.expand(names, n)}"'


class Regex(Lines):
    """Some part of the line matches (RE2; anchor it with ^ and $). Raises ValueError for a pattern RE2 refuses."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        _regex(expand_pattern(pattern, Names(1, "group", "group-1", "run"), 1))

    def test(self, line: bytes, names: Names, n: int) -> bool:
        search = _regex(expand_pattern(self._pattern, names, n))
        return search(line.decode("utf-8", "backslashreplace")) is not None

    def wanted(self, names: Names, n: int) -> str:
        return f"a line that matches /{expand_pattern(self._pattern, names, n)}/"


class Exact(Matcher):
    """The next bytes are these."""

    __slots__ = ("_bytes", "_template")

    def __init__(self, text: str | None = None, hexadecimal: str = "") -> None:
        self._template = None if text is None else Template(text)
        self._bytes = bytes.fromhex(hexadecimal)

    def expected(self, names: Names, n: int) -> bytes:
        """The bytes for this session and send."""
        return self._bytes if self._template is None else self._template.expand(names, n).encode()

    def differs(self, inbox: Inbox, names: Names, n: int) -> bool:
        """Whether what is held can no longer become the expected bytes."""
        expected = self.expected(names, n)
        return not expected.startswith(inbox.peek(len(expected)))

    def wanted(self, names: Names, n: int) -> str:
        if self._template is None:
            return f"bytes {self._bytes[:64].hex(' ')}"
        return f'exactly "{preview(self.expected(names, n))}"'


class Count(Matcher):
    """That many bytes, whatever they are; they are counted, never held."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def wanted(self, names: Names, n: int) -> str:
        return f"{self.count} bytes"


class Ending(Matcher):
    """Base of what waits for the peer's end. Bytes before it violate the expect, unless it `drains` them."""

    __slots__ = ("drains",)

    def __init__(self, drains: bool = False) -> None:
        self.drains = drains


class Eof(Ending):
    """The peer's FIN."""

    __slots__ = ()

    def wanted(self, names: Names, n: int) -> str:
        return "eof"


class Reset(Ending):
    """The peer's RST."""

    __slots__ = ()

    def wanted(self, names: Names, n: int) -> str:
        return "reset"


class Nothing(Matcher):
    """No byte, for the whole time."""

    __slots__ = ()

    def wanted(self, names: Names, n: int) -> str:
        return "nothing"


_ENDINGS: dict[str, type[Ending]] = {"eof": Eof, "reset": Reset}

_BUILDERS: dict[str, Callable[[Any], Matcher]] = {
    "line": Line,
    "contains": Contains,
    "glob": Glob,
    "regex": Regex,
    "exact": Exact,
    "hex": lambda digits: Exact(hexadecimal=digits),
    "bytes": Count,
    "nothing": lambda _: Nothing(),
}


def matcher(expect: Expect) -> Matcher:
    """Build the one matcher that `expect` sets. Raises ValueError, with a text for people, for one that cannot be."""
    kinds = [*_BUILDERS, *_ENDINGS]
    given = [name for name in kinds if getattr(expect, name) not in (None, False)]
    if len(given) != 1:
        raise ValueError(f"an expect has exactly one of {', '.join(kinds)}; this one has {len(given)}")
    (kind,) = given
    if kind in _ENDINGS:
        return _ENDINGS[kind](expect.drain)
    if expect.drain:
        raise ValueError(f"an expect of {kind} cannot drain: that is for {' and '.join(_ENDINGS)}")
    return _BUILDERS[kind](getattr(expect, kind))


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(fnmatch.translate(pattern)).match


@functools.lru_cache(maxsize=1024)
def _regex(pattern: str) -> Callable[[str], Any]:
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Any = re2.compile(pattern, options)
    except re2.error as refused:
        text = refused.args[0].decode() if isinstance(refused.args[0], bytes) else str(refused)
        raise ValueError(f"not a regular expression that RE2 takes: {text}") from None
    search: Callable[[str], Any] = compiled.search
    return search


__all__ = [
    "LINE_LIMIT_BYTES",
    "Contains",
    "Count",
    "Ending",
    "Eof",
    "Exact",
    "Glob",
    "Line",
    "Lines",
    "Matcher",
    "Nothing",
]
__all__ += ["Regex", "Reset", "matcher"]
