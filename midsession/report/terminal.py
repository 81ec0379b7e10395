"""The live account of a run, for a terminal and for a log: the steps as they fire, then the findings and the verdict.

On a terminal: colours, and a line of counters that stays at the bottom. Anywhere else (CI, `docker compose up`): the
same lines as plain text, with the counters as a line now and then; no escape sequence at all. Texts from the wire and
from programs come through `midsession.report.text.visible` and are printed as they are, never as markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from midsession import __version__
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.report.bands import because, label
from midsession.report.paint import Line, Out, console, line
from midsession.report.text import count, duration, instant, phrase, reference, some, visible

if TYPE_CHECKING:
    from midsession.report.evidence import Entry, Evidence, FindingView
    from midsession.report.model import View

SIGNS = {"pass": ("✓", "green"), "fail": ("✗", "red"), "inconclusive": ("?", "yellow"), "error": ("!", "magenta")}
WORDS = {"pass": "kept", "fail": "broken", "inconclusive": "undecided", "error": "in error"}

_COUNTED = {
    Event.REPLIED: ("reply", "replies"),
    Event.LOST: ("connection lost", "losses"),
    Event.PROTOCOL_ERROR: ("protocol error", "protocol errors"),
    Event.GAVE_UP: ("gave up", "gave up"),
    Event.DONE: ("done", "done"),
}
"""What is counted of the clients, besides those that are connected; how to say one and many."""

_PHASES = {
    "open": "opening the testbed",
    "programs": "starting services and clients",
    "end": "healing and stopping everything",
    "collect": "collecting logs",
}

_TELL_EVERY_NS = 1_000_000_000
_TELL_AGAIN_NS = 50_000_000
_STEP_WIDTH = 12


class Account:
    """Tells one run, from its plan to its last record. `hear` is called with every record that reaches the conductor.

    On a terminal, use it as a context manager: the line of counters lives as long as that.
    """

    def __init__(self, out: Out, plan: Plan, testbed: str) -> None:
        self._out, self._plan, self._testbed = out, plan, testbed
        self._steps = {step.id: step for step in plan.timeline}
        self._zero_ns: int | None = None
        self._sessions = sum(len(group.clients) for group in plan.scripted)
        self._programs = len(plan.foreign_clients)
        self._connected: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._told_ns, self._told = 0, ""
        self._turned, self._turned_ns = False, -_TELL_AGAIN_NS
        """Whether the last client came, or the last one went, and that is still to be told; when it was told before."""
        self._causes: dict[str, int] = {}
        self._first_hosts: dict[tuple[str, str], str] = {}
        """Where a step was injected, or healed, first."""
        self._held: Record | None = None
        """What became of a program, told unless the next record tells it as the witness of a step."""
        self._live = out.live(self._status)

    def __enter__(self) -> Account:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._let_go()
        if self._live:
            self._live.stop()

    def open(self) -> None:
        """Say what is about to run. The seed comes first, whatever happens later."""
        plan = self._plan
        matrix = ", ".join(f"{key}={value}" for key, value in plan.matrix.items())
        self._out.print()
        self._out.print(line((visible(plan.name), "bold"), f"  {visible(matrix)}" if matrix else ""))
        facts = [f"seed {plan.seed}", f"testbed {self._testbed}", count(len(plan.clients), "client"), plan.source]
        self._out.print(line((visible("  " + " · ".join(facts)), "dim")))

    def phase(self, phase: str) -> None:
        """Say what the run is busy with outside its timeline."""
        self._let_go()
        if phase in _PHASES:
            self._out.print(line((f"           {_PHASES[phase]}", "dim")))

    def hear(self, record: Record) -> None:
        """Take one record: count it, and tell it when it is news."""
        self._let_go(record)
        if record.event == Event.BEGUN:
            self._zero_ns = self._told_ns = record.t_ns
        if record.client is not None:
            self._count(record)
        elif tell := _TOLD.get(record.event):
            news = record.event == Event.TRIGGERED and record.t_ns - self._told_ns > _TELL_AGAIN_NS
            self._tell_counts(record.t_ns, always=news)
            tell(self, record)
        turned = self._turned and record.t_ns - self._turned_ns >= _TELL_AGAIN_NS
        if turned:
            self._turned, self._turned_ns = False, record.t_ns
        self._tell_counts(record.t_ns, always=turned)

    # --- counters ---

    def _count(self, record: Record) -> None:
        client, before = str(record.client), len(self._connected)
        if record.event == Event.CONNECTED:
            self._connected.add(client)
        elif record.event in (Event.LOST, Event.DONE):
            self._connected.discard(client)
        if record.event in _COUNTED or record.event == Event.EXITED:
            self._counts[record.event] += 1
        if before != len(self._connected) and len(self._connected) in (0, self._sessions):
            self._turned = True

    def _counters(self) -> str:
        parts = [f"{len(self._connected):,} of {self._sessions:,} connected"] if self._sessions else []
        if self._programs:
            parts.append(f"{self._counts[Event.EXITED]:,} of {count(self._programs, 'program')} exited")
        for event, (one, many) in _COUNTED.items():
            if number := self._counts[event]:
                parts.append(count(number, one, many))
        return ", ".join(parts)

    def _tell_counts(self, t_ns: int, always: bool = False) -> None:
        if self._live or self._zero_ns is None or not (always or t_ns - self._told_ns >= _TELL_EVERY_NS):
            return
        self._told_ns = t_ns
        if self._plan.clients and (counters := self._counters()) != self._told:
            self._told = counters
            self._line(t_ns, "clients", counters, "dim")

    def _status(self) -> Line:
        return line((f"           clients      {self._counters()}" if self._plan.clients else "", "dim"))

    # --- lines ---

    def _line(self, t_ns: int, what: str, text: str, style: str = "") -> None:
        at = instant(t_ns - self._zero_ns) if self._zero_ns is not None else " " * 9
        self._out.print(line((f"{at}  ", "dim"), (f"{what:<{_STEP_WIDTH}} ", style or "bold"), (text, style)))

    def _begun(self, record: Record) -> None:
        plan = self._plan
        parts = [(len(plan.clients), "client"), (len(plan.services), "service"), (len(plan.timeline), "step")]
        self._line(record.t_ns, "begun", ", ".join(count(n, noun) for n, noun in parts), "dim")

    def _triggered(self, record: Record) -> None:
        step = self._steps.get(str(record.fields.get("step", "")))
        if step is None:
            return
        by = record.fields.get("by")
        if by:
            self._causes[step.id] = int(by.get("t_ns", record.t_ns))
        text = f"{label(step.verb, step.args)}, because {because(step.when, by)}"
        self._line(record.t_ns, visible(step.id, 40), text, "yellow")

    def _injected(self, record: Record) -> None:
        name = str(record.fields.get("fault", ""))
        began_ns = int(record.fields.get("began_ns", record.t_ns))
        cause_ns = self._causes.get(name)
        lag = f", {duration(began_ns - cause_ns)} after that record" if cause_ns is not None else ""
        self._line(began_ns, visible(name, 40), f"injected{self._where(record)}{lag}", "yellow")

    def _where(self, record: Record) -> str:
        """On which host, once there was another one: most steps have one."""
        key = (record.event, str(record.fields.get("fault", "")))
        first = self._first_hosts.setdefault(key, record.host)
        return "" if first == record.host else f" on {visible(record.host, 40)} too"

    def _effective(self, record: Record) -> None:
        witness = record.fields.get("witness") or {}
        after = duration(record.fields.get("after_ns", 0))
        text = f"took effect after {after}: {reference(witness)}"
        self._line(record.t_ns, visible(record.fields.get("step", ""), 40), text, "yellow")

    def _healed(self, record: Record) -> None:
        self._line(record.t_ns, visible(record.fields.get("fault", ""), 40), f"healed{self._where(record)}", "green")

    def _program(self, record: Record) -> None:
        if record.host in {s.name for s in self._plan.services}:
            self._held = record

    def _let_go(self, following: Record | None = None) -> None:
        """Tell what is held, now that the record after it is there."""
        record, self._held = self._held, None
        if record is None or (following is not None and _is_witness(record, following)):
            return
        pid = record.fields.get("pid")
        text = f"pid {pid}" if record.event == Event.STARTED else phrase(record)
        self._line(record.t_ns, visible(record.host, 40), f"{record.event}, {text}", "cyan")

    def _note(self, record: Record) -> None:
        bad = record.fields.get("problem") or record.fields.get("failed")
        self._line(record.t_ns, "problem" if bad else "note", phrase(record), "bold red" if bad else "")

    def _ended(self, record: Record) -> None:
        self._tell_counts(record.t_ns, always=True)
        self._line(record.t_ns, "ended", phrase(record), "dim" if record.fields.get("why") == "done" else "red")


def _is_witness(record: Record, effective: Record) -> bool:
    """Whether a record that a step took effect names this one as what proves it."""
    witness = effective.fields.get("witness") or {}
    which = (witness.get("host"), witness.get("incarnation"), witness.get("seq"))
    return effective.event == Event.EFFECTIVE and which == (record.host, record.incarnation, record.seq)


_TOLD: dict[str, Callable[[Account, Record], None]] = {
    Event.BEGUN: Account._begun,
    Event.TRIGGERED: Account._triggered,
    Event.INJECTED: Account._injected,
    Event.EFFECTIVE: Account._effective,
    Event.HEALED: Account._healed,
    Event.STARTED: Account._program,
    Event.LISTENING: Account._program,
    Event.EXITED: Account._program,
    Event.FROZEN: Account._program,
    Event.THAWED: Account._program,
    Event.NOTE: Account._note,
    Event.ENDED: Account._ended,
}
"""Records that are news by themselves, and who tells them."""

# --- after the run -------------------------------------------------------------------------------------------------


def tell_findings(out: Out, view: View, evidence: int = 1) -> None:
    """The findings, best first, so that the worst stand next to the verdict.

    A promise that was not kept shows up to `evidence` of its witnesses; of what every run is judged by, what was kept
    is one line.
    """
    out.print()
    kept = [f for f in view.findings if f.status == "pass"]
    for finding in kept:
        if finding.own:
            _print_all(out, finding_lines(finding, evidence))
    if common := [f.promise for f in kept if not f.own]:
        sign, colour = SIGNS["pass"]
        out.print(line((f"{sign} ", colour), (f"and {count(len(common), 'promise')} of every run", "bold")))
        more = [f"and {len(common) - 4} more"] if len(common) > 4 else []
        out.print(line(f"    {'; '.join([*common[:4], *more])}"))
    for finding in reversed(view.findings):
        if finding.status != "pass":
            _print_all(out, finding_lines(finding, evidence))


def _print_all(out: Out, lines: Iterable[Line]) -> None:
    for each in lines:
        out.print(each)


def finding_lines(finding: FindingView, evidence: int) -> list[Line]:
    """A finding as lines: sign and promise, what was seen, and for a broken one its place and the records around."""
    sign, colour = SIGNS[finding.status]
    lines = [line((f"{sign} ", colour), (finding.promise, "bold")), line(f"    {finding.seen}")]
    if finding.status == "pass":
        return lines
    if finding.place:
        lines.append(line((f"    {finding.place}", "dim")))
    if finding.offenders_count:
        lines.append(
            line((f"    not kept by {some(finding.offenders[:6] + [''] * (finding.offenders_count - 6))}", colour))
        )
    for item in finding.evidence[:evidence]:
        lines += evidence_lines(item)
    return lines


def evidence_lines(evidence: Evidence) -> list[Line]:
    """Some records, with the one that matters pointed at."""
    wide = max(len(e.who) for e in evidence.entries)
    return [line((f"      {evidence.title}:", "dim")), *(_entry(e, wide) for e in evidence.entries)]


def _entry(entry: Entry, wide: int) -> Line:
    pointer = ">" if entry.chosen else " "
    text = f"    {pointer} {instant(entry.t_ns)}  {entry.who:<{wide}}  {entry.event:<12}  {entry.text}"
    return line((text, "bold" if entry.chosen else "dim"))


def tell_end(out: Out, view: View, directory: str) -> None:
    """What is told of a run that is over: its findings, then its verdict."""
    tell_findings(out, view)
    tell_verdict(out, view, directory)


def tell_verdict(out: Out, view: View, directory: str) -> None:
    """The last lines: the word, the seed, where everything is (if it was kept), and how to run it again."""
    head = view.head
    _, colour = SIGNS[head.status]
    tally = Counter(f.status for f in view.findings)
    kept = ", ".join(f"{tally[status]} {word}" for status, word in WORDS.items() if tally[status])
    facts = filter(None, [kept or "no findings", head.ends, duration(head.duration_ns), f"seed {head.seed}"])
    out.print()
    out.print(
        line(
            ("INTERRUPTED" if head.why == "interrupted" else head.status.upper(), f"bold {colour}"),
            (f"  {visible(head.name)}", "bold"),
            f"  {' · '.join(facts)}",
        )
    )
    report = f"{directory}/report.html" if directory else ""
    for word, text in [("run", directory), ("report", report), ("again", head.replay)]:
        if text:
            out.print(line((f"  {word:<7}", "dim"), visible(text)))


def banner(seed: int) -> Line:
    """The first words of the door."""
    return line(f"midsession {__version__} · seed {seed}")


__all__ = ["Account", "banner", "console", "tell_end", "tell_findings", "tell_verdict"]
