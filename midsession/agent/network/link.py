"""The verb link: this host's interface goes down and up, by the ioctls of netdevice(7)."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.network.addresses import interface_of
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Link

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_FLAGS = "16sh6x"


def switch(agent: Agent, ask: Link, _answer: Answer) -> dict[str, Any]:
    """Down (a fault's begin, or a part of it) or up (its end, or a part of it)."""
    host = agent.run_under_way()
    if ask.up and host.is_broken(ask.fault):
        return host.heal(ask.fault)
    interface = interface_of(ask.own)
    began_ns = now_ns()
    _set(interface, ask.up)
    if ask.fault and not ask.up and not host.is_broken(ask.fault):
        host.injected(ask.fault, "link", began_ns, now_ns())
        host.broken(ask.fault, lambda: _cure(interface), lambda: _remains(interface))
        host.witnessed(ask.fault, "link", interface=interface)
    return {"interface": interface}


VERBS: dict[type[Any], Any] = {Link: switch}


def _cure(interface: str) -> dict[str, Any]:
    _set(interface, True)
    return {"interface": interface}


def _remains(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        return "" if _flags(control, interface) & _IFF_UP else f"{interface} is down"


def _set(interface: str, up: bool) -> None:
    """Switch it, and see that the kernel agrees. Raises OSError, Refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        flags = _flags(control, interface)
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack(_FLAGS, interface.encode(), wanted))
        if bool(_flags(control, interface) & _IFF_UP) != up:
            raise Refused(f"{interface} did not go {'up' if up else 'down'}")


def _flags(control: socket.socket, interface: str) -> int:
    answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack(_FLAGS, interface.encode(), 0))
    flags: int = struct.unpack(_FLAGS, answer)[1]
    return flags
