"""A program's bytes in, lines of text out; no pipe."""

from __future__ import annotations

import pytest

from midsession.agent.output import LINE_CHARACTERS, Lines

LONG = "x" * LINE_CHARACTERS


def told(*pieces: bytes) -> list[tuple[str, bool]]:
    """What is told of bytes that come so, and end."""
    heard: list[tuple[str, bool]] = []
    lines = Lines(lambda text, is_cut: heard.append((text, is_cut)))
    for piece in pieces:
        lines.receive(piece)
    lines.end()
    return heard


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\n\nb", [("a", False), ("", False), ("b", False)]),
        (f"{LONG}\nb\n", [(LONG, False), ("b", False)]),
        (f"{LONG}ERROR\nb\n", [(LONG, True), ("b", False)]),
        (f"{LONG}{LONG}ERROR", [(LONG, True)]),
        (f"{LONG}x\n{LONG}y\n\n", [(LONG, True), (LONG, True), ("", False)]),
        ("", []),
    ],
    ids=["short", "at the limit", "longer", "without an end", "two", "nothing"],
)
def test_a_line_is_one_line_however_long_and_however_it_comes(text: str, lines: list[tuple[str, bool]]) -> None:
    """Of one that is too long its beginning is told, once, and that it goes on."""
    data = text.encode()
    assert told(data) == lines
    points = sorted(
        {*range(0, len(data), 97), *(n for n in range(len(data)) if n % LINE_CHARACTERS in (0, 1, 2, 4095))}
    )
    assert [told(data[:at], data[at:]) for at in points] == [lines] * len(points)
    assert told(*(data[at : at + 1000] for at in range(0, len(data), 1000))) == lines


def test_what_is_too_long_is_told_before_it_ends() -> None:
    """Somebody may wait for what stands in it."""
    heard: list[str] = []
    Lines(lambda text, _is_cut: heard.append(text)).receive(LONG.encode() + b"x")
    assert heard == [LONG]
