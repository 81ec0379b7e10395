"""What sockets say, in the words of records: how a connection is lost, and an address as one text."""

from __future__ import annotations

import errno
from typing import Any

LOST_HOW = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",  # the RST came earlier; only this write tells
    errno.ESHUTDOWN: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ENONET: "unreachable",
    errno.EACCES: "unreachable",  # a firewall's "administratively prohibited"
    errno.EPERM: "unreachable",
    errno.EPROTO: "unreachable",
    errno.ENOPROTOOPT: "unreachable",
    errno.ECONNABORTED: "aborted",  # the own end was destroyed (SOCK_DESTROY, `ss -K`)
}
"""How a connection is lost, by the error that its socket reported."""


def address_text(address: Any) -> str:
    """`ip:port`, or `[ip]:port` for IPv6, of a socket's address (`getpeername`); `unknown` where there is none: the
    connection was gone before its address could be asked."""
    if not address:
        return "unknown"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
