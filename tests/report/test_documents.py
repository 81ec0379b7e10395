"""JUnit and Markdown say the same as the page, and hold what they hold whatever a peer sent."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from midsession.report import junit, summary
from midsession.report.model import View, view
from midsession.report.write import write_reports
from tests.report.crowd import INFO, crowd, verdict_on
from tests.report.test_html import HOSTILE


def shown(said: str = "Hi") -> View:
    history = crowd(5, said=said)
    return view(history, verdict_on(history, said), INFO, "midsession run x --seed 7")


@pytest.mark.parametrize("said", HOSTILE)
def test_junit_is_well_formed_and_counts_each_finding(said: str) -> None:
    """A failure is a failure, and what nobody knows is an error: never a pass, never a skip."""
    suite = ElementTree.fromstring(junit.render(shown(said)))[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "3",
        "1",
        "1",
        "0",
    )
    cases = suite.findall("testcase")
    assert [[child.tag for child in case] for case in cases] == [["failure"], ["error"], []]
    assert len({case.get("name") for case in cases}) == 3


def test_junit_holds_the_seed_and_the_records_around() -> None:
    """A failure can be understood and repeated from the file alone."""
    suite = ElementTree.fromstring(junit.render(shown()))[0]
    assert {p.get("name"): p.get("value") for p in suite.iter("property")}["seed"] == "7"
    text = suite.findall("testcase")[0][0].text or ""
    assert "x.scenario.yaml:45:5" in text
    assert ">   1.502 s  talkers-2 #1  lost  eof" in text
    assert "again: midsession run x --seed 7" in text


@pytest.mark.parametrize("said", HOSTILE)
def test_markdown_shows_hostile_text_as_text(said: str) -> None:
    """No tag, link, mention or table cell comes from data."""
    text = summary.render(shown(said))
    assert set(re.findall(r"<[^>]*>", text)) <= {"<br>"}
    rows = [line for line in text.splitlines() if line.startswith("| ") and "meets" in line]
    assert len(rows) == 2
    assert {row.count("|") for row in rows} == {4}


def test_markdown_says_verdict_findings_timeline_and_replay() -> None:
    """What a reviewer reads in the summary of a CI step."""
    text = summary.render(shown())
    assert text.startswith("## ❌ FAIL: The server is killed mid-session\n")
    assert "| crash | kill server (SIGKILL) |   1.500 s | talkers-2 replied | 600 µs | 1.20 ms | 1.81 ms |" in text
    assert "```console\nmidsession run x --seed 7\n```" in text


def test_reports_are_written_and_rewritten_whole(tmp_path: Path) -> None:
    """Three files, the same bytes for the same run."""
    write_reports(tmp_path, shown())
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write_reports(tmp_path, shown())
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first
    assert sorted(first) == ["junit.xml", "report.html", "summary.md"]
