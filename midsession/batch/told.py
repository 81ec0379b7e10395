"""One run, told while it goes on, and what is left of it to tell: a few words that outlive its records.

What a batch of runs keeps of each is small on purpose: it goes from a worker process to the command, and there may be
thousands of them.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from dataclasses import dataclass, replace

from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.core.verdict import Status
from midsession.door import INTERRUPTED, Bench, Run
from midsession.errors import EnvironmentLacks, MidsessionError, lacks_files
from midsession.report.paint import Out
from midsession.report.terminal import Account, console, tell_end
from midsession.runner import Listener, RunResult

LACKS = "lacks"
"""The word for a run that this machine cannot make."""
STOPPED = "interrupted"
"""The word for a run that was ended by Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one run. `word` is its status, `interrupted` or `lacks`; `why` its first finding that is no pass,
    `ends` how its clients ended, where not all ended well.

    `directory` is empty when it was not kept; `error` says why there is no verdict at all. `account` is what is still
    to be shown to people: empty when they saw it happen.
    """

    word: str
    exit_code: int
    seed: int
    directory: str = ""
    replay: str = ""
    duration_ns: int = 0
    why: str = ""
    ends: str = ""
    error: str = ""
    account: str = ""


async def perform_unseen(bench: Bench, plan: Plan) -> Told:
    """Run a plan and keep its account for later."""
    account = io.StringIO()
    told = await perform(bench, plan, console(account))
    return replace(told, account=account.getvalue())


async def perform(bench: Bench, plan: Plan, out: Out) -> Told:
    """Run a plan on a bench and tell of it on `out`. An error that a user can mend is told in what is returned."""
    account = Account(out, plan, bench.testbed.name)
    account.open()
    try:
        with account:
            run = await bench.perform(plan, _Teller(account))
    except MidsessionError as error:
        word = LACKS if isinstance(error, EnvironmentLacks) else Status.ERROR
        return Told(word, error.exit_code, plan.seed, error=str(error))
    except OSError as error:
        if (lacks := lacks_files(error)) is not None:
            return Told(LACKS, lacks.exit_code, plan.seed, error=str(lacks))
        return Told(Status.ERROR, MidsessionError.exit_code, plan.seed, error=str(error))
    tell_end(out, run.view, run.kept_in)
    return _told(run)


def _told(run: Run) -> Told:
    head = run.view.head
    word = STOPPED if run.exit_code == INTERRUPTED else head.status
    bad = next((f"{f.promise}: {f.seen}" for f in run.view.findings if f.status != Status.PASS), "")
    facts = (head.seed, run.kept_in, head.replay, head.duration_ns)
    return Told(word, run.exit_code, *facts, why=bad, ends=head.ends)


class _Teller(Listener):
    """Passes a run's records and phases to its account, in the event loop's next round.

    Not at once: the runner tells of a trigger on its way to the fault, and a fault must not wait for a line of text.
    """

    wants = frozenset({Event.INJECTED, Event.CONNECTED, Event.LOST, Event.GAVE_UP, Event.PROTOCOL_ERROR})

    def __init__(self, account: Account) -> None:
        self._account = account
        self._untold: deque[Record | str] = deque()

    def on_phase(self, phase: str) -> None:
        self._later(phase)

    def on_record(self, record: Record) -> None:
        self._later(record)

    def on_end(self, result: RunResult) -> None:
        self._tell()

    def _later(self, news: Record | str) -> None:
        if not self._untold:
            asyncio.get_running_loop().call_soon(self._tell)
        self._untold.append(news)

    def _tell(self) -> None:
        while self._untold:
            news = self._untold.popleft()
            if isinstance(news, str):
                self._account.phase(news)
            else:
                self._account.hear(news)
