"""The report as JUnit XML: a suite for the run, a case for each finding; inconclusive is an error, never a skip."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from midsession.report.evidence import FindingView
from midsession.report.model import View
from midsession.report.text import instant, some


def render(view: View) -> str:
    """The document. Its texts hold no character that XML 1.0 forbids, since the view's texts are visible ones."""
    head = view.head
    statuses = [f.status for f in view.findings]
    seconds = f"{head.duration_ns / 1e9:.3f}"
    name = f"{head.name} [{head.matrix}]" if head.matrix else head.name
    totals = {
        "tests": str(len(statuses)),
        "failures": str(statuses.count("fail")),
        "errors": str(statuses.count("error") + statuses.count("inconclusive")),
        "time": seconds,
    }
    root = Element("testsuites", totals)
    suite = SubElement(root, "testsuite", {"name": name, **totals, "skipped": "0"})
    properties = SubElement(suite, "properties")
    for key in ("seed", "run", "testbed", "plan", "source", "matrix", "replay"):
        SubElement(properties, "property", {"name": key, "value": str(getattr(head, key))})
    for number, finding in enumerate(view.findings, 1):
        case = SubElement(
            suite,
            "testcase",
            {"classname": head.source, "name": f"{number}. {finding.promise}", "time": "0.000"},
        )
        if finding.status != "pass":
            tag = "failure" if finding.status == "fail" else "error"
            fault = SubElement(case, tag, {"type": finding.status, "message": finding.seen})
            fault.text = _text(finding, head.replay)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _text(finding: FindingView, replay: str) -> str:
    lines = [f"{finding.place}: {finding.promise}".removeprefix(": "), f"seen: {finding.seen}"]
    if finding.offenders:
        lines.append(f"not kept by {some(finding.offenders, of=finding.offenders_count)}")
    for evidence in finding.evidence[:1]:
        lines.append(f"{evidence.title}:")
        lines += [
            f"{'>' if e.chosen else ' '} {instant(e.t_ns)}  {e.who}  {e.event}  {e.text}" for e in evidence.entries
        ]
    return "\n".join([*lines, f"again: {replay}"] if replay else lines)
