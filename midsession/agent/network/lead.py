"""The verbs lead and unlead: where this host's resolver says that a host is that has moved.

For a name service that goes on with the addresses that it gave, as Docker's does in every container: the agent answers
queries for the names of that host in its place, and looks them up itself before it says so. Queries over TCP, which the
name service would answer with the old address, are refused meanwhile (RST), for whatever name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.loop import Loop
from midsession.agent.network import names
from midsession.agent.network.addresses import own_addresses
from midsession.agent.network.redirection import SECOND, UNTOUCHED, is_name
from midsession.agent.network.resolver import DNS_PORT, name_service
from midsession.agent.network.standin import StandIn
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Lead, Unlead

_ANSWERED_WITHIN_S = 1.0


def lead(agent: Agent, ask: Lead, answer: Answer) -> None:
    """Say where some names lead. Refused when this step does so here already, and when they are not found there."""
    host = agent.run_under_way()
    has_moved = host.is_broken(ask.fault) and _is_here(ask.address)
    if host.is_broken(ask.fault) and not has_moved:
        raise Refused(f"{ask.fault} is in force already")
    if not ask.names or not all(map(is_name, ask.names)):
        raise Refused(f"{ask.names} are no names that a host can have")
    began_ns = now_ns()
    way = _Way(agent.loop, ask)
    if has_moved:
        host.also_broken(ask.fault, way.end, way.remains)
    else:
        host.injected(ask.fault, "lead", began_ns, now_ns())
        host.broken(ask.fault, way.end, way.remains)

    def looked_up(missed: Sequence[str]) -> None:
        if missed:
            answer.refuse(f"this host's resolver does not say that {missed[0]} is at {ask.address}")
            return
        if has_moved and not host.finished:
            host.witnessed(ask.fault, "address", address=ask.address)
        answer.give({})

    _LookUp(agent.loop, ask.names, ask.address, looked_up)


def unlead(agent: Agent, ask: Unlead, _answer: Answer) -> dict[str, Any]:
    """Say nothing any more; nothing to do where nothing was said."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Lead: lead, Unlead: unlead}


class _Way:
    """Answers in the name service's place, for the names of a host. Raises Refused, OSError."""

    def __init__(self, loop: Loop, ask: Lead) -> None:
        self._ask, hosts = ask, dict.fromkeys(ask.names, ask.address)
        self._stand_in = StandIn(
            loop, ask.fault, ask.names, lambda query: names.answer(query, hosts), SECOND, more=_over_tcp()
        )

    def end(self) -> dict[str, Any]:
        """The cure."""
        self._stand_in.end()
        return {}

    def remains(self) -> str:
        """What the kernel still has of it, or that the name service says something else than before."""
        name, own = self._ask.names[0], self._ask.own
        astray = self._stand_in.remains()
        return astray or ("" if _is_found(name, own) else f"the resolver does not say that {name} is at {own}")


def _over_tcp() -> str:
    """The chain that refuses queries over TCP."""
    hook = f"type filter hook output priority {SECOND}; policy accept;"
    return f"chain over_tcp {{ {hook} ip daddr {name_service()} tcp dport {DNS_PORT} reject with tcp reset; }}"


class _LookUp:
    """Asks this host's resolver for names; tells `then` which of them it does not say to be at that address.

    Raises OSError, Refused.
    """

    def __init__(self, loop: Loop, wanted: Sequence[str], address: str, then: Callable[[Sequence[str]], None]) -> None:
        self._loop, self._address, self._then = loop, address, then
        self._missed = dict.fromkeys(wanted)
        self._open: list[socket.socket] = []
        for name in wanted:
            asker = _asking(name)
            self._open.append(asker)
            loop.reader(asker.fileno(), partial(self._answered, name, asker))
        self._timer = loop.later(_ANSWERED_WITHIN_S, self._over)

    def _answered(self, name: str, asker: socket.socket) -> None:
        if _says(asker, self._address):
            del self._missed[name]
        self._close(asker)
        if not self._open:
            self._timer.cancel()
            self._over()

    def _over(self) -> None:
        for asker in list(self._open):
            self._close(asker)
        self._then(list(self._missed))

    def _close(self, asker: socket.socket) -> None:
        self._open.remove(asker)
        self._loop.forget(asker.fileno())
        asker.close()


def _is_here(address: str) -> bool:
    return any(held.partition("/")[0] == address for held in own_addresses().values())


def _is_found(name: str, address: str) -> bool:
    """Whether this host's resolver says so, when it is somebody else who answers."""
    with _asking(name) as asker:
        asker.settimeout(_ANSWERED_WITHIN_S)
        return _says(asker, address)


def _asking(name: str) -> socket.socket:
    """A socket that has asked for a name, past all lies. Raises OSError, Refused."""
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, UNTOUCHED)
    asker.connect((name_service(), DNS_PORT))
    asker.send(names.query(name))
    return asker


def _says(asker: socket.socket, address: str) -> bool:
    try:
        return names.is_at(asker.recv(512), address)
    except OSError:  # not in time, or nobody is there
        return False
