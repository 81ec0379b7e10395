"""Lines of styled text and where they go: a terminal by way of rich, anything else as they are.

A log needs neither colours nor rich, and rich takes a moment to import: it is imported where a terminal is. Texts are
never taken for markup.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Line:
    """One line: texts, each with a style in rich's words (`bold red`; empty for none)."""

    spans: tuple[tuple[str, str], ...]

    @property
    def plain(self) -> str:
        """The text without its styles."""
        return "".join(text for text, _ in self.spans)


def line(*parts: str | tuple[str, str]) -> Line:
    """A line of texts, and of texts with a style."""
    return Line(tuple((part, "") if isinstance(part, str) else part for part in parts))


EMPTY = line()


class Out(Protocol):
    """Where lines go."""

    def print(self, shown: Line = ...) -> None:
        """Show one line; an empty one by default."""

    def write(self, text: str) -> None:
        """Lines that were made elsewhere, as they are."""

    def live(self, status: Callable[[], Line]) -> Live | None:
        """What keeps the line that `status` gives at the bottom, between its `start` and its `stop`; None: nothing."""


def console(file: IO[str]) -> Out:
    """Colours and a live line where `file` is a terminal; where not, plain text without any escape sequence."""
    return _Terminal(file) if file.isatty() else _Log(file)


class _Log:
    """As it is, and at once: whoever reads a log follows it."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def print(self, shown: Line = EMPTY) -> None:
        self.write(f"{shown.plain}\n")

    def write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def live(self, status: Callable[[], Line]) -> None:
        return None


class _Terminal:
    """By way of rich: nothing is wrapped, guessed at or taken for markup."""

    def __init__(self, file: IO[str]) -> None:
        from rich.console import Console

        self._console = Console(
            file=file,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
            legacy_windows=False,
            color_system=None if "NO_COLOR" in os.environ else "auto",
        )

    def print(self, shown: Line = EMPTY) -> None:
        self._console.print(_text(shown))

    def write(self, text: str) -> None:
        self._console.file.write(text)

    def live(self, status: Callable[[], Line]) -> Live | None:
        from rich.live import Live

        if not self._console.is_terminal:
            return None
        return Live(console=self._console, get_renderable=lambda: _text(status()), transient=True)


def _text(shown: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*shown.spans)
