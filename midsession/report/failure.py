"""A run that did not pass, in the few lines that a failing test has room for."""

from __future__ import annotations

from midsession.report.model import View
from midsession.report.terminal import finding_lines

FAILURE_LINES = 25


def failure_lines(view: View, directory: str) -> list[str]:
    """At most 25 lines: what was promised, where, what was seen, the records around it, and how to run it again.

    `directory` is that of the run, empty when it was not kept.
    """
    end = ends(view, directory)
    room = FAILURE_LINES - len(end) - 1
    lines = [f"{view.head.status}: {view.head.name} (seed {view.head.seed})"]
    for finding in view.findings:
        if finding.status != "pass":
            lines += [text.plain for text in finding_lines(finding, evidence=1)]
    if len(lines) > room:
        lines = [*lines[: room - 1], f"    … and {len(lines) - room + 1} lines more in the report"]
    return [*lines, *end]


def ends(view: View, directory: str) -> list[str]:
    """Where the run is, and how to make it again."""
    facts = {"run": directory, "again": view.head.replay}
    return [f"{word}: {fact}" for word, fact in facts.items() if fact]
