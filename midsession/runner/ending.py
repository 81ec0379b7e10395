"""How a run ends: heal, stop, collect, close, each within its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from midsession.agent.protocol import Finish, Request, Stop
from midsession.core.record import Event
from midsession.errors import HarnessError, MidsessionError
from midsession.ledger import wall_clock
from midsession.runner.beginning import Beginning
from midsession.runner.breaking import REFUSED
from midsession.runner.listener import RunResult
from midsession.testbeds import Host


@dataclass(frozen=True, slots=True)
class _Limits:
    """How long a stage of the end may take: in order, after one interrupt, after two (0: it is left out)."""

    normal_s: float
    interrupted_s: float
    hurried_s: float

    def at(self, urgency: int) -> float:
        return (self.normal_s, self.interrupted_s, self.hurried_s)[urgency]


_END_LIMITS = {
    "heal": _Limits(10.0, 0.5, 0.2),
    "stop the clients": _Limits(30.0, 1.0, 0.0),
    "stop the services": _Limits(30.0, 1.5, 0.0),
    "finish": _Limits(10.0, 1.0, 0.4),
    "collect": _Limits(120.0, 1.5, 0.6),
    "close": _Limits(60.0, 1.0, 0.6),
}
"""The sums of the last two columns are the promise: 7 s after one interrupt, 2 s after two."""


class Ending(Beginning):
    """Takes everything down, whatever has happened."""

    async def _take_down(self) -> RunResult:
        self._end("error")  # unless there is a better reason by now
        self._listener.on_phase("end")
        unfired = self._conclude()
        self._ending = True
        self._injections.clear()
        if self._timer is not None:
            self._timer.cancel()
        await self._drop_tasks()
        if self._opened:
            await self._stage("heal", self._heal_all())
            await self._stage("stop the clients", self._stop([*self._cast.fleets, *self._cast.foreign]))
            await self._stage("stop the services", self._stop(list(self._cast.services)))
            await self._stage("finish", self._finish())
            self._listener.on_phase("collect")
            await self._stage("collect", self._testbed.collect(self._place.directory))
        await self._stage("close", self._testbed.close())
        await self._drop_tasks()
        self._closed = True
        self._ledger.close()
        return self._result(unfired)

    def _conclude(self) -> list[dict[str, str]]:
        """Write why it is over; the steps that never fired."""
        unfired: list[dict[str, str]] = []
        with self._going_on("what never fired"):
            unfired = self._conductor.missing()
        self._write(Event.ENDED, {"why": self._over.result(), "unfired": unfired})
        return unfired

    def _result(self, unfired: list[dict[str, str]]) -> RunResult:
        failed = self._problems or self._crash is not None
        why = "interrupted" if self._urgency else "error" if failed else self._over.result()
        result = RunResult(self._place.run, self._place.directory, why, unfired, self._problems)
        self._save(ended=wall_clock(), why_ended=why, unfired=unfired, problems=self._problems)
        self._listener.on_end(result)
        return result

    async def _heal_all(self) -> None:
        cures = self._heal("all")
        if cures:
            await asyncio.wait(cures)

    async def _stop(self, hosts: Sequence[str]) -> None:
        running = [name for name in hosts if self._cast.programs[name].running]
        wrong = await _ask_all(
            (self._cast.host(name), Stop(id=0, grace_s=self._cast.grace_s(name))) for name in running
        )
        for error in wrong:
            if not (isinstance(error, HarnessError) and error.slug == REFUSED):  # else it went by itself
                raise error

    async def _finish(self) -> None:
        """Every agent's log gets its trailer, also where nobody played."""
        hosts = (*self._testbed.services.values(), *self._testbed.foreign.values(), *self._testbed.fleets)
        for error in await _ask_all((host, Finish(id=0)) for host in hosts):
            raise error

    async def _drop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def _stage(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Do one thing of the end, within its limits; what goes wrong is a problem and does not keep the rest from
        being done. An interrupt meanwhile tightens the limit that holds from there on."""
        task = asyncio.ensure_future(work)
        while not task.done():
            limit_s = _END_LIMITS[name].at(self._urgency)
            done, _ = await asyncio.wait({task, self._hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
                if limit_s:
                    self._problem(f"{name}: not within {limit_s:g} s")
                return
        if task.cancelled():
            self._problem(f"{name}: broken off")
            return
        with self._going_on(name):
            task.result()

    @contextlib.contextmanager
    def _going_on(self, name: str) -> Iterator[None]:
        """What goes wrong in here is a problem; a mistake of ours is raised at the end besides."""
        try:
            yield
        except (MidsessionError, OSError, ExceptionGroup) as error:
            self._problem(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - raised at the end
            self._problem(f"{name}: {error!r}")
            self._crashes(error)


async def _ask_all(asked: Iterable[tuple[Host, Request]]) -> list[BaseException]:
    """Ask each of these hosts, and wait for all of them; what went wrong."""

    async def ask(host: Host, request: Request) -> None:
        await host.ask(request)

    outcomes = await asyncio.gather(*(ask(*each) for each in asked), return_exceptions=True)
    return [outcome for outcome in outcomes if outcome is not None]
