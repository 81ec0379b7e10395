"""The verbs impair and mend: what this host's link does to packets, by the mechanism that the kernel has.

The queue comes first where the kernel has one: it is exact, its draws are those of the run's seed, it measures what it
does, and lets everything go in order when it ends. netem, where there is no queue, does the same in the kernel, but
for what it cannot do, see `midsession.agent.shape`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Impair, Mend
from midsession.agent.queue import Add, Done, Failed, QueueProcess, Remove, Witness
from midsession.agent.queue_rules import QueueRules, Way
from midsession.agent.say import say
from midsession.core.plan import substream

if TYPE_CHECKING:
    from midsession.agent.agent import Agent

_ANSWER_S = 5.0


def prepare(agent: Agent) -> None:
    """Have the process and the hooks ready, so that an impairment has to add nothing but itself."""
    _queueing(agent, agent.run_under_way())


def put(agent: Agent, ask: Impair, _answer: Answer) -> dict[str, Any]:
    """Put it in. Refused when this step impairs this host already, or when no mechanism can do it."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    queue = _queueing(agent, host)
    began_ns = now_ns()
    queue.put(ask, substream(host.seed, "link", f"{host.name}/{ask.fault}"))
    host.injected(ask.fault, "impair", began_ns, now_ns(), mechanism="queue", rules=queue.rules.by)
    host.broken(ask.fault, lambda: queue.take(ask.fault))
    return {"mechanism": "queue"}


def take(agent: Agent, ask: Mend, _answer: Answer) -> dict[str, Any]:
    """Take it out; nothing to do where there is none."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Impair: put, Mend: take}


def _queueing(agent: Agent, host: HostRun) -> Queueing:
    if host.queue is None:
        host.queue = Queueing(agent.loop, host)
    return host.queue


class Queueing:
    """The queue of one host's run, made at the first need and closed at the run's end: its process, and its rules.

    Raises Refused, OSError where this host cannot have one.
    """

    def __init__(self, loop: Loop, host: HostRun) -> None:
        self._loop, self._host = loop, host
        self.rules = QueueRules()
        self._overrun = 0
        self._process = QueueProcess()
        self._loop.reader(self._process.fileno(), self._listen)

    def put(self, ask: Impair, key: str) -> None:
        """The process first, then the rules: no packet waits for a reader. Raises Refused, OSError."""
        peers = None if ask.peers is None else tuple(ask.peers)
        self._order(Add(ask.fault, ask.how, ask.direction, ask.peers, key))
        try:
            self.rules.put(ask.fault, Way(ask.own, peers, ask.direction))
        except Refused:
            self._order(Remove(ask.fault))
            raise

    def take(self, fault: str) -> dict[str, Any]:
        """The cure: what is held goes on in order, then no more packets come. Returns the last counts."""
        done = self._order(Remove(fault))
        self.rules.take(fault)
        overrun, self._overrun = done.overrun - self._overrun, done.overrun
        return {**done.counts, **({"overrun": overrun} if overrun else {})}

    def close(self) -> None:
        """Take away the rules, then the process. Raises Refused."""
        self._loop.forget(self._process.fileno())
        try:
            self.rules.remove()
        finally:
            self._process.end()

    def _order(self, order: Add | Remove) -> Done:
        self._process.ask(order)
        until = time.monotonic() + _ANSWER_S
        while (left_s := until - time.monotonic()) > 0:
            answer = self._process.hear(left_s)
            if isinstance(answer, Done):
                return answer
            self._take_in(answer)
        raise Refused(f"the process that holds the packets does not answer: not within {_ANSWER_S:g} s")

    def _listen(self) -> None:
        try:
            self._take_in(self._process.hear(0))
        except (OSError, Refused) as error:
            self._loop.forget(self._process.fileno())
            say(f"the queue of packets: {error}")  # the next order, or cure, is refused

    def _take_in(self, answer: Witness | Done | Failed | None) -> None:
        if isinstance(answer, Witness):
            self._host.witnessed(answer.fault, "queue", **answer.counts)
        elif isinstance(answer, Failed):
            raise Refused(answer.error)
