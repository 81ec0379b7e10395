"""What runs the scenarios of a pytest process. The plugin imports it when it meets the first one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from midsession.core.plan import Plan
from midsession.door import Bench, Run
from midsession.keep import Keep
from midsession.report.failure import ends
from midsession.testbeds.registry import choose


class Engine:
    """The testbeds of a pytest process, each made for the first scenario that needs it, and their event loop."""

    def __init__(self, seed: int, testbed: str, runs: Path, keep: str) -> None:
        self.seed = seed
        self._testbed, self._runs, self._keep = testbed, runs, Keep(keep)
        self._benches: dict[str, Bench] = {}
        self._loop = asyncio.Runner()
        self._here = Path.cwd()

    def perform(self, plan: Plan) -> Run:
        """Run a plan on the testbed that serves it. Raises KeyboardInterrupt when Ctrl-C ended it.

        What plan and options name is where it was when they were read, wherever a fixture has gone since.
        """
        with contextlib.chdir(self._here):
            return self._perform(plan)

    def _perform(self, plan: Plan) -> Run:
        running = self._loop.get_loop().create_task(self._bench(plan).perform(plan))
        try:
            run = self._loop.run(_result(running))
        except pytest.fail.Exception as broken_off:  # pytest-timeout, from its signal's handler
            ended = self._loop.run(_interrupted(running))
            where = ends(ended.view, ended.kept_in) if ended else []
            lines = [f"{plan.name} (seed {plan.seed}): {broken_off.msg}", *where]
        else:
            if run.why_ended == "interrupted":
                raise KeyboardInterrupt
            return run
        pytest.fail("\n".join(lines), pytrace=False)

    def shut(self) -> None:
        """Let go of the testbeds."""
        for bench in self._benches.values():
            self._loop.run(bench.shut())
        self._loop.close()

    def _bench(self, plan: Plan) -> Bench:
        name = choose(self._testbed, [plan])
        if name not in self._benches:
            self._benches[name] = Bench.of(name, self._runs, keep=self._keep)
        return self._benches[name]


async def _result(running: asyncio.Task[Run]) -> Run:
    return await running


async def _interrupted(running: asyncio.Task[Run]) -> Run | None:
    """Have a run that nobody waits for any more end as Ctrl-C ends it: in order, with its logs and reports."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # else it is over already, and being judged
        signal.raise_signal(signal.SIGINT)
    [ended] = await asyncio.gather(running, return_exceptions=True)
    return None if isinstance(ended, BaseException) else ended
