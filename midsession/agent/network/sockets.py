"""The verb destroy, and the list of open TCP sockets: NETLINK_SOCK_DIAG, see sock_diag(7) and linux/inet_diag.h.

SOCK_DESTROY needs CAP_NET_ADMIN over the network namespace, and CONFIG_INET_DIAG_DESTROY; it is what `ss -K` uses.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Destroy

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_OPEN = sum(1 << state for state in (1, 4, 5, 8, 9, 11))
"""ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h)."""
_LINGERING = 1 << 6
"""TIME_WAIT."""
_UNDER_WAY = sum(1 << state for state in (2, 3))
"""SYN_SENT and SYN_RECV; the latter also finds what is no socket yet but a request for one."""

_HEADER = struct.Struct("=IHHII")
_REQUEST_HEAD = struct.Struct("=BBBxI")
_ID_BYTES = 48
_WITHIN_S = 2.0


class Open(NamedTuple):
    """An open TCP socket of this network namespace. `key` is how the kernel knows it: family and inet_diag_sockid."""

    own: str
    own_port: int
    peer: str
    peer_port: int
    key: tuple[int, bytes]


def destroy(agent: Agent, ask: Destroy, _answer: Answer) -> dict[str, Any]:
    """Destroy those that are meant, all of them; refused when there are none."""
    host = agent.run_under_way()
    meant = [s for s in open_now() if _is_meant(s, ask)]
    if not meant:
        raise Refused("no such connection is open")
    began_ns = now_ns()
    for found in meant:
        _destroy(found)
    t_ns = now_ns()
    if ask.fault:
        host.injected(ask.fault, "destroy", began_ns, t_ns)
    left = {s.key for s in open_now()} & {s.key for s in meant}
    if left:
        raise Refused(f"{len(left)} of {len(meant)} sockets are still there")
    if ask.fault:
        host.witnessed(ask.fault, "sockets", sockets=len(meant))
    return {"sockets": len(meant)}


VERBS: dict[type[Any], Any] = {Destroy: destroy}


def can_destroy() -> bool:
    """Whether this kernel can: asked to destroy what nobody can have, a connection from port 0 to port 0."""
    try:
        _destroy(Open("", 0, "", 0, (socket.AF_INET, bytes(_ID_BYTES))))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


def open_now() -> list[Open]:
    """The open TCP sockets with IPv4 addresses, in IPv6 sockets too. Raises OSError."""
    return _in_states(_OPEN)


def lingering_now() -> list[Open]:
    """Those in TIME_WAIT, with IPv4 addresses: nobody owns them any more. Raises OSError."""
    return _in_states(_LINGERING)


def known_now() -> list[Open]:
    """Those that are open, and those that are being opened: a NAT has seen their SYN. Raises OSError."""
    return _in_states(_UNDER_WAY | _OPEN)


def _in_states(states: int) -> list[Open]:
    return [s for family in (socket.AF_INET, socket.AF_INET6) for s in _dump(family, states)]


def _is_meant(found: Open, ask: Destroy) -> bool:
    return (
        ask.own in (None, found.own)
        and found.peer != found.own  # both ends are this host's: not cut off from anybody
        and (ask.peers is None or found.peer in ask.peers)
        and ask.own_port in (None, found.own_port)
        and ask.peer_port in (None, found.peer_port)
    )


def _dump(family: int, states: int) -> Iterator[Open]:
    ask = _REQUEST_HEAD.pack(family, socket.IPPROTO_TCP, 0, states) + bytes(_ID_BYTES)
    for data in _ask(_BY_FAMILY, _DUMP, ask):
        sock_id = data[4 : 4 + _ID_BYTES]
        own_port, peer_port = struct.unpack_from("!HH", sock_id)
        own, peer = _ipv4(family, sock_id[4:20]), _ipv4(family, sock_id[20:36])
        if own and peer:
            yield Open(own, own_port, peer, peer_port, (family, sock_id))


def _ipv4(family: int, address: bytes) -> str | None:
    if family == socket.AF_INET:
        return socket.inet_ntoa(address[:4])
    mapped = address[:12] == bytes(10) + b"\xff\xff"
    return socket.inet_ntoa(address[12:]) if mapped else None


def _destroy(found: Open) -> None:
    family, sock_id = found.key
    ask = _REQUEST_HEAD.pack(family, socket.IPPROTO_TCP, 0, _OPEN) + sock_id
    try:
        list(_ask(_DESTROY, _ACK, ask))
    except OSError as error:
        if error.errno != errno.ENOENT:  # it has closed by itself meanwhile
            raise


def _ask(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """Ask the kernel, and give the bodies of its answers. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asker:
        asker.settimeout(_WITHIN_S)
        asker.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
        while True:
            answer = asker.recv(1 << 20)
            while answer:
                size, answered, *_ = _HEADER.unpack_from(answer)
                if answered == _DONE:
                    return
                if answered == _ERROR:
                    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield answer[_HEADER.size : size]
                answer = answer[(size + 3) & ~3 :]
