"""How a run ends: heal, stop, collect, close, each within its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midsession.agent.protocol import Finish, Request, Stop
from midsession.core.record import Event
from midsession.errors import HarnessError, MidsessionError
from midsession.ledger import wall_clock
from midsession.runner.beginning import Beginning
from midsession.runner.breaking import REFUSED
from midsession.runner.life import ANSWER_WITHIN_S
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
"""What a stage may always take. The sums of the last two columns lie within the promise (`GONE_WITHIN_S`)."""
GONE_WITHIN_S = (7.0, 2.0)
"""After one interrupt, and after two."""
_LAST_WORDS_S = 0.3
"""What of the promise is kept for what comes after the last stage."""


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
            await self._stop("stop the clients", [*self._cast.fleets, *self._cast.foreign])
            await self._stop("stop the services", list(self._cast.services))
            await self._stage("finish", self._finish())
            self._listener.on_phase("collect")
            await self._stage("collect", self._testbed.collect(self._place.directory))
        await self._stage("close", self._close(), last=True)
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

    async def _stop(self, stage: str, hosts: Sequence[str]) -> None:
        """Stop the programs of these hosts, in a stage that gives each the grace that it was promised."""
        graces_s = {n: self._cast.grace_s(n) for n in hosts if self._cast.programs[n].running}
        needed_s = max(graces_s.values(), default=0.0) + ANSWER_WITHIN_S
        await self._stage(stage, self._stop_all(graces_s), needed_s)

    async def _stop_all(self, graces_s: Mapping[str, float]) -> None:
        wrong = await _ask_all((self._cast.host(n), Stop(id=0, grace_s=grace_s)) for n, grace_s in graces_s.items())
        for error in wrong:
            if not (isinstance(error, HarnessError) and error.slug == REFUSED):  # else it went by itself
                raise error

    async def _finish(self) -> None:
        """Every agent's log gets its trailer, also where nobody played."""
        hosts = (*self._testbed.services.values(), *self._testbed.foreign.values(), *self._testbed.fleets)
        for error in await _ask_all((host, Finish(id=0)) for host in hosts):
            raise error

    async def _close(self) -> None:
        closing = asyncio.ensure_future(self._testbed.close())
        await asyncio.sleep(0)  # it is under way
        for work in self._meanwhile if self._opened else ():
            work()
        await closing

    async def _drop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def _stage(
        self, name: str, work: Coroutine[Any, Any, None], needed_s: float = 0.0, *, last: bool = False
    ) -> None:
        """Do one thing of the end, within its limits, but in no less than it needs. What goes wrong is a problem, and
        keeps nothing else from being done. An interrupt meanwhile tightens the limit that holds from there on."""
        task = asyncio.ensure_future(work)
        while not task.done():
            limit_s = self._limit_s(name, needed_s, last)
            done, _ = await asyncio.wait({task, self._hurry}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
                self._is_cut(name, limit_s)
                return
        if task.cancelled():
            self._problem(f"{name}: broken off")
            return
        with self._going_on(name):
            task.result()

    def _limit_s(self, name: str, needed_s: float, last: bool) -> float:
        limit_s = _END_LIMITS[name].at(self._urgency)
        if not self._urgency:
            return max(limit_s, needed_s)
        left_s = (self._due_ns - self._clock()) / 1e9 - _LAST_WORDS_S
        return max(limit_s, left_s) if last else limit_s

    def _is_cut(self, name: str, limit_s: float) -> None:
        """What an interrupt cuts short is no failure: whoever asked for it is told. What was left out is not."""
        if not self._urgency:
            self._problem(f"{name}: not within {limit_s:g} s")
        elif limit_s:
            self._write(Event.NOTE, {"text": f"{name}: cut short by the interrupt, after {limit_s:.1f} s"})

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
