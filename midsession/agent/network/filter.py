"""The verbs filter and unfilter: packet rules in this host's own network namespace, and their counters.

Packets are dropped before the program's TCP sees them, or after it has sent them. `live` connections are listed by the
kernel at the moment of the fault, address by address, rather than left to connection tracking: that begins to track
when its first rule is loaded, and takes an old connection for a new one.

A sender on the same machine leaves up to 64 KiB of a stream in one piece, for a network card to cut that is not there
(GSO), and a rule meets the piece. Where single packets count they must have been cut before: by the testbed (the agent
is told so), else by the queue, which has the kernel cut what it sends there (nfqnl_enqueue_packet).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun, Mechanism
from midsession.agent.loop import Loop, Timer
from midsession.agent.network import impair, sockets
from midsession.agent.network.impairment import Cut
from midsession.agent.network.rules import Connection, Rules, counts_packets, rules
from midsession.agent.network.ruleset import Ruleset
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Filter, Impair, Unfilter
from midsession.agent.say import say

_LOOKS_PER_WAIT = 8
_SOONEST_LOOK_S, _LATEST_LOOK_S = 0.001, 0.016
"""A counter is looked at again after an eighth of the time that has gone by. A look takes 0.1 ms: the witness is some
12 % late at most, and a rule that nothing meets costs less than 1 % of a core."""
_AFTER_REFUSAL_S = 1.0

_REHEARSAL = Filter(id=0, fault="rehearsal", own="127.0.0.1", peers=["127.0.0.1"], which="live")
_REHEARSAL_OF_PACKETS = Filter(id=0, fault="rehearsal", own="127.0.0.1", direction="to", every=2)


def prepare(agent: Agent) -> None:
    """Have everything ready, so that a fault has to add nothing but its rules."""
    _rehearse(agent, _REHEARSAL)


def prepare_packets(agent: Agent) -> None:
    """The same where packets are counted; those that rules count have the abilities `filter` and `packets`."""
    if agent.run_under_way().ruleset is not None:
        _rehearse(agent, _REHEARSAL_OF_PACKETS)
    if not agent.packets_are_cut:
        impair.prepare(agent)


def _rehearse(agent: Agent, ask: Filter) -> None:
    _ruleset(agent.run_under_way()).rehearse(rules(ask, _connections(ask)))


def put(agent: Agent, ask: Filter, _answer: Answer) -> dict[str, Any]:
    """Put the rules in. Refused when this step has rules here already, or for what cannot be a rule."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    ruleset, wanted = _ruleset(host), rules(ask, _connections(ask))
    cutter = _cut(agent, host, ask)
    began_ns = now_ns()
    try:
        ruleset.put(wanted)
    except Refused:
        if cutter is not None:
            cutter.take(ask.fault)
        raise
    host.injected(ask.fault, "filter", began_ns, now_ns(), **({"cut": cutter.name} if cutter is not None else {}))
    meter = _Meter(agent.loop, host, ruleset, wanted, cutter)
    host.broken(ask.fault, meter.end, meter.remains)
    return {}


def take(agent: Agent, ask: Unfilter, _answer: Answer) -> dict[str, Any]:
    """Take the rules out; nothing to do where there are none."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Filter: put, Unfilter: take}


def _cut(agent: Agent, host: HostRun, ask: Filter) -> Mechanism | None:
    """What cuts the packets that the rules are to count; None: nothing has to. Raises Refused."""
    if agent.packets_are_cut or not counts_packets(ask):
        return None
    cutter = impair.mechanism(agent, host)
    cutter.put(Impair(id=0, fault=ask.fault, own=ask.own, peers=ask.peers, direction="to", how=Cut()), key="")
    return cutter


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

    def __init__(
        self, loop: Loop, host: HostRun, ruleset: Ruleset, watched: Rules, cutter: Mechanism | None = None
    ) -> None:
        self._loop, self._host, self._ruleset, self._rules, self._cutter = loop, host, ruleset, watched, cutter
        self._proven = False
        self._last: dict[str, int] | None = None
        """What was counted when the rules were taken out."""
        self._began_ns = now_ns()
        self._timer: Timer = loop.later(_SOONEST_LOOK_S, self._look)

    def end(self) -> dict[str, Any]:
        """The cure: count once more, then take the rules out; the last counts. May be asked for again."""
        self._timer.cancel()
        if self._last is None:
            counts = self._count()
            self._ruleset.take(self._rules)
            self._last = counts
        return self._last if self._cutter is None else {**self._cutter.take(self._rules.fault), **self._last}

    def remains(self) -> str:
        """What the kernel still has of the rules."""
        if left := self._ruleset.remains_of(self._rules.fault):
            return f"the kernel has its {', '.join(left)}"
        return "" if self._cutter is None else self._cutter.remains_of(self._rules.fault)

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
