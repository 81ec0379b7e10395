"""Our IPv4 addresses, asked of the kernel with the ioctls of netdevice(7)."""

from __future__ import annotations

import fcntl
import socket
import struct

from midsession.agent.answer import Refused

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B


def own_addresses() -> dict[str, str]:
    """The primary IPv4 address of every interface but the loopback, as `ip/prefix` by interface name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        for _, name in socket.if_nameindex():
            address, mask = _ask(asker, _SIOCGIFADDR, name), _ask(asker, _SIOCGIFNETMASK, name)
            if address and mask and not address.startswith(b"\x7f"):
                found[name] = f"{socket.inet_ntoa(address)}/{int.from_bytes(mask, 'big').bit_count()}"
    return found


def interface_of(address: str) -> str:
    """The interface that holds an address, up or down; raises Refused."""
    for name, held in own_addresses().items():
        if held.partition("/")[0] == address:
            return name
    raise Refused(f"no interface of this host has the address {address}")


def _ask(asker: socket.socket, what: int, interface: str) -> bytes | None:
    try:
        answer = fcntl.ioctl(asker, what, struct.pack("16s24x", interface.encode()))
    except OSError:
        return None  # no IPv4 address on it
    return answer[20:24]
