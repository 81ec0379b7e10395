"""The examples in the documentation, and the scenarios that they are parts of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midsession.checks import CHECKS

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^(?=[a-z])", re.MULTILINE)

_REST = {
    "name": "name: An example\n",
    "services": "services:\n  server: {reference: reply, port: 4000}\n",
    "clients": "clients:\n"
    + "".join(f"  {name}:\n    connect: server:4000\n    script: [end]\n" for name in ("talkers", "writers", "reader"))
    + "  drivers:\n    command: [driver]\n",
    "timeline": "timeline:\n",
    "checks": "checks:\n  - never: {event: protocol_error}\n",
}
_STEPS = {
    "crash": "  - id: crash\n    when: {at: 1s}\n    kill: server\n",
    "return": "  - id: return\n    when: {after: crash}\n    start: server\n",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: where it stands, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> Iterator[Block]:
    """The fenced blocks of that language on all pages."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            if found[1] == language:
                yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def tutorial_runs() -> list[tuple[str, str, str]]:
    """What the tutorial runs: the command without `midsession`, the output shown, the exit code."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"^\$ midsession (run \S+ .*)\n((?:.*\n)*?)\$ echo \$\?\n(\d+)$", page, re.MULTILINE)


def whole(fragment: str) -> str:
    """A complete scenario around a fragment: what it has not is filled in.

    A fragment is some of a scenario's sections, or a list of steps of a script, of steps of the timeline, or of checks.
    Steps called `crash` and `return` are there, unless it has its own; every signal that is waited for is raised.
    """
    if fragment.lstrip().startswith("- "):
        fragment = _as_section(fragment)
    sections = {
        **_REST,
        **{part.partition(":")[0]: part for part in _SECTION.split(fragment) if re.match("[a-z]", part)},
    }
    sections["timeline"] += "".join(_missing_steps(sections))
    return "".join(f"{text.rstrip()}\n" for text in sections.values() if text.strip() != "timeline:")


def _as_section(steps: str) -> str:
    indented = "".join(f"  {line}" for line in steps.splitlines(keepends=True))
    if re.search(r"^\s+when:|- when:", steps, re.MULTILINE):
        return f"timeline:\n{indented}"
    if re.match(r"\s*- (\w+)", steps)[1] in CHECKS:  # type: ignore[index]
        return f"checks:\n{indented}"
    body = "".join(f"    {line}" for line in indented.splitlines(keepends=True))
    return f"clients:\n  talkers:\n    connect: server:4000\n    script:\n{body}"


def _missing_steps(sections: dict[str, str]) -> Iterator[str]:
    has, text = sections["timeline"], "".join(sections.values())
    for step, written in _STEPS.items():
        needed = re.search(rf"\b(since|after): {step}\b", text) or (
            step == "crash" and "after: crash" in _STEPS["return"]
        )
        if needed and f"id: {step}\n" not in has:
            yield written
    waited = set(re.findall(r"(?:until|wait: \{signal): ([a-z][a-z-]*)", sections["clients"]))
    for signal in sorted(waited - set(re.findall(r"^    signal: (\S+)", has, re.MULTILINE))):
        yield f"  - when: {{at: 1s}}\n    signal: {signal}\n"
