"""The verbs mislead and unmislead: what this host's resolver is told about one name.

DNS queries for that name, and no others, are led to a socket of the agent's own, by a rule that compares the name in
the packet; the name service that was to answer never sees them, and the answer seems to come from there. Queries over
TCP are not led here.
"""

from __future__ import annotations

import socket
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop
from midsession.agent.network import nft
from midsession.agent.network.names import answer
from midsession.agent.network.nft import Nft
from midsession.agent.network.redirection import FIRST, is_name, redirection
from midsession.agent.network.resolver import name_service
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
    """A socket that answers for the resolver, and the rule that leads queries to it. Raises Refused."""

    def __init__(self, loop: Loop, host: HostRun, ask: Mislead) -> None:
        self._loop, self._host, self._ask = loop, host, ask
        self._queries = 0
        self._nft, self._table = Nft(), f"ip midsession_{ask.fault}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(("127.0.0.1", 0))
            port = self._socket.getsockname()[1]
            rules = redirection(self._table, [ask.name], name_service(), port, FIRST, past_marked=True)
            self._nft.run(f"create table {self._table}\n{rules}")
        except BaseException:
            self._socket.close()
            raise
        loop.reader(self._socket.fileno(), self._asked)

    def end(self) -> dict[str, Any]:
        """The cure."""
        self._nft.run(f"delete table {self._table}")
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
        return {"queries": self._queries}

    def remains(self) -> str:
        """What the kernel still has of it."""
        tables = {f"{t['family']} {t['name']}" for item in self._nft.list("tables") if (t := item.get("table"))}
        return f"the table {self._table} leads queries astray" if self._table in tables else ""

    def _asked(self) -> None:
        query, asker = self._socket.recvfrom(4096)
        self._queries += 1
        if not self._ask.silent:
            lie = {} if self._ask.address is None else {self._ask.name: self._ask.address}
            if response := answer(query, lie):
                self._socket.sendto(response, asker)
        if self._queries == 1:
            self._host.witnessed(self._ask.fault, "query", name=self._ask.name)
