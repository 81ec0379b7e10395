"""Worker processes that perform runs beside each other, for `-n`.

Processes, not coroutines: a run's conductor must answer a trigger within a millisecond, and would not while another run
is being judged in the same process. A worker has a testbed of its own and makes one run after the other on it. It reads
plans from its standard input, one a line, answers each with one line, and ends with its input: so it never outlives
the command that started it, however that ends.
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

from midsession.batch.told import Told, perform_unseen
from midsession.core.plan import Plan
from midsession.core.verdict import Status
from midsession.door import Bench
from midsession.errors import HarnessError
from midsession.keep import Keep

LONGEST_LINE = 1 << 28


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
        self._idle: list[Process] = []

    async def perform(self, plan: Plan) -> Told:
        """Run a plan in a worker that has nothing to do, or in a new one."""
        worker = self._idle.pop() if self._idle else await self._start()
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(plan.to_json() + b"\n")
        line = await worker.stdout.readline()
        if not line:
            code = await worker.wait()
            error = HarnessError(f"a worker process died (exit code {code}) in the middle of a run", "worker-died")
            return Told(Status.ERROR, error.exit_code, plan.seed, error=str(error))
        self._idle.append(worker)
        return msgspec.json.decode(line, type=Told)

    def interrupt(self) -> None:
        """Have every run that is under way end in order; the second time: at once."""
        for worker in self._all:
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
        return worker


# --- in a worker ---------------------------------------------------------------------------------------------------


async def work(order: Order, answers: int) -> None:
    """Perform plans from standard input until it ends; write the answers to the descriptor `answers`."""
    bench = order.bench()
    plans = asyncio.StreamReader(LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Plans(plans), sys.stdin.buffer)
    try:
        while line := await plans.readline():
            told = await perform_unseen(bench, Plan.from_json(line))
            _write(answers, msgspec.json.encode(told) + b"\n")
    finally:
        await bench.shut()


class _Plans(asyncio.StreamReaderProtocol):
    """The command's end of the pipe. When it goes in the middle of a run, nobody waits for that run any more."""

    def eof_received(self) -> bool | None:
        if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().eof_received()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main() -> None:
    """A worker. Between two runs there is nothing that an interrupt could end."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints in here must not stand among the answers
    with suppress(BrokenPipeError):  # the command died: nobody wants the answer
        asyncio.run(work(order, answers))


if __name__ == "__main__":
    main()
