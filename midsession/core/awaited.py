"""Which sends of a script are waited for: a session that has pipelined must know whose answer it has just read.

Replies on one connection come in the order of the sends. But not every send gets one, and a script does not say which.
So it is read backwards: each expect is met with the nearest send before it that no later expect was met with. In
`[send, send, expect, expect]` both sends are waited for, in `[send, send, expect]` only the second, also when that is
said a million times; what is sent and never waited for takes nobody else's reply.

Read backwards, a step changes how many expects are still without their send. From `owed` behind it come
`max(owed + gain, least)` before it: an expect adds one, a send takes one where there is one, a new connection leaves
none. Functions of this form stay so when they are put together or repeated, which makes short work of loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from midsession.core import plan

MANY = 10**6
"""Counts of expects end here: as many as anybody can ask for."""


class _Flow(NamedTuple):
    """What a part of a script makes of the number of expects behind it that have no send yet."""

    gain: int
    least: int

    def before(self, owed: int) -> int:
        """How many there are before the part."""
        return min(max(owed + self.gain, self.least), MANY)

    def then(self, earlier: _Flow) -> _Flow:
        """This part, and an earlier one."""
        return _Flow(max(min(self.gain + earlier.gain, MANY), -MANY), earlier.before(self.least))

    def repeated(self, times: int | None, may_stop: bool) -> _Flow:
        """At most so many rounds of this part (None: any number); exactly so many unless it may stop before."""
        if times == 0:
            return _SAME
        if self.gain > 0:
            more = (MANY if times is None else times) - 1
            return _Flow(min(self.gain * (more + 1), MANY), min(self.least + self.gain * more, MANY))
        if times is None or may_stop:
            return _Flow(0, self.least)
        return _Flow(max(self.gain * times, -MANY), self.least)


_SAME = _Flow(0, 0)
_EXPECT = _Flow(1, 0)
_SEND = _Flow(-1, 0)
_ANEW = _Flow(-MANY, 0)


def operations(script: Sequence[plan.Instruction]) -> frozenset[str]:
    """The operations of which the script names both the send (`as`) and the expect (`ok`): those name each other."""
    steps = list(plan.steps_of(script))
    sent = {step.as_ for step in steps if isinstance(step, plan.Send)}
    return frozenset(step.ok for step in steps if isinstance(step, plan.Expect) and step.ok and step.ok in sent)


def awaited(script: Sequence[plan.Instruction]) -> list[bool]:
    """For each send of a script, in the script's order, whether an expect waits for its answer."""
    return _Block(script, operations(script)).marks(0)


def takes_bytes(step: plan.Expect) -> bool:
    """Whether it is met by bytes of the peer: the end of a connection, and silence, are no answers."""
    return not (step.eof or step.reset or step.nothing)


class _Block:
    """A script, and what it makes of the expects behind it."""

    def __init__(self, script: Sequence[plan.Instruction], named: frozenset[str]) -> None:
        self._script, self._named = script, named
        self._inner = {at: _Block(s.script, named) for at, s in enumerate(script) if isinstance(s, plan.Repeat)}
        self.flow = _SAME
        for at in reversed(range(len(script))):
            self.flow = self.flow.then(self._flow_of(at))

    def marks(self, owed: int) -> list[bool]:
        """Whether each of its sends is waited for, where so many expects behind it are without a send."""
        found: list[bool] = []  # the last send first
        for at in reversed(range(len(self._script))):
            step = self._script[at]
            if isinstance(step, plan.Repeat):
                found += reversed(self._inner[at].marks(self._most_in(at, owed)))
            elif isinstance(step, plan.Send):
                found.append(owed > 0 or step.as_ in self._named)
            owed = self._flow_of(at).before(owed)
        return found[::-1]

    def _flow_of(self, at: int) -> _Flow:
        step = self._script[at]
        if isinstance(step, plan.Repeat):
            may_stop = step.times is None or step.until is not None or step.for_s is not None
            return self._inner[at].flow.repeated(step.times, may_stop)
        if isinstance(step, plan.Send):
            return _SAME if step.as_ in self._named else _SEND
        if isinstance(step, plan.Expect):
            return _EXPECT if takes_bytes(step) and step.ok not in self._named else _SAME
        return _ANEW if isinstance(step, plan.Connect | plan.End | plan.Abort) else _SAME

    def _most_in(self, at: int, owed: int) -> int:
        """How many expects are without a send at the end of the round of a repeat in which there are most."""
        step = self._script[at]
        assert isinstance(step, plan.Repeat)
        earlier = None if step.times is None else max(0, step.times - 1)
        return self._inner[at].flow.repeated(earlier, may_stop=True).before(owed)
