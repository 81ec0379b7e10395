"""The live account: plain lines where no terminal is, nothing from the wire that acts on one where one is."""

from __future__ import annotations

import io

import pytest

from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.report import terminal
from midsession.report.batch import tell_batch
from midsession.report.model import view
from tests.report.batches import batch
from tests.report.crowd import INFO, crowd, verdict_on

SECOND = 1_000_000_000
ALL_BYTES = "".join(map(chr, range(256))) + "\u202e\u2066\u200b\x1b]0;title\x07[bold red]"


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def told(history: History, file: io.StringIO, said: str = "") -> str:
    out = terminal.console(file)
    with terminal.Account(out, history.plan, "compose") as account:
        account.open()
        for record in history:
            account.hear(record)
    shown = view(history, verdict_on(history, said), INFO, "midsession run x --seed 7")
    terminal.tell_findings(out, shown)
    terminal.tell_verdict(out, shown, "runs/x")
    tell_batch(out, batch([("pass", "a"), ("lacks", said)]), said)
    return file.getvalue()


def test_a_log_is_plain_lines() -> None:
    """No escape sequence, no carriage return, where the output is no terminal."""
    text = told(crowd(5), io.StringIO())
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.count("\n") > 30


def test_every_step_is_told_with_its_cause_its_lag_and_its_effect() -> None:
    """What a person wants to know of a fault, in the order in which it happened."""
    text = told(crowd(5), io.StringIO())
    parts = [
        "seed 7 · testbed compose · 5 clients",
        "crash        kill server (SIGKILL), because talkers-2 replied",
        "crash        injected, 600 µs after that record",
        "0 of 5 connected",
        "crash        took effect after 1.20 ms: server exited",
        "return       start server, because 2.00 s after crash",
        "5 of 5 connected",
        "ended        done",
    ]
    places = [text.index(part) if part.startswith(("seed", "0 of")) else text.rindex(part) for part in parts]
    assert places == sorted(places)


def test_what_proves_a_step_is_told_with_the_step_alone() -> None:
    """The runner tells a witness right before the step that it proves; what proves nothing has a line of its own."""
    out, history = io.StringIO(), crowd(5)
    with terminal.Account(terminal.console(out), history.plan, "compose") as account:
        for record in history:
            if record.event == "effective":
                witness = history.find(record.fields["witness"])
                assert witness is not None
                account.hear(witness)
            if record.event != "exited":
                account.hear(record)
    lines = out.getvalue().splitlines()
    assert sum("took effect after 1.20 ms: server exited" in line for line in lines) == 1
    assert [line for line in lines if "server       exited" in line] == []
    assert sum("server       listening" in line for line in lines) == 2


def test_a_crowd_that_comes_and_goes_one_by_one_is_told_now_and_then() -> None:
    """None, one, none of them is connected, a hundred times in half a second: not each change is told."""
    out, plan = io.StringIO(), crowd(100).plan
    name = next(iter(plan.clients))
    with terminal.Account(terminal.console(out), plan, "netns") as account:
        account.hear(Record(Event.BEGUN, 1, SECOND))
        for n in range(100):
            for event in (Event.CONNECTED, Event.DONE):
                account.hear(Record(event, n, SECOND + n * 5_000_000, name))
        account.hear(Record(Event.ENDED, 2, 2 * SECOND, fields={"why": "done"}))
    told = [line for line in out.getvalue().splitlines() if "  clients  " in line]
    assert 5 <= len(told) <= 12
    assert told[-1].endswith("100 done")


def test_findings_and_verdict_come_last_with_seed_and_replay() -> None:
    """The kept first, the broken next to the verdict, with place, offenders and the records around."""
    text = told(crowd(5), io.StringIO())
    order = ["✓ every talkers meets lost", "? never", "✗ every talkers meets connected", "x.scenario.yaml:45:5"]
    order += ["not kept by talkers-3 and talkers-4", ">   1.502 s  talkers-2 #1  lost", "FAIL  ", "seed 7\n"]
    order += ["report runs/x/report.html", "again  midsession run x --seed 7", "2 runs: 1 pass, 1 lacks · seed 7"]
    places = [text.rindex(part) if part == "seed 7\n" else text.index(part) for part in order]
    assert places[:-4] == sorted(places[:-4])
    assert places[-3:] == sorted(places[-3:])


@pytest.mark.parametrize("file", [io.StringIO, Terminal], ids=["log", "terminal"])
def test_no_byte_from_the_wire_acts_on_the_display(file: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """All 256 bytes, OSC, bidi overrides, markup: no control in the output that a harmless text has not."""
    monkeypatch.setenv("TERM", "xterm-256color")
    harmless = controls(told(crowd(3, said="Hi"), file(), "Hi"))
    hostile = told(crowd(3, said=ALL_BYTES), file(), ALL_BYTES)
    assert controls(hostile) <= harmless
    assert "[bold red]" in hostile
    assert "\\x1b]0;title\\x07" in hostile


def controls(text: str) -> set[str]:
    return {c for c in text if not c.isprintable() and c not in "\n\xa0"} | ({"]"} if "\x1b]" in text else set())


def test_a_terminal_has_colours_and_no_colour_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours on a terminal, unless NO_COLOR is set."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in told(crowd(2), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in told(crowd(2), Terminal())
