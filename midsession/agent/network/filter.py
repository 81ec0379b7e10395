"""The verbs filter and unfilter: packet rules in this host's own network namespace, and their counters.

Packets are dropped before the program's TCP sees them, or after it has sent them. `live` connections are listed by the
kernel at the moment of the fault, address by address, rather than left to connection tracking: that begins to track
when its first rule is loaded, and takes an old connection for a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop, Timer
from midsession.agent.network import sockets
from midsession.agent.network.rules import Connection, Rules, rules
from midsession.agent.network.ruleset import Ruleset
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Filter, Unfilter
from midsession.agent.say import say

_LOOKS_PER_WAIT = 8
_SOONEST_LOOK_S, _LATEST_LOOK_S = 0.001, 0.016
"""A counter is looked at again after an eighth of the time that has gone by. A look takes 0.1 ms: the witness is some
12 % late at most, and a rule that nothing meets costs less than 1 % of a core."""
_AFTER_REFUSAL_S = 1.0

_REHEARSAL = Filter(id=0, fault="rehearsal", own="127.0.0.1", peers=["127.0.0.1"], which="live")


def prepare(agent: Agent) -> None:
    """Have everything ready, so that a fault has to add nothing but its rules."""
    _ruleset(agent.run_under_way()).rehearse(rules(_REHEARSAL, _connections(_REHEARSAL)))


def put(agent: Agent, ask: Filter, _answer: Answer) -> dict[str, Any]:
    """Put the rules in. Refused when this step has rules here already, or for what cannot be a rule."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    ruleset, wanted = _ruleset(host), rules(ask, _connections(ask))
    began_ns = now_ns()
    ruleset.put(wanted)
    host.injected(ask.fault, "filter", began_ns, now_ns())
    meter = _Meter(agent.loop, host, ruleset, wanted)
    host.broken(ask.fault, meter.end, meter.remains)
    return {}


def take(agent: Agent, ask: Unfilter, _answer: Answer) -> dict[str, Any]:
    """Take the rules out; nothing to do where there are none."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Filter: put, Unfilter: take}


def _ruleset(host: HostRun) -> Ruleset:
    """The host's table, made at the first need and taken away at the run's end. Raises Refused."""
    if host.ruleset is None:
        host.ruleset = Ruleset()
    return host.ruleset


def _connections(ask: Filter) -> Iterator[Connection]:
    """The TCP connections of its address that are there now: those that are open, or for `idle_s` those that a NAT
    would know."""
    found = sockets.open_now if ask.idle_s is None else sockets.known_now
    return ((c.peer, c.peer_port, c.own_port) for c in found() if c.own == ask.own)


class _Meter:
    """Reads a fault's counters until a packet was hit, and writes `witnessed` then."""

    def __init__(self, loop: Loop, host: HostRun, ruleset: Ruleset, watched: Rules) -> None:
        self._loop, self._host, self._ruleset, self._rules = loop, host, ruleset, watched
        self._proven = False
        self._began_ns = now_ns()
        self._timer: Timer = loop.later(_SOONEST_LOOK_S, self._look)

    def end(self) -> dict[str, Any]:
        """The cure: count once more, then take the rules out; the last counts."""
        self._timer.cancel()
        counts = self._count()
        self._ruleset.take(self._rules)
        return counts

    def remains(self) -> str:
        """What the kernel still has of the rules."""
        left = self._ruleset.remains_of(self._rules.fault)
        return f"the kernel has its {', '.join(left)}" if left else ""

    def _look(self) -> None:
        wait_s = (now_ns() - self._began_ns) / 1e9 / _LOOKS_PER_WAIT
        soon_s = min(max(wait_s, _SOONEST_LOOK_S), _LATEST_LOOK_S)
        try:
            self._count()
        except Refused as refused:  # for a moment only; or else its cure is refused too
            say(f"cannot see what {self._rules.fault} does: {refused}")
            soon_s = _AFTER_REFUSAL_S
        if not self._proven:
            self._timer = self._loop.later(soon_s, self._look)

    def _count(self) -> dict[str, int]:
        counts = self._ruleset.count(self._rules)
        if counts["packets"] and not self._proven:
            self._proven = True
            self._host.witnessed(self._rules.fault, "counter", packets=counts["packets"], bytes=counts["bytes"])
        return counts
