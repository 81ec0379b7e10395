"""What a run stands on: its log, its end, its waits and its tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from midsession.core import conductor as c
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.errors import HarnessError
from midsession.faults import build
from midsession.injection import Connections, Injection, Stage
from midsession.ledger import Ledger, RunPlace, cannot_write
from midsession.runner.cast import Cast
from midsession.runner.listener import Later, Listener
from midsession.testbeds import Testbed

T = TypeVar("T")

ANSWER_WITHIN_S = 10.0


def in_words(error: HarnessError | OSError) -> str:
    """What failed while the run was under way, for its problems."""
    return str(HarnessError(f"the system refused: {error}") if isinstance(error, OSError) else error)


class Stopped(Exception):
    """The run is over while something was awaited."""


class Life:
    """One run. Each part of the runner builds on the one before it. Its methods are called on one event loop."""

    def __init__(
        self,
        plan: Plan,
        testbed: Testbed,
        place: RunPlace,
        listener: Listener,
        clock: Callable[[], int],
        meanwhile: Iterable[Callable[[], object]],
    ) -> None:
        self._plan, self._testbed, self._place, self._clock = plan, testbed, place, clock
        self._meanwhile = iter(meanwhile)
        self._ledger = Ledger(place, plan)
        self._conductor = c.Conductor(plan)
        self._faults = {s.id: build(s.verb, s.args) for s in plan.timeline if c.is_fault(s)}
        self._loop = asyncio.get_running_loop()
        self._listener = Later(listener, self._loop, self._crashing)
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._hurry: asyncio.Future[None] = self._loop.create_future()
        self._urgency = 0
        """How many interrupts there were, of which no more than two count."""
        self._due_ns = 0
        """By when all is to be gone, once there was one."""
        self._ending = False
        self._opened = False
        self._closed = False
        self._cast = Cast(plan)
        self._injections: dict[str, Injection] = {}
        """Those that have not shown all their witnesses."""
        self._in_force: dict[str, Injection] = {}
        """Those that have something to heal."""
        self._moving: dict[str, list[asyncio.Task[None]]] = {}
        self._connections = Connections()
        services = frozenset(service.name for service in plan.services)
        self._started_later = frozenset(service.name for service in plan.services if not service.autostart)
        """The services that a step starts, if anybody does."""
        played = {name: group.name for group in plan.scripted for name in group.names}
        self._scenery = Stage(services, played, self._cast.hosts_of, self._connections)
        self._heard = frozenset[str]()
        """What services are listened to for, once they are up."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns: int | None = None
        self._problems: list[str] = []
        self._disk_failed = False
        self._crash: Exception | None = None
        self._facts: dict[str, Any] = {}

    def _observe(self, record: Record) -> None:
        """Let the conductor see a record that the run wrote itself: a later part knows how."""
        raise NotImplementedError

    def _end(self, why: str) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _problem(self, text: str) -> None:
        self._problems.append(text)
        self._end("error")
        self._write(Event.NOTE, {"text": text, "problem": True})
        self._listener.on_problem(text)

    def _write(self, event: Event, fields: dict[str, Any], t_ns: int | None = None) -> Record:
        record = self._ledger.write(event, fields, self._clock() if t_ns is None else t_ns)
        self._listener.on_record(record)
        if self._ledger.failure is not None and not self._disk_failed:
            self._disk_fails(self._ledger.failure)
        return record

    def _disk_fails(self, error: OSError) -> None:
        """Said once; the run ends, and what can still be written is."""
        self._disk_failed = True
        self._problem(str(cannot_write(self._place.directory, error)))

    def _write_and_observe(self, event: Event, fields: dict[str, Any]) -> None:
        self._observe(self._write(event, fields))

    def _save(self, **facts: Any) -> None:
        plan = self._plan
        known = {"run": self._place.run, "name": plan.name, "seed": plan.seed, "plan": plan.hash}
        where = {"testbed": self._testbed.name, "runs": str(self._place.directory.parent)}
        self._facts = {**known, **where, **self._facts, **facts}
        try:
            self._ledger.save_run(self._facts)
        except OSError as error:
            if not self._disk_failed:
                self._disk_fails(error)

    async def _until(
        self, awaitable: Awaitable[T], within_s: float, condition: str, more: Callable[[], str] = str
    ) -> T:
        """Wait for a condition, but not beyond the end of the run. Raises HarnessError after `within_s`, naming it and
        what there is `more` to say of it then."""
        task = asyncio.ensure_future(awaitable)
        waiting: set[asyncio.Future[Any]] = {task, self._over}
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if self._over.done():
            raise Stopped
        raise HarnessError(f"{condition}: not within {within_s:g} s{more()}", "wait-ran-out")

    async def _answer(self, doing: Awaitable[T], condition: str, own_time_s: float = 0.0) -> T:
        """Wait for an agent's answer, which may take `own_time_s` of its own."""
        within_s = ANSWER_WITHIN_S + own_time_s
        try:
            async with asyncio.timeout(within_s):
                return await doing
        except TimeoutError:
            raise HarnessError(f"{condition}: no answer within {within_s:g} s", "wait-ran-out") from None

    def _at(self, instant_ns: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(max(0, instant_ns - self._clock()) / 1e9, callback)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_is_done)
        return task

    def _task_is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, HarnessError | OSError):
            self._problem(in_words(error))
        elif isinstance(error, Exception):
            self._crashes(error)

    @contextlib.contextmanager
    def _crashing(self) -> Iterator[None]:
        """A mistake of ours in a callback, or a listener's, ends the run in order, and is raised at its end: whoever
        calls us must go on, since the hosts are still to be taken down."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised at the end
            self._crashes(error)

    def _crashes(self, error: Exception) -> None:
        """The first mistake is the one that is raised: the others may come of it."""
        self._crash = self._crash or error
        self._end("error")
