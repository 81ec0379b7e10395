"""The runner: carries out a plan on a testbed. The only place that waits.

It makes the run directory, has the testbed make hosts, starts services and fleets, feeds every record to the conductor
and carries out its commands through the hosts' agents, and at the end heals, stops and collects everything. What it
leaves is a run directory; judging that is somebody else's.

Hot path: from a record that a host pushed to the request of a fault there is no await. The intent (`triggered`) is in
the log first, at the price of one write(2).

Interrupts (SIGINT, SIGTERM): the first ends the run in order within 7 s, logs kept; a second within 2 s. One that comes
while it is being taken down makes it an interrupted one too.

Its parts are layers, each a module: `life`, `breaking`, `conducting`, `beginning`, `ending`, and here the whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from midsession.core.plan import Plan
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.interrupts import heard
from midsession.ledger import RunPlace, cannot_write
from midsession.runner.beginning import FAULT_EVENTS
from midsession.runner.ending import GONE_WITHIN_S, Ending
from midsession.runner.life import Stopped, in_words
from midsession.runner.listener import Listener, RunResult
from midsession.testbeds import Testbed

__all__ = ["FAULT_EVENTS", "Listener", "RunResult", "run", "run_plan"]


async def run_plan(
    plan: Plan,
    testbed: Testbed,
    runs_directory: Path,
    listener: Listener | None = None,
    *,
    clock: Callable[[], int] = time.monotonic_ns,
    meanwhile: Iterable[Callable[[], object]] = (),
) -> RunResult:
    """Carry out a plan. `clock` is CLOCK_MONOTONIC in ns, and must be that of the running event loop.

    Of `meanwhile` the first is called while the hosts come up, the others while they go: the only times of a run at
    which this process may be busy.

    Raises EnvironmentLacks when the testbed cannot serve the plan; everything is taken down then, and no directory is
    left. Raises HarnessError when no run directory can be made. All else that goes wrong is in the result.
    """
    try:
        place = RunPlace.make(plan, runs_directory)
        run = _Run(plan, testbed, place, listener or Listener(), clock, meanwhile)
    except OSError as error:
        raise cannot_write(runs_directory, error) from None
    with heard(run.interrupt) as interrupts:
        result = await run.carry_out()
        if result.why_ended == "interrupted":
            interrupts.obeyed()
        return result


def run(plan: Plan, testbed: Testbed, runs_directory: Path, listener: Listener | None = None) -> RunResult:
    """`run_plan` on an event loop of its own; for a testbed that serves this plan alone."""
    return asyncio.run(run_plan(plan, testbed, runs_directory, listener))


class _Run(Ending):
    """One run, from the first host to the last file."""

    async def carry_out(self) -> RunResult:
        """From the first host to the last file."""
        self._listener.on_open(self._plan, self._place.run, self._place.directory)
        lacking: EnvironmentLacks | None = None
        try:
            await self._set_up()
            await self._play()
        except Stopped:
            pass
        except EnvironmentLacks as error:
            lacking = error
        except (HarnessError, OSError) as error:
            self._problem(in_words(error))
        finally:
            result = await self._take_down()
        if self._crash:
            raise self._crash
        if lacking:
            self._place.remove()
            raise lacking
        return result

    def interrupt(self) -> None:
        """End the run soon; the second time: at once. May be called from a signal's handler."""
        self._urgency = min(self._urgency + 1, 2)
        self._loop.call_soon_threadsafe(self._hurry_up)

    def _hurry_up(self) -> None:
        self._due_ns = self._clock() + round(GONE_WITHIN_S[self._urgency - 1] * 1e9)
        self._end("interrupted")
        hurry, self._hurry = self._hurry, self._loop.create_future()
        hurry.set_result(None)
