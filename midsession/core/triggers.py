"""Triggers at work: each watches for its one moment, and can say in people's words what it still waits for.

A watch is told of records (`take`) and looks at the clock (`settle`). It fires once and stays fired. It is hopeless
when nothing that can still happen would make it fire. Whose records can still come, and how far the other steps have
got, it learns from the `World` that the conductor keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from midsession.core import plan
from midsession.core.record import CLIENT_ENDS, Event, Record
from midsession.core.whose import OF_CLIENTS_ALONE

NS = 1_000_000_000


def ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * NS)


@dataclass(slots=True)
class Progress:
    """How far a step has come; instants in nanoseconds, None: not yet.

    `instant_ns` is what `since` counts from: for a fault `began_ns` of its `injected` record, else when it fired.
    `hopeless` says why it will never fire, or never be effective.
    """

    fired_ns: int | None = None
    instant_ns: int | None = None
    effective_ns: int | None = None
    hopeless: str = ""

    @property
    def fired_without_instant(self) -> bool:
        """A fault was asked for, but the agent has not yet said when it began."""
        return self.fired_ns is not None and self.instant_ns is None and not self.hopeless


@dataclass(slots=True)
class World:
    """What triggers may know of the run: its start, its steps, and which clients can still write a record."""

    groups: dict[str, list[str]]
    """The names of each group's clients."""
    steps: dict[str, Progress] = field(default_factory=dict)
    started_ns: int | None = None
    done: set[str] = field(default_factory=set)
    coming: dict[str, int] = field(default_factory=dict)
    """How many clients of each group may still write records; a group that can never begin has none."""

    def clients(self, of: str | None) -> frozenset[str] | None:
        """The clients that `of` names (a group, or one client); None when it names none."""
        if of is None:
            return None
        if of in self.groups:
            return frozenset(self.groups[of])
        group = of.rpartition("-")[0]
        return frozenset({of}) if of in self.groups.get(group, ()) else None

    def quiet(self, of: str | None) -> bool:
        """True when no client of `of` (None: no client at all) can write another record."""
        if of is None:
            return not any(self.coming.values())
        if of in self.groups:
            return not self.coming[of]
        return of in self.done or not self.coming[of.rpartition("-")[0]]


class Watch(ABC):
    """One trigger at work. `by` is the record that fired it (None: the clock did), `due_ns` when it should have."""

    def __init__(self, trigger: plan.Trigger, world: World) -> None:
        self.fired = False
        self.expired = False
        self.by: Record | None = None
        self.due_ns = 0
        self._world = world
        self._within_s = trigger.within_s

    def settle(self, now_ns: int) -> bool:
        """Look at the clock and at the other steps; True once it has fired."""
        if self.fired or self.expired:
            return self.fired
        self._settle(now_ns)
        expires_ns = self._expires_ns()
        self.expired = not self.fired and expires_ns is not None and now_ns >= expires_ns
        return self.fired

    def deadline(self) -> int | None:
        """When the clock alone may change it next."""
        if self.fired or self.expired:
            return None
        return earliest(self._deadline(), self._expires_ns())

    def hopeless(self) -> bool:
        """True when it can never fire any more."""
        return not self.fired and (self.expired or self._hopeless())

    def missing(self) -> str:
        """What it still waits for."""
        return f"not within {self._within_s:g} s: {self._missing()}" if self.expired else self._missing()

    def hears(self) -> Iterator[tuple[str, Hearing]]:
        """The events that it must be told of, with the part of it that hears them."""
        return iter(())

    def _expires_ns(self) -> int | None:
        armed_ns = self._armed_ns()
        return None if self._within_s is None or armed_ns is None else armed_ns + ns(self._within_s)

    def _armed_ns(self) -> int | None:
        return self._world.started_ns

    def _fire(self, due_ns: int, by: Record | None = None) -> None:
        self.fired, self.due_ns, self.by = True, due_ns, by

    def _fire_when_due(self, now_ns: int) -> None:
        due_ns = self._deadline()
        if due_ns is not None and now_ns >= due_ns:
            self._fire(due_ns)

    @abstractmethod
    def _settle(self, now_ns: int) -> None: ...

    @abstractmethod
    def _deadline(self) -> int | None: ...

    @abstractmethod
    def _hopeless(self) -> bool: ...

    @abstractmethod
    def _missing(self) -> str: ...


class AtWatch(Watch):
    """`at`: so long after the start of the run."""

    def __init__(self, trigger: plan.At, world: World) -> None:
        super().__init__(trigger, world)
        self._at_s = trigger.at_s

    def _settle(self, now_ns: int) -> None:
        self._fire_when_due(now_ns)

    def _deadline(self) -> int | None:
        start_ns = self._world.started_ns
        return None if start_ns is None else start_ns + ns(self._at_s)

    def _hopeless(self) -> bool:
        return False

    def _missing(self) -> str:
        return f"{self._at_s:g} s from the start had not passed"


class AfterWatch(Watch):
    """`after`: so long after another step was effective. Its `within` counts from when that step fired."""

    def __init__(self, trigger: plan.After, world: World) -> None:
        super().__init__(trigger, world)
        self._step, self._wait_s = trigger.step, trigger.wait_s

    @property
    def _other(self) -> Progress:
        return self._world.steps[self._step]

    def _armed_ns(self) -> int | None:
        return self._other.fired_ns

    def _settle(self, now_ns: int) -> None:
        self._fire_when_due(now_ns)

    def _deadline(self) -> int | None:
        effective_ns = self._other.effective_ns
        return None if effective_ns is None else effective_ns + ns(self._wait_s)

    def _hopeless(self) -> bool:
        return self._other.effective_ns is None and bool(self._other.hopeless)

    def _missing(self) -> str:
        if self._other.hopeless:
            return f"{self._step}: {self._other.hopeless}"
        if self._other.fired_ns is None:
            return f"{self._step} had not fired"
        if self._other.effective_ns is None:
            return f"{self._step} was not effective: its witness was not seen"
        return f"{self._wait_s:g} s after {self._step} had not passed"


class Hearing(Watch):
    """A watch that hears records, if need be only those since a step's instant.

    Records that come after a fault was asked for and before its instant is known are held, then counted in the order
    in which they came.
    """

    of_clients = False
    of_services = False

    def __init__(self, trigger: plan.OnEvent | plan.Every | plan.OnLog, world: World, since: str | None) -> None:
        super().__init__(trigger, world)
        self._since = since
        self._held: list[Record] = []

    def take(self, record: Record) -> bool:
        """Hear one record; True when it may have changed anything."""
        if self.fired or self.expired or not self._fits(record):
            return False
        if self._since is not None:
            since = self._world.steps[self._since]
            if since.fired_without_instant:
                self._held.append(record)
                return False
            if since.instant_ns is None or record.t_ns < since.instant_ns:
                return False
        return self._count(record)

    def _settle(self, now_ns: int) -> None:
        if self._held and self._since and self._world.steps[self._since].instant_ns is not None:
            held, self._held = self._held, []
            for record in held:
                self.take(record)

    def _armed_ns(self) -> int | None:
        return self._world.started_ns if self._since is None else self._world.steps[self._since].fired_ns

    def _deadline(self) -> int | None:
        return None

    def _hopeless(self) -> bool:
        if self._since is not None:
            since = self._world.steps[self._since]
            if since.instant_ns is None and since.hopeless:
                return True
            if since.fired_without_instant:
                return False
        return self._nobody_left()

    def _missing(self) -> str:
        since = self._since and self._world.steps[self._since]
        if since and since.instant_ns is None and since.hopeless:
            return f"{self._since}: {since.hopeless}"
        if since and since.fired_ns is None:
            return f"{self._since} had not fired"
        return self._still() + (f" since {self._since}" if self._since else "")

    @abstractmethod
    def _fits(self, record: Record) -> bool: ...

    @abstractmethod
    def _count(self, record: Record) -> bool: ...

    @abstractmethod
    def _nobody_left(self) -> bool: ...

    @abstractmethod
    def _still(self) -> str: ...


class EventWatch(Hearing):
    """`event`: the count-th record of a kind, in the order in which records come. That record is named."""

    def __init__(self, trigger: plan.OnEvent, world: World) -> None:
        super().__init__(trigger, world, trigger.since)
        self._trigger = trigger
        self._clients = world.clients(trigger.of)
        nobodys = trigger.of is None
        self.of_clients = self._clients is not None or nobodys
        self.of_services = self._clients is None and not (nobodys and trigger.event in OF_CLIENTS_ALONE)
        self._seen = 0

    def hears(self) -> Iterator[tuple[str, Hearing]]:
        yield self._trigger.event, self

    def _fits(self, record: Record) -> bool:
        trigger = self._trigger
        if record.event != trigger.event:
            return False
        if self._clients is not None:
            if record.client not in self._clients:
                return False
        elif trigger.of is not None and record.host != trigger.of:
            return False
        return not trigger.where or _has(record, trigger.where)

    def _count(self, record: Record) -> bool:
        self._seen += 1
        if self._seen == self._trigger.count:
            self._fire(record.t_ns, record)
        return self.fired

    def _nobody_left(self) -> bool:
        return not self.of_services and self._world.quiet(self._trigger.of)

    def _still(self) -> str:
        trigger = self._trigger
        end = "; no client is left" if self._nobody_left() else ""
        return f"{self._seen} of {trigger.count} {trigger.event}{_where(trigger.where)}{end}"


class EveryWatch(Hearing):
    """`every`: each client of the group has met the event. A client that is done without it makes it hopeless."""

    of_clients = True

    def __init__(self, trigger: plan.Every, world: World) -> None:
        super().__init__(trigger, world, trigger.since)
        self._trigger = trigger
        self._clients = frozenset(world.groups[trigger.group])
        self._met: set[str] = set()
        self._gone: set[str] = set()

    def hears(self) -> Iterator[tuple[str, Hearing]]:
        for event in dict.fromkeys((self._trigger.event, *CLIENT_ENDS)):
            yield event, self

    def take(self, record: Record) -> bool:
        changed = super().take(record)
        if record.event in CLIENT_ENDS and record.client in self._clients and record.client not in self._met:
            self._gone.add(record.client)
        return changed

    def _fits(self, record: Record) -> bool:
        trigger = self._trigger
        return record.event == trigger.event and record.client in self._clients and _has(record, trigger.where)

    def _count(self, record: Record) -> bool:
        assert record.client is not None
        self._met.add(record.client)
        if len(self._met) == len(self._clients):
            self._fire(record.t_ns, record)
        return self.fired

    def _nobody_left(self) -> bool:
        return not self._gone <= self._met or self._world.quiet(self._trigger.group)

    def _still(self) -> str:
        trigger, without = self._trigger, len(self._gone - self._met)
        end = f"; {without} are done without it" if without else ""
        return f"{len(self._met)} of {len(self._clients)} {trigger.event}{_where(trigger.where)}{end}"


class LogWatch(Hearing):
    """`log`: a line of a service's or a client program's output contains a text, or matches an expression (RE2:
    linear time)."""

    def __init__(self, trigger: plan.OnLog, world: World) -> None:
        super().__init__(trigger, world, None)
        self._of = trigger.of
        self._clients = world.clients(trigger.of)
        self.of_clients, self.of_services = self._clients is not None, self._clients is None
        self._words = _quoted(trigger)
        self._matches = _matcher(trigger)

    def hears(self) -> Iterator[tuple[str, Hearing]]:
        yield Event.LINE, self

    def _fits(self, record: Record) -> bool:
        return (
            record.event == Event.LINE
            and (record.host == self._of if self._clients is None else record.client in self._clients)
            and self._matches(str(record.fields.get("text", "")))
        )

    def _count(self, record: Record) -> bool:
        self._fire(record.t_ns, record)
        return True

    def _nobody_left(self) -> bool:
        return self.of_clients and self._world.quiet(self._of)

    def _still(self) -> str:
        return f"no line of {self._of} {self._words}"


class AllWatch(Watch):
    """`all`: every one of several has fired. The last to fire names the record."""

    def __init__(self, trigger: plan.AllOf | plan.AnyOf, world: World) -> None:
        super().__init__(trigger, world)
        self._parts = [watch(part, world) for part in trigger.triggers]

    def hears(self) -> Iterator[tuple[str, Hearing]]:
        for part in self._parts:
            yield from part.hears()

    def _settle(self, now_ns: int) -> None:
        for part in self._parts:
            part.settle(now_ns)
        if all(part.fired for part in self._parts):
            last = max(self._parts, key=lambda part: part.due_ns)
            self._fire(last.due_ns, last.by)

    def _deadline(self) -> int | None:
        return earliest(*(part.deadline() for part in self._parts))

    def _hopeless(self) -> bool:
        return any(part.hopeless() for part in self._parts)

    def _missing(self) -> str:
        return "; ".join(part.missing() for part in self._parts if not part.fired)


class AnyWatch(AllWatch):
    """`any`: one of several has fired. The first to fire names the record."""

    def _settle(self, now_ns: int) -> None:
        fired = [part for part in self._parts if part.settle(now_ns)]
        if fired:
            first = min(fired, key=lambda part: part.due_ns)
            self._fire(first.due_ns, first.by)

    def _hopeless(self) -> bool:
        return all(part.hopeless() for part in self._parts)

    def _missing(self) -> str:
        return ", nor ".join(part.missing() for part in self._parts)


def watch(trigger: plan.Trigger, world: World) -> Watch:
    """The watch for a trigger."""
    match trigger:
        case plan.At():
            return AtWatch(trigger, world)
        case plan.After():
            return AfterWatch(trigger, world)
        case plan.OnEvent():
            return EventWatch(trigger, world)
        case plan.Every():
            return EveryWatch(trigger, world)
        case plan.OnLog():
            return LogWatch(trigger, world)
        case plan.AllOf():
            return AllWatch(trigger, world)
        case plan.AnyOf():
            return AnyWatch(trigger, world)


def earliest(*instants: int | None) -> int | None:
    """The first of several instants, some of which may not be known."""
    return min((i for i in instants if i is not None), default=None)


def _has(record: Record, where: dict[str, object]) -> bool:
    return all(name in record.fields and record.fields[name] == value for name, value in where.items())


def _where(where: dict[str, object]) -> str:
    return f" ({', '.join(f'{name}: {value}' for name, value in where.items())})" if where else ""


def _quoted(trigger: plan.OnLog) -> str:
    return f"contained {trigger.contains!r}" if trigger.contains is not None else f"matched {trigger.matches!r}"


def _matcher(trigger: plan.OnLog) -> Callable[[str], bool]:
    if trigger.contains is not None:
        text = trigger.contains
        return lambda line: text in line
    import re2  # type: ignore[import-untyped]  # only here: hosts do not carry the library

    expression = re2.compile(trigger.matches)
    return lambda line: expression.search(line) is not None
