"""A session script as a flat program: compiled once per client group, shared and never changed by its sessions.

The nested `repeat`s become `Loop`/`Again` pairs with addresses, texts become templates, durations nanoseconds. What
the session machine must know about the future at each address (is an `expect: eof` still to come on this connection?)
is worked out here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from midsession.core import plan
from midsession.core.awaited import awaited, operations, takes_bytes
from midsession.core.match import Ending, Eof, Lines, Matcher, Reset, matcher
from midsession.core.template import Template
from midsession.core.wire import describe

SECOND_NS = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds."""
    return round(seconds * SECOND_NS)


class Connect(msgspec.Struct, frozen=True):
    host: str
    port: int
    timeout_s: float
    source_port: int | None = None


class Send(msgspec.Struct, frozen=True):
    """`constant` where the payload is the same every time, with what a record tells of it; else how it is made.

    `awaited` says whether an expect waits for its answer (`core/awaited.py`): one that names the same `operation`.
    """

    constant: bytes | None
    told: dict[str, Any] | None
    template: Template | None
    random_bytes: int
    slice_bytes: int | None
    pause_ns: int
    as_: str | None = None
    awaited: bool = False
    operation: str | None = None


class Expect(msgspec.Struct, frozen=True):
    """`takes_bytes`: it is met by bytes of the peer. It is an answer then, to a send of the same `operation`."""

    matcher: Matcher
    takes_line: bool
    within_ns: int
    within_s: float
    ok: str | None = None
    takes_bytes: bool = False
    operation: str | None = None


class Pause(msgspec.Struct, frozen=True):
    span: plan.Span


class Await(msgspec.Struct, frozen=True):
    signal: str


class HalfClose(msgspec.Struct, frozen=True):
    pass


class End(msgspec.Struct, frozen=True):
    within_ns: int
    within_s: float


class Abort(msgspec.Struct, frozen=True):
    pass


class Read(msgspec.Struct, frozen=True):
    policy: str
    bytes_per_s: int | None


class Barrier(msgspec.Struct, frozen=True):
    name: str


class Mark(msgspec.Struct, frozen=True):
    name: str


class Loop(msgspec.Struct, frozen=True):
    """The head of a `repeat`: `exit` is the address after it."""

    times: int | None
    until: str | None
    for_ns: int | None
    exit: int


class Again(msgspec.Struct, frozen=True):
    """The end of a `repeat` whose head is at `head`."""

    head: int
    loop: Loop


class Finish(msgspec.Struct, frozen=True):
    """The end of the script: an open connection is ended gracefully, then the session is done."""

    end: End


Op = Connect | Send | Expect | Pause | Await | HalfClose | End | Abort | Read | Barrier | Mark | Loop | Again | Finish


class Program(msgspec.Struct, frozen=True):
    """What all sessions of a group run.

    `eof_ahead`, `reset_ahead`, `data_ahead` tell for each address whether, from there up to the next `connect`, the
    script may still expect the peer's FIN, its RST, any bytes or that there are none. `paced` says that some step says
    how to read.
    """

    ops: tuple[Op, ...]
    target: Connect
    on_loss: plan.Reconnect | None
    eof_ahead: tuple[bool, ...]
    reset_ahead: tuple[bool, ...]
    data_ahead: tuple[bool, ...]
    paced: bool


def compile_program(group: plan.GroupPlan) -> Program:
    """Flatten a group's script. Raises ValueError, for people, for a text or pattern that cannot be used."""
    target = Connect(group.host, group.port, group.connect_timeout_s)
    ops = _Flattener(target).flatten(group.script)
    return Program(
        ops=ops,
        target=target,
        on_loss=group.on_loss,
        eof_ahead=_ahead(ops, lambda op: _expects(op, Eof)),
        reset_ahead=_ahead(ops, lambda op: _expects(op, Reset)),
        data_ahead=_ahead(ops, _minds_bytes),
        paced=any(isinstance(op, Read) for op in ops),
    )


class _Flattener:
    def __init__(self, target: Connect) -> None:
        self._target = target
        self._ops: list[Op] = []
        self._awaited: Iterator[bool] = iter(())
        self._operations: frozenset[str] = frozenset()

    def flatten(self, script: list[plan.Instruction]) -> tuple[Op, ...]:
        self._awaited, self._operations = iter(awaited(script)), operations(script)
        self._block(script)
        self._ops.append(Finish(_end(plan.End())))
        return tuple(self._ops)

    def _block(self, script: list[plan.Instruction]) -> None:
        for step in script:
            if isinstance(step, plan.Repeat):
                self._repeat(step)
            elif isinstance(step, plan.Send):
                self._ops.append(_send(step, next(self._awaited), self._operations))
            elif isinstance(step, plan.Expect):
                self._ops.append(_expect(step, self._operations))
            else:
                self._ops.append(_ONE[type(step)](step, self._target))

    def _repeat(self, step: plan.Repeat) -> None:
        head = len(self._ops)
        self._ops.append(Finish(_end(plan.End())))  # keeps the place until the exit is known
        self._block(step.script)
        for_ns = None if step.for_s is None else nanoseconds(step.for_s)
        loop = Loop(step.times, step.until, for_ns, exit=len(self._ops) + 1)
        self._ops[head] = loop
        self._ops.append(Again(head, loop))


def _connect(step: plan.Connect, target: Connect) -> Connect:
    port = target.port if step.port is None else step.port
    return Connect(step.host or target.host, port, step.timeout_s, step.source_port)


def _send(step: plan.Send, awaited: bool, operations: frozenset[str]) -> Send:
    constant, template = _payload(step.payload)
    told = None if constant is None else describe(constant)
    random_bytes, pause_ns = step.payload.random_bytes or 0, nanoseconds(step.pause_s)
    operation = step.as_ if step.as_ in operations else None
    return Send(constant, told, template, random_bytes, step.slice_bytes, pause_ns, step.as_, awaited, operation)


def _expect(step: plan.Expect, operations: frozenset[str]) -> Expect:
    found, within_ns = matcher(step), nanoseconds(step.within_s)
    operation = step.ok if step.ok in operations else None
    takes_line, takes = isinstance(found, Lines), takes_bytes(step)
    return Expect(found, takes_line, within_ns, step.within_s, step.ok, takes, operation)


def _payload(payload: plan.Payload) -> tuple[bytes | None, Template | None]:
    if payload.hex is not None:
        return bytes.fromhex(payload.hex), None
    if payload.text is None:
        return None, None
    template = Template(payload.text, end="\n" if payload.line else "")
    if template.constant is None:
        return None, template
    return template.constant.encode(), None


def _end(step: plan.End) -> End:
    return End(nanoseconds(step.within_s), step.within_s)


def _wait(step: plan.Wait, _: Connect) -> Pause | Await:
    return Pause(step.span or plan.Span(0, 0)) if step.signal is None else Await(step.signal)


_ONE: dict[type[Any], Callable[[Any, Connect], Op]] = {
    plan.Connect: _connect,
    plan.Wait: _wait,
    plan.HalfClose: lambda step, _: HalfClose(),
    plan.End: lambda step, _: _end(step),
    plan.Abort: lambda step, _: Abort(),
    plan.Read: lambda step, _: Read(step.policy, step.bytes_per_s),
    plan.Barrier: lambda step, _: Barrier(step.name),
    plan.Mark: lambda step, _: Mark(step.name),
}


def _expects(op: Op, *kinds: type[Matcher]) -> bool:
    return isinstance(op, Expect) and isinstance(op.matcher, kinds)


def _minds_bytes(op: Op) -> bool:
    """Whether it must know of bytes that came before it."""
    return isinstance(op, Expect) and not (isinstance(op.matcher, Ending) and op.matcher.drains)


def _next(ops: tuple[Op, ...], address: int) -> Iterable[int]:
    """The addresses that may follow: both ways out of a loop's ends, none after the last."""
    op = ops[address]
    if isinstance(op, Finish):
        return ()
    if isinstance(op, Loop):
        return (address + 1, op.exit)
    if isinstance(op, Again):
        return (op.head + 1, address + 1)
    return (address + 1,)


def _ahead(ops: tuple[Op, ...], wanted: Callable[[Op], bool]) -> tuple[bool, ...]:
    """For each address: can a wanted step be reached from it (itself included) without a new connection?

    A fixed point over the jumps, run backwards: a few rounds for nested loops, one for a straight script.
    """
    ahead = [wanted(op) for op in ops]
    changed = True
    while changed:
        changed = False
        for address in range(len(ops) - 1, -1, -1):
            if isinstance(ops[address], End | Abort) or ahead[address]:
                continue
            if any(ahead[n] and not isinstance(ops[n], Connect) for n in _next(ops, address)):
                ahead[address] = changed = True
    return tuple(ahead)
