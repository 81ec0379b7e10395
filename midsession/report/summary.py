"""The report as Markdown, for a CI's step summary: the word, the findings, the timeline, how to run it again."""

from __future__ import annotations

import re

from midsession.report.model import View
from midsession.report.text import count, duration, instant, some

SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "error": "💥"}

_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|~&!@:/$]|(?<=www)\.")
"""What Markdown (GitHub's too: mentions, bare links, mathematics) may take for more than text."""


def escape(text: str) -> str:
    """Text that Markdown shows as it is: every active character becomes a character reference."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)


def render(view: View) -> str:
    """The document."""
    head = view.head
    matrix = f" ({escape(head.matrix)})" if head.matrix else ""
    facts = [
        f"seed {head.seed}",
        escape(head.testbed),
        duration(head.duration_ns),
        head.ends or count(head.clients, "client"),
    ]
    lines = [
        f"## {SIGNS[head.status]} {head.status.upper()}: {escape(head.name)}{matrix}",
        "",
        " · ".join(fact for fact in facts if fact),
        "",
        "| | promise | seen |",
        "|---|---|---|",
    ]
    for f in view.findings:
        whose = (
            f"<br>not kept by {escape(some(f.offenders, of=f.offenders_count))}"
            if f.offenders and f.status != "pass"
            else ""
        )
        place = f"<br>{escape(f.place)}" if f.place and f.status != "pass" else ""
        lines.append(f"| {SIGNS[f.status]} {f.status} | {escape(f.promise)}{place} | {escape(f.seen)}{whose} |")
    if view.bands:
        lines += [
            "",
            "| step | what | at | because of | lag | took effect after | first loss after |",
            "|---" * 7 + "|",
        ]
        lines += [_step(band) for band in _cells(view)]
    if head.replay:
        lines += ["", "Run it again:", "", *fenced(head.replay)]
    return "\n".join(lines) + "\n"


def _cells(view: View) -> list[list[str]]:
    def span(ns: int | None) -> str:
        return "" if ns is None else duration(ns)

    rows = []
    for b in view.bands:
        spans = [span(b.lag_ns), span(b.effective_ns), span(b.first_loss_ns)]
        rows.append([b.step, b.label, instant(b.start_ns), b.because, *spans])
    return rows


def _step(cells: list[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def fenced(text: str) -> list[str]:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}console", text, fence]
