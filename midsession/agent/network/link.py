"""The verbs link and relink: this host's interface goes down and up, by the ioctls of netdevice(7).

Several faults may have it down at a time. It comes up when the last of them lets go. The kernel takes its routes away
when it goes down; those through gateways are put back.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.network import routes
from midsession.agent.network.addresses import IFF_UP, flags_of, interface_of, is_up
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Link, Relink

_SIOCSIFFLAGS = 0x8914


def switch(agent: Agent, ask: Link, _answer: Answer) -> dict[str, Any]:
    """Down (a fault's begin, or a part of it), or up for a while as far as this fault goes."""
    host = agent.run_under_way()
    if ask.up:
        return _let_go(host, ask.fault)
    interface = interface_of(ask.own)
    if interface not in host.down.values():
        host.ways[interface] = routes.through_gateways(interface)
    began_ns = now_ns()
    _set(interface, False)
    host.down[ask.fault] = interface
    if not host.is_broken(ask.fault):
        host.injected(ask.fault, "link", began_ns, now_ns())
        host.broken(
            ask.fault,
            lambda: {"interface": interface} | _let_go(host, ask.fault),
            lambda: _remains(host, ask.fault, interface),
        )
        host.witnessed(ask.fault, "link", interface=interface)
    return {"interface": interface}


def relink(agent: Agent, ask: Relink, _answer: Answer) -> dict[str, Any]:
    """The fault's end; nothing to do where it had no begin."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Link: switch, Relink: relink}


def _let_go(host: HostRun, fault: str) -> dict[str, Any]:
    """The interface that the fault has down, if any, is up, unless another has it down."""
    interface = host.down.get(fault)
    if interface is None:
        return {}
    if not _is_held(host, fault, interface):
        _set(interface, True)
        routes.put_back(interface, host.ways[interface])
    del host.down[fault]
    return {"interface": interface}


def _is_held(host: HostRun, fault: str, interface: str) -> bool:
    """Whether another fault has it down."""
    return any(held == interface for other, held in host.down.items() if other != fault)


def _remains(host: HostRun, fault: str, interface: str) -> str:
    if _is_held(host, fault, interface):
        return ""
    if not is_up(interface):
        return f"{interface} is down"
    lost = set(host.ways[interface]) - set(routes.through_gateways(interface))
    return f"{interface} has lost a route" if lost else ""


def _set(interface: str, up: bool) -> None:
    """Switch it, and see that the kernel agrees. Raises OSError, Refused."""
    flags = flags_of(interface)
    wanted = flags | IFF_UP if up else flags & ~IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), wanted))
    if is_up(interface) != up:
        raise Refused(f"{interface} did not go {'up' if up else 'down'}")
