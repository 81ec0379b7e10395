"""What came of several runs: lines for a terminal, Markdown for a CI's step summary, JUnit XML, JSON.

A plan that was repeated shows its pass rate with the interval that so few runs allow, and the first repetition that did
not pass with the command that makes it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import msgspec

from midsession.batch.schedule import NOT_RUN, Repetition, Series
from midsession.core.repetition import FLAKY, Tally
from midsession.core.verdict import Status
from midsession.report.paint import Line, Out, line
from midsession.report.summary import SIGNS as MARKS
from midsession.report.summary import escape, fenced
from midsession.report.terminal import SIGNS
from midsession.report.text import count, duration, visible


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch that is over. `seed` is the base of all repetitions' seeds; `repeats` says that rates were asked for."""

    series: Sequence[Series]
    seed: int
    repeats: bool
    interrupted: bool

    @property
    def sums(self) -> str:
        """`40 runs: 37 pass, 3 fail · 1 flaky plan · seed 7`."""
        words = Counter(r.told.word for one in self.series for r in one.repetitions)
        if missing := sum(not one.repetitions for one in self.series):
            words[NOT_RUN] = missing
        flaky = sum(one.word == FLAKY for one in self.series)
        facts = [f"{count(words.total(), 'run')}: {_listed(words)}", f"{count(flaky, 'flaky plan')}" if flaky else ""]
        facts += [f"seed {self.seed}", "interrupted" if self.interrupted and self.repeats else ""]
        return " · ".join(filter(None, facts))

    @property
    def ran(self) -> Iterable[Series]:
        """The plans that were run at least once."""
        return [one for one in self.series if one.repetitions]


def rate(series: Series) -> str:
    """`37 of 40 passed, 92.5 % (95 % interval 80.1 % to 97.4 %); 2 inconclusive`."""
    tally = series.tally
    said = f"{tally.passed} of {tally.trials} passed{_share(tally)}" if tally.trials else "no run was decided"
    others = Counter(r.told.word for r in series.repetitions if r.told.word not in (Status.PASS, Status.FAIL))
    return f"{said}; {_listed(others)}" if others else said


def _listed(words: Counter[str]) -> str:
    """`37 pass, 3 fail`: best first."""
    order = [*Status, *words]
    return ", ".join(f"{words[word]} {word}" for word in sorted(words, key=order.index))


def _share(tally: Tally) -> str:
    if tally.rate is None:
        return ""
    low, high = map(_percent, tally.interval)
    return f", {_percent(tally.rate)} (95 % interval {low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _first(series: Series) -> str:
    """The first repetition that did not pass: which, its seed, what was wrong."""
    bad = series.first_bad
    return f"#{bad.number}, seed {bad.told.seed}: {_why(bad)}" if bad else ""


def _why(repetition: Repetition) -> str:
    return visible(repetition.told.why or repetition.told.error or repetition.told.word, 300)


# --- terminal ------------------------------------------------------------------------------------------------------


def repetition_line(repetition: Repetition, wide: int) -> Line:
    """One repetition in one line."""
    told = repetition.told
    facts = f"#{repetition.number:<5} seed {told.seed:<10}  {duration(told.duration_ns) if told.duration_ns else '':>8}"
    text = f"  {visible(repetition.plan):<{wide}}  {facts}"
    said = told.ends if told.exit_code == 0 else _why(repetition)
    return line(_sign(told.word), text, (f"  {said}" if said else "", "dim"))


def tell_batch(out: Out, view: BatchView, directory: str) -> None:
    """One line for each plan that was run (with its rate, where rates were asked for), where the reports are (empty:
    nowhere), sums."""
    out.print()
    wide = max((len(visible(one.plan)) for one in view.ran), default=0)
    for one in view.ran:
        last = one.repetitions[-1].told
        said = rate(one) if view.repeats else " · ".join(filter(None, [visible(last.directory), last.ends]))
        style = "" if view.repeats else "dim"
        out.print(line(_sign(one.word), f"{visible(one.plan):<{wide}}  ", (said, style)))
        if view.repeats and (bad := one.first_bad):
            for word, text in [("first", _first(one)), ("run", bad.told.directory), ("again", bad.told.replay)]:
                if text:
                    out.print(line((f"    {word:<7}", "dim"), visible(text)))
    if directory:
        out.print(line(("  batch  ", "dim"), visible(directory)))
    out.print(line((view.sums, "bold")))


def _sign(word: str) -> tuple[str, str]:
    sign, colour = SIGNS["fail"] if word == FLAKY else SIGNS.get(word, ("-", "magenta"))
    return f"{sign} {word:<12} ", colour


# --- files ---------------------------------------------------------------------------------------------------------


def markdown(view: BatchView) -> str:
    """The document for a step summary."""
    heading = _listed(Counter(one.word for one in view.series))
    lines = [f"## {count(len(view.series), 'plan')}: {heading}", "", view.sums, ""]
    lines += ["| | plan | runs | first that did not pass |", "|---|---|---|---|"]
    for one in view.series:
        mark = MARKS.get("fail" if one.word == FLAKY else one.word, "–")
        runs = rate(one) if view.repeats else str(len(one.repetitions))
        lines.append(f"| {mark} {one.word} | {escape(one.plan)} | {escape(runs)} | {escape(_first(one))} |")
    replays = [bad.told.replay for one in view.series if (bad := one.first_bad) and bad.told.replay]
    if replays:
        lines += ["", "Run them again:", "", *fenced("\n".join(replays))]
    return "\n".join(lines) + "\n"


def junit(view: BatchView) -> str:
    """The document for a CI server: a test case for each plan. Flaky is a failure; no verdict is an error."""
    cases = [_case(one, view.repeats) for one in view.ran]
    failures, errors = (sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error"))
    seconds = sum(float(case.get("time", "0")) for case in cases)
    totals = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "time": f"{seconds:.3f}"}
    root = Element("testsuites", totals)
    suite = SubElement(root, "testsuite", {"name": "midsession", **totals, "skipped": "0"})
    SubElement(SubElement(suite, "properties"), "property", {"name": "seed", "value": str(view.seed)})
    suite.extend(cases)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _case(series: Series, repeats: bool) -> Element:
    seconds = sum(r.told.duration_ns for r in series.repetitions) / 1e9
    names = {"classname": visible(series.plan), "name": visible(series.name), "time": f"{seconds:.3f}"}
    case = Element("testcase", names)
    if repeats:
        SubElement(SubElement(case, "properties"), "property", {"name": "pass_rate", "value": rate(series)})
    if series.word != Status.PASS:
        tag = "failure" if series.word in (Status.FAIL, FLAKY) else "error"
        fault = SubElement(case, tag, {"type": series.word, "message": rate(series) if repeats else _first(series)})
        again = [f"again: {bad.told.replay}"] if (bad := series.first_bad) and bad.told.replay else []
        fault.text = "\n".join([_first(series), *again])
    return case


def to_json(view: BatchView) -> bytes:
    """The document for programs: every plan with its word, rate and interval, and every repetition with its seed."""
    plans = [_plan(one) for one in view.series]
    whole = {"seed": view.seed, "interrupted": view.interrupted, "plans": plans}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def _plan(series: Series) -> dict[str, object]:
    tally = series.tally
    figures = {"passed": tally.passed, "trials": tally.trials, "pass_rate": tally.rate, "interval": tally.interval}
    runs = [
        {"repetition": r.number, "word": r.told.word, "seed": r.told.seed, "directory": r.told.directory}
        for r in series.repetitions
    ]
    return {"plan": series.plan, "word": series.word, **figures, "runs": runs}
