"""Write a run's reports beside its records: report.html, junit.xml, summary.md."""

from __future__ import annotations

from pathlib import Path

from midsession.report import html, junit, summary
from midsession.report.model import View
from midsession.rundir import JUNIT, REPORT, SUMMARY, write_whole

RENDERERS = {REPORT: html.render, JUNIT: junit.render, SUMMARY: summary.render}


def write_reports(directory: Path, view: View) -> None:
    """Write (or rewrite) every report, each whole or not at all. Raises OSError."""
    for name, render in RENDERERS.items():
        write_whole(directory / name, render(view).encode())
