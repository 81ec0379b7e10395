"""The verbs renumber and unrenumber: this host's interface has another address in place of its own (RFC 4192's word).

A name service that can be told is told from the other address, both when the host has come there and when it is about
to leave: other faults mean the host's own address, and what they do to its packets is nothing to this one. Nothing has
to be told to the others on the link: the address is new to them, and when the old one comes back, it is still at the
same Ethernet address. Routes through a gateway stay.
"""

from __future__ import annotations

import socket
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.network import names, routes
from midsession.agent.network.addresses import interface_of, is_up, own_addresses, readdress
from midsession.agent.network.resolver import DNS_PORT, name_service
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Renumber, Unrenumber

_ACKNOWLEDGED_WITHIN_S = 0.5
"""It is next door, and answers at once; meanwhile this agent does nothing else."""


def renumber(agent: Agent, ask: Renumber, _answer: Answer) -> dict[str, Any]:
    """The other address. Refused when this step has given it one already."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    move = _Move(ask)
    if not is_up(move.interface):
        raise Refused(f"{move.interface} is down: nobody could find the host elsewhere")
    began_ns = now_ns()
    move.make()
    host.injected(ask.fault, "renumber", began_ns, now_ns())
    host.broken(ask.fault, move.cure, move.remains)
    if ask.update and _is_known_at(ask.address):
        host.witnessed(ask.fault, "address", interface=move.interface, address=ask.address)
    return {}


def unrenumber(agent: Agent, ask: Unrenumber, _answer: Answer) -> dict[str, Any]:
    """Its own again; nothing to do where it is."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Renumber: renumber, Unrenumber: unrenumber}


class _Move:
    """From one address to another and back, on an interface with its routes. Raises OSError, Refused."""

    def __init__(self, ask: Renumber) -> None:
        self._ask, self.interface = ask, interface_of(ask.own)
        self._routes = routes.through_gateways(self.interface)

    def make(self) -> None:
        """There; the kernel agrees."""
        self._give(self._ask.address)

    def cure(self) -> dict[str, Any]:
        """Back."""
        own = self._ask.own
        if self._ask.update and not _is_known_at(own):
            raise Refused(f"the name service has not heard that the host is at {own} again")
        self._give(own)
        return {"interface": self.interface, "address": own}

    def remains(self) -> str:
        """What is not as it was."""
        address = own_addresses()[self.interface].partition("/")[0]
        if address != self._ask.own:
            return f"{self.interface} has the address {address}"
        if is_up(self.interface) and set(self._routes) - set(routes.through_gateways(self.interface)):
            return f"{self.interface} has lost a route"
        return ""

    def _give(self, address: str) -> None:
        readdress(self.interface, address)
        if own_addresses()[self.interface].partition("/")[0] != address:
            raise Refused(f"{self.interface} did not get the address {address}")
        if is_up(self.interface):  # else they come back with it, see `link`
            routes.put_back(self.interface, self._routes)


def _is_known_at(address: str) -> bool:
    """Tell the name service, from where the host is now, that its name leads there; whether it has acknowledged it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
        teller.settimeout(_ACKNOWLEDGED_WITHIN_S)
        try:
            teller.connect((name_service(), DNS_PORT))
            teller.send(names.update(address))
            return names.is_acknowledged(teller.recv(512))
        except OSError:
            return False
