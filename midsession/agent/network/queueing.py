"""Impairments by the queue, as the agent has it: one process that holds packets, and the rules that send them to it."""

from __future__ import annotations

import time
from typing import Any

from midsession.agent.answer import Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop
from midsession.agent.network.queue import Add, Done, Failed, Look, QueueProcess, Remove, State, Witness
from midsession.agent.network.queue_rules import QueueRules, Way
from midsession.agent.protocol import Impair
from midsession.agent.say import say

_ANSWER_S = 5.0


class Queueing:
    """The queue of one host's run, made at the first need and closed at the run's end: its process, and its rules.

    Raises Refused, OSError where this host cannot have one.
    """

    name = "queue"

    def __init__(self, loop: Loop, host: HostRun) -> None:
        self._loop, self._host = loop, host
        self._told = {"overrun": 0, "unsent": 0}
        self._process = QueueProcess()
        try:
            self._rules = QueueRules()
        except BaseException:
            self._process.end()
            raise
        self._loop.reader(self._process.fileno(), self._listen)

    def put(self, ask: Impair, key: str) -> dict[str, Any]:
        """The process first, then the rules: no packet waits for a reader. Returns what `injected` should say."""
        peers = None if ask.peers is None else tuple(ask.peers)
        self._order(Add(ask.fault, ask.how, ask.direction, ask.peers, key))
        try:
            self._rules.put(ask.fault, Way(ask.own, peers, ask.direction))
        except Refused:
            self._order(Remove(ask.fault))
            raise
        return {"rules": self._rules.by}

    def take(self, fault: str) -> dict[str, Any]:
        """The cure: what is held goes on in order, then no more packets come. Returns the last counts."""
        done = self._order(Remove(fault))
        assert isinstance(done, Done)
        self._rules.take(fault)
        failed, told = {"overrun": done.overrun, "unsent": done.unsent}, self._told
        self._told = failed
        return {**done.counts, **{what: new for what in failed if (new := failed[what] - told[what])}}

    def remains_of(self, fault: str) -> str:
        """Asks the process what it has, and the kernel for its rules."""
        state = self._order(Look())
        assert isinstance(state, State)
        if fault in state.faults:
            return "packets still go through it"
        if state.waiting and not state.faults:
            return f"{state.waiting} packets are still held"
        return self._rules.remains_of(fault)

    def close(self) -> None:
        """Take away the rules, then the process. Raises Refused."""
        self._loop.forget(self._process.fileno())
        try:
            self._rules.remove()
        finally:
            self._process.end()

    def _order(self, order: Add | Remove | Look) -> Done | State:
        self._process.ask(order)
        until = time.monotonic() + _ANSWER_S
        while (left_s := until - time.monotonic()) > 0:
            answer = self._process.hear(left_s)
            if isinstance(answer, Done | State):
                return answer
            self._take_in(answer)
        raise Refused(f"the process that holds the packets does not answer: not within {_ANSWER_S:g} s")

    def _listen(self) -> None:
        try:
            self._take_in(self._process.hear(0))
        except (OSError, Refused) as error:
            self._loop.forget(self._process.fileno())
            say(f"the queue of packets: {error}")  # the next order, or cure, is refused

    def _take_in(self, answer: Witness | Done | State | Failed | None) -> None:
        if isinstance(answer, Witness):
            self._host.witnessed(answer.fault, "queue", **answer.counts)
        elif isinstance(answer, Failed):
            raise Refused(answer.error)
