"""The conductor: what the run does next, decided from nothing but the records that came and the time.

It does no I/O and has no clock: `begin`, `observe` and `tick` take the time and return commands, which
`midsession.runner` carries out in their order. The same conductor drives real hosts, a simulated world, and the replay
of a stored run.

Its own verbs are `signal`, `heal`, `run` and `note`, each with `args` of one key, `target`: the signal's name, a step
id or `all`, a group's name, the text. Every other verb is a fault of the registry, which it does not know.

What it must be told besides the clients' and agents' records, as records of the runner's own: `effective` when a
fault's witness was seen, a `note` with the field `failed` (a step id) when a fault could not be injected, and one with
the field `gone` (a list of clients) when the program that played them was ended by a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from midsession.core import plan
from midsession.core.record import CLIENT_ENDS, Event, Record
from midsession.core.triggers import Hearing, Progress, Watch, World, earliest, ns, watch

OWN_VERBS = frozenset({"signal", "heal", "run", "note"})

# --- commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fired:
    """A step fired at `t_ns`: log it before what it asks for, which are the commands that follow.

    `by` is the record that fired it (None: the clock did), `due_ns` that record's instant, or when the clock was due.
    """

    step: str
    verb: str
    t_ns: int
    due_ns: int
    by: Record | None


@dataclass(frozen=True, slots=True)
class Act:
    """Inject the fault of a step."""

    step: str
    verb: str
    args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Heal:
    """Heal the fault of the step `target`, or every fault that is still in force (`all`)."""

    target: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Raise a signal in every fleet."""

    name: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin the sessions of a group."""

    group: str


@dataclass(frozen=True, slots=True)
class Release:
    """Every client of the group that still can has come to the barrier: let them on."""

    group: str
    barrier: str


@dataclass(frozen=True, slots=True)
class Note:
    """Log a text of the timeline's."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over: `done` or `timeout`. The last command."""

    why: str


Command = Fired | Act | Heal | Signal | Begin | Release | Note | Finish


def is_fault(step: plan.Step) -> bool:
    """True when the step's verb is one of the registry's, not the conductor's own."""
    return step.verb not in OWN_VERBS


@dataclass(slots=True)
class _Pending:
    step: plan.Step
    watch: Watch
    progress: Progress


class Conductor:
    """One run of one plan.

    The run is over when every client is done (its session is over, or the program that it is has exited), every step
    has fired or never can, every fault has shown its witness and every `for` has run out; or at the plan's timeout.
    Clients of a group that a `run` step starts count as done when no step is left that could start it.

    A barrier opens when every client of its group is waiting at it or done. A client whose connection is lost leaves
    the barrier (it comes again, or is done); a barrier that has opened waits for all of them anew.
    """

    def __init__(self, of: plan.Plan) -> None:
        self._plan = of
        self._finished: str | None = None
        names = {g.name: g.names for g in of.groups}
        self._world = World(names, steps={s.id: Progress() for s in of.timeline})
        self._begun = {g.name for g in of.groups if g.begin}
        self._world.coming = {name: len(clients) for name, clients in names.items()}
        self._groups = {client: name for name, clients in names.items() for client in clients}
        self._pending = [_Pending(s, watch(s.when, self._world), self._world.steps[s.id]) for s in of.timeline]
        self._open = list(self._pending)
        self._ears = _ears(self._pending)
        self._cures: dict[str, int] = {}
        self._waiting: dict[tuple[str, str], set[str]] = {}
        self._deadline_ns: int | None = None

    @property
    def finished(self) -> str | None:
        """Why the run is over (`done` or `timeout`), or None while it goes on."""
        return self._finished

    @property
    def client_watches(self) -> frozenset[str]:
        """The events of clients that it must be told of."""
        wanted = {Event.DONE} if self._plan.scripted else set()
        wanted |= {Event.EXITED} if self._plan.foreign else set()
        if any(_has_barrier(g.script) for g in self._plan.groups):
            wanted |= {Event.MARK, Event.LOST}
        return frozenset(wanted) | {event for event, ears in self._ears.items() if any(e.of_clients for e in ears)}

    @property
    def service_watches(self) -> frozenset[str]:
        """The events of services and their agents that it must be told of."""
        wanted = {Event.INJECTED} if any(is_fault(p.step) for p in self._pending) else set()
        return frozenset(wanted) | {event for event, ears in self._ears.items() if any(e.of_services for e in ears)}

    @property
    def watches(self) -> frozenset[str]:
        """All events that it must be told of."""
        return self.client_watches | self.service_watches

    def begin(self, now_ns: int) -> list[Command]:
        """Start the run at `now_ns`. Records that came before count, as far as they have no `since`."""
        self._world.started_ns = now_ns
        return self._settle(now_ns)

    def observe(self, now_ns: int, record: Record) -> list[Command]:
        """Take one record, in the order of arrival, `host` and `writer` set."""
        if self._finished is not None:
            return []
        commands: list[Command] = []
        if self._deadline_ns is not None and now_ns >= self._deadline_ns:
            commands = self.tick(now_ns)
        changed = False
        for ear in self._ears.get(record.event, ()):
            changed |= ear.take(record)
        take = _TAKES.get(record.event)
        if take is not None:
            commands += take(self, now_ns, record)
            changed = True
        return commands + self._settle(now_ns) if changed else commands

    def tick(self, now_ns: int) -> list[Command]:
        """Look at the time."""
        return self._settle(now_ns)

    def next_deadline_ns(self) -> int | None:
        """When `tick` must be called next, at the latest; None: not before another record."""
        return self._deadline_ns

    def missing(self) -> list[dict[str, str]]:
        """The steps that have not fired, with what was still missing, in plan order."""
        return [
            {"step": p.step.id, "missing": p.progress.hopeless or p.watch.missing()}
            for p in self._pending
            if p.progress.fired_ns is None
        ]

    # --- what records tell -----------------------------------------------------------------------------------------

    def _ends(self, now_ns: int, record: Record) -> list[Command]:
        group = self._groups.get(record.client or "")
        if group is None or record.client is None or record.client in self._world.done:
            return []
        return self._over(record.client)

    def _over(self, client: str) -> list[Command]:
        """A client's session is over: nobody waits for it any more."""
        group = self._groups[client]
        self._world.done.add(client)
        self._world.coming[group] -= 1
        return [c for g, barrier in list(self._waiting) if g == group for c in self._let_on(g, barrier)]

    def _lost(self, now_ns: int, record: Record) -> list[Command]:
        for waiting in self._waiting.values():
            waiting.discard(record.client or "")
        return []

    def _mark(self, now_ns: int, record: Record) -> list[Command]:
        group = self._groups.get(record.client or "")
        if not record.fields.get("barrier") or group is None or record.client is None:
            return []
        barrier = str(record.fields["name"])
        self._waiting.setdefault((group, barrier), set()).add(record.client)
        return self._let_on(group, barrier)

    def _injected(self, now_ns: int, record: Record) -> list[Command]:
        progress = self._world.steps.get(record.fields.get("fault", ""))
        if progress is not None and progress.fired_ns is not None and progress.instant_ns is None:
            progress.instant_ns = record.fields["began_ns"]
        return []

    def _effective(self, now_ns: int, record: Record) -> list[Command]:
        progress = self._world.steps[record.fields["step"]]
        progress.effective_ns = now_ns
        if progress.instant_ns is None:  # its `injected` is late on another stream
            progress.instant_ns = progress.fired_ns
        return []

    def _note(self, now_ns: int, record: Record) -> list[Command]:
        step = record.fields.get("failed")
        if step is not None:
            self._world.steps[step].hopeless = str(record.fields["text"])
            self._cures.pop(step, None)
        gone = [client for client in record.fields.get("gone", ()) if client not in self._world.done]
        return [command for client in gone for command in self._over(client)]

    def _let_on(self, group: str, barrier: str) -> list[Command]:
        waiting = self._waiting[group, barrier]
        if not waiting or len(waiting - self._world.done) < self._world.coming[group]:
            return []
        del self._waiting[group, barrier]
        return [Release(group, barrier)]

    # --- what follows ----------------------------------------------------------------------------------------------

    def _settle(self, now_ns: int) -> list[Command]:
        if self._finished is not None or self._world.started_ns is None:
            return []
        if now_ns >= self._ends_ns():
            return self._finish("timeout")
        commands = self._heal_due(now_ns)
        while (moved := self._move(now_ns)) is not None:
            commands += moved
        if self._all_over():
            commands += self._finish("done")
        self._deadline_ns = self._next_deadline()
        return commands

    def _move(self, now_ns: int) -> list[Command] | None:
        """Fire, or give up, the first step that can; None when nothing moves."""
        self._close_groups()
        for pending in self._open:
            if pending.watch.settle(now_ns):
                self._open.remove(pending)
                return self._fire(pending, now_ns)
            if pending.watch.hopeless():
                self._open.remove(pending)
                pending.progress.hopeless = pending.watch.missing()
                return []
        return None

    def _fire(self, pending: _Pending, now_ns: int) -> list[Command]:
        step, progress = pending.step, pending.progress
        progress.fired_ns = now_ns
        fired = Fired(step.id, step.verb, now_ns, pending.watch.due_ns, pending.watch.by)
        if is_fault(step):
            if step.for_s is not None:
                self._cures[step.id] = now_ns + ns(step.for_s)
            return [fired, Act(step.id, step.verb, step.args)]
        progress.instant_ns = progress.effective_ns = now_ns
        return [fired, self._own(step)]

    def _own(self, step: plan.Step) -> Command:
        target = str(step.args["target"])
        match step.verb:
            case "signal":
                return Signal(target)
            case "heal":
                self._cures = {} if target == "all" else {s: t for s, t in self._cures.items() if s != target}
                return Heal(target)
            case "run":
                self._begun.add(target)
                return Begin(target)
            case verb:
                assert verb == "note", verb
                return Note(target)

    def _heal_due(self, now_ns: int) -> list[Command]:
        due = [step for step, at_ns in self._cures.items() if now_ns >= at_ns]
        for step in due:
            del self._cures[step]
        return [Heal(step) for step in due]

    def _close_groups(self) -> None:
        """Clients of a group that nothing can begin any more will never write a record."""
        can_begin = {str(p.step.args["target"]) for p in self._open if p.step.verb == "run"}
        for group in self._world.groups:
            if group not in self._begun and group not in can_begin:
                self._world.coming[group] = 0

    def _all_over(self) -> bool:
        return not (
            self._open
            or self._cures
            or any(self._world.coming.values())
            or any(p.fired_ns is not None and p.effective_ns is None and not p.hopeless for p in self._steps())
        )

    def _finish(self, why: str) -> list[Command]:
        self._finished = why
        self._deadline_ns = None
        return [Finish(why)]

    def _steps(self) -> Iterable[Progress]:
        return self._world.steps.values()

    def _ends_ns(self) -> int:
        assert self._world.started_ns is not None
        return self._world.started_ns + ns(self._plan.timeout_s)

    def _next_deadline(self) -> int | None:
        if self._finished is not None:
            return None
        return earliest(self._ends_ns(), *self._cures.values(), *(p.watch.deadline() for p in self._open))


_TAKES: dict[str, Callable[[Conductor, int, Record], list[Command]]] = {
    **dict.fromkeys(CLIENT_ENDS, Conductor._ends),
    Event.LOST: Conductor._lost,
    Event.MARK: Conductor._mark,
    Event.INJECTED: Conductor._injected,
    Event.EFFECTIVE: Conductor._effective,
    Event.NOTE: Conductor._note,
}
"""What the conductor learns from a record, besides what its triggers hear."""


def _ears(pending: list[_Pending]) -> dict[str, list[Hearing]]:
    ears: dict[str, list[Hearing]] = {}
    for p in pending:
        for event, hearing in p.watch.hears():
            ears.setdefault(event, []).append(hearing)
    return ears


def _has_barrier(script: Sequence[plan.Instruction]) -> bool:
    return any(isinstance(i, plan.Barrier) or (isinstance(i, plan.Repeat) and _has_barrier(i.script)) for i in script)
