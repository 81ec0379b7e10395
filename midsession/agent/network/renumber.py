"""The verbs renumber and unrenumber: this host's interface has another address in place of its own (RFC 4192's word).

The name service is told by a message whose sender's address is all that it says. Nothing has to be told to the others
on the link: the address is new to them, and when the old one comes back, it is still at the same Ethernet address.
"""

from __future__ import annotations

import socket
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.network import names
from midsession.agent.network.addresses import interface_of, own_addresses, readdress
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Renumber, Unrenumber

RESOLVER = "/etc/resolv.conf"
_DNS_PORT = 53
_ACKNOWLEDGED_WITHIN_S = 0.5
"""It is next door, and answers at once; meanwhile this agent does nothing else."""


def renumber(agent: Agent, ask: Renumber, _answer: Answer) -> dict[str, Any]:
    """The other address. Refused when this step has given it one already."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    interface = interface_of(ask.own)
    began_ns = now_ns()
    _give(interface, ask.address)
    host.injected(ask.fault, "renumber", began_ns, now_ns())
    host.broken(ask.fault, lambda: _cure(interface, ask.own), lambda: _remains(interface, ask.own))
    if _is_known_at(ask.address):
        host.witnessed(ask.fault, "address", interface=interface, address=ask.address)
    return {}


def unrenumber(agent: Agent, ask: Unrenumber, _answer: Answer) -> dict[str, Any]:
    """Its own again; nothing to do where it is."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Renumber: renumber, Unrenumber: unrenumber}


def _cure(interface: str, own: str) -> dict[str, Any]:
    _give(interface, own)
    if not _is_known_at(own):
        raise Refused(f"the name service has not heard that the host is at {own} again")
    return {"interface": interface, "address": own}


def _remains(interface: str, own: str) -> str:
    address = own_addresses()[interface].partition("/")[0]
    return "" if address == own else f"{interface} has the address {address}"


def _give(interface: str, address: str) -> None:
    """Give it, and see that the kernel agrees. Raises OSError, Refused."""
    readdress(interface, address)
    if own_addresses()[interface].partition("/")[0] != address:
        raise Refused(f"{interface} did not get the address {address}")


def _is_known_at(address: str) -> bool:
    """Tell the name service that the host is at that address; whether it has acknowledged it, to that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
        teller.settimeout(_ACKNOWLEDGED_WITHIN_S)
        try:
            teller.bind((address, 0))
            teller.connect((_name_service(), _DNS_PORT))
            teller.send(names.update())
            return names.is_acknowledged(teller.recv(512))
        except OSError:  # its network is broken, too
            return False


def _name_service() -> str:
    """The first of this host's resolver, see resolv.conf(5). Raises Refused."""
    with open(RESOLVER) as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "nameserver":
                return value.strip()
    raise Refused(f"{RESOLVER} names no name service")
