"""Worker processes that perform runs beside each other, for `-n`.

Processes, not coroutines: a run's conductor must answer a trigger within a millisecond, and would not while another run
is being judged in the same process. A worker has a testbed of its own and makes one run after the other on it. It says
that it is ready, reads plans from its standard input, one a line, answers each with one line, and ends with its input:
so it never outlives the command that started it, however that ends.

An interrupt reaches a worker only once it is ready, and is kept there until there is a run to end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import msgspec

from midsession.batch.told import STOPPED, Told, perform_unseen
from midsession.core.plan import Plan
from midsession.core.verdict import Status
from midsession.door import INTERRUPTED, Bench
from midsession.errors import HarnessError
from midsession.interrupts import heard
from midsession.keep import Keep

LONGEST_LINE = 1 << 28
READY = b"ready\n"
"""The first line of a worker: from now on it hears of interrupts."""


class Order(msgspec.Struct, frozen=True):
    """What all runs of a worker have in common; its argument, as JSON."""

    testbed: str
    runs: str
    keep: Keep

    def bench(self) -> Bench:
        """What performs them."""
        return Bench.of(self.testbed, Path(self.runs), keep=self.keep)


class Workers:
    """As many worker processes as runs are to be made at once. `shut` them in the end."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._all: list[Process] = []
        self._ready: list[Process] = []
        self._idle: list[Process] = []
        self._interrupted = False

    async def perform(self, plan: Plan) -> Told:
        """Run a plan in a worker that has nothing to do, or in a new one."""
        try:
            worker = self._idle.pop() if self._idle else await self._start()
            if self._interrupted:
                return Told(STOPPED, INTERRUPTED, plan.seed)
            told = msgspec.json.decode(await _asked(worker, plan.to_json()), type=Told)
        except HarnessError as error:
            return Told(Status.ERROR, error.exit_code, plan.seed, error=str(error))
        self._idle.append(worker)
        return told

    def interrupt(self) -> None:
        """Have every run that is under way end in order; the second time: at once."""
        self._interrupted = True
        for worker in self._ready:
            if worker.returncode is None:
                worker.send_signal(signal.SIGINT)

    async def shut(self) -> None:
        """End the workers, and see them gone."""
        for worker in self._all:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in self._all:
            await worker.wait()

    async def _start(self) -> Process:
        # A session of its own: a terminal's Ctrl-C goes to the command alone, which passes it on.
        command = [sys.executable, "-m", "midsession.batch.workers", msgspec.json.encode(self._order).decode()]
        worker = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE, start_new_session=True
        )
        self._all.append(worker)
        await _answer(worker, "before it was ready")
        self._ready.append(worker)
        return worker


async def _asked(worker: Process, plan: bytes) -> bytes:
    assert worker.stdin is not None
    worker.stdin.write(plan + b"\n")
    return await _answer(worker, "in the middle of a run")


async def _answer(worker: Process, when: str) -> bytes:
    """Its next line. Raises HarnessError when it dies instead."""
    assert worker.stdout is not None
    if line := await worker.stdout.readline():
        return line
    code = await worker.wait()
    raise HarnessError(f"a worker process died (exit code {code}) {when}", "worker-died")


# --- in a worker ---------------------------------------------------------------------------------------------------


async def work(order: Order, answers: int) -> None:
    """Perform plans from standard input until it ends; write the answers to the descriptor `answers`."""
    bench = order.bench()
    lines = asyncio.StreamReader(LONGEST_LINE)
    plans = _Plans(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: plans, sys.stdin.buffer)
    try:
        while line := await lines.readline():
            plans.runs = True
            told = await perform_unseen(bench, Plan.from_json(line))
            plans.runs = False
            _write(answers, msgspec.json.encode(told) + b"\n")
    finally:
        await bench.shut()


class _Plans(asyncio.StreamReaderProtocol):
    """The command's end of the pipe. When it goes while a run is under way (`runs`), the command was killed, and so is
    this process: what it holds is taken away by those that watch over it, as if it were the command itself."""

    runs = False

    def eof_received(self) -> bool | None:
        if self.runs:
            signal.raise_signal(signal.SIGKILL)
        return super().eof_received()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """A worker. Between two runs there is nothing that an interrupt could end: it is kept for the next."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints in here must not stand among the answers
    with heard() as interrupts:
        with suppress(BrokenPipeError):  # the command died: nobody wants the answer
            _write(answers, READY)
            asyncio.run(work(order, answers))
        interrupts.obeyed()


if __name__ == "__main__":
    main()
