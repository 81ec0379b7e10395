"""The verbs mislead and unmislead: what this host's resolver is told about one name.

DNS queries for that name, and no others, are led to a socket of the agent's own, by a rule that compares the name in
the packet; the name service that was to answer never sees them, and the answer seems to come from there. Queries over
TCP are not led here.
"""

from __future__ import annotations

from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop
from midsession.agent.network import nft
from midsession.agent.network.names import answer
from midsession.agent.network.redirection import FIRST, is_name
from midsession.agent.network.standin import StandIn
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Mislead, Unmislead


def prepare(_agent: Agent) -> None:
    """Nothing but the way to the packet rules."""
    nft.preload()


def mislead(agent: Agent, ask: Mislead, _answer: Answer) -> dict[str, Any]:
    """Answer queries for a name otherwise; refused when this step does so here already."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    if not is_name(ask.name):
        raise Refused(f"{ask.name!r} is no name that a host can have")
    began_ns = now_ns()
    lie = _Lie(agent.loop, host, ask)
    host.injected(ask.fault, "mislead", began_ns, now_ns())
    host.broken(ask.fault, lie.end, lie.remains)
    return {}


def unmislead(agent: Agent, ask: Unmislead, _answer: Answer) -> dict[str, Any]:
    """The truth again; nothing to do where there was no lie."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Mislead: mislead, Unmislead: unmislead}


class _Lie:
    """Answers in the name service's place, for one name. Raises Refused, OSError."""

    def __init__(self, loop: Loop, host: HostRun, ask: Mislead) -> None:
        self._host, self._ask = host, ask
        self._queries = 0
        self._stand_in = StandIn(loop, ask.fault, [ask.name], self._respond, FIRST, past_marked=True)
        self.remains = self._stand_in.remains

    def end(self) -> dict[str, Any]:
        """The cure."""
        self._stand_in.end()
        return {"queries": self._queries}

    def _respond(self, query: bytes) -> bytes | None:
        self._queries += 1
        if self._queries == 1:
            self._host.witnessed(self._ask.fault, "query", name=self._ask.name)
        if self._ask.silent:
            return None
        return answer(query, {} if self._ask.address is None else {self._ask.name: self._ask.address})
