"""Our IPv4 addresses, by the ioctls of netdevice(7)."""

from __future__ import annotations

import fcntl
import socket
import struct

from midsession.agent.answer import Refused

_SIOCGIFADDR, _SIOCSIFADDR = 0x8915, 0x8916
_SIOCGIFNETMASK, _SIOCSIFNETMASK = 0x891B, 0x891C
_SIOCGIFFLAGS, IFF_UP = 0x8913, 0x1


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


def readdress(interface: str, address: str) -> None:
    """Put that address in place of the interface's own, in the same network. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        mask = _ask(control, _SIOCGIFNETMASK, interface)
        for what, value in ((_SIOCSIFADDR, socket.inet_aton(address)), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(control, what, struct.pack("16sHH4s8x", interface.encode(), socket.AF_INET, 0, value))


def flags_of(interface: str) -> int:
    """Its flags, of which `IFF_UP` says that it is switched on. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        answer = fcntl.ioctl(asker, _SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
    flags: int = struct.unpack_from("16sH", answer)[1]
    return flags


def is_up(interface: str) -> bool:
    """Whether it is switched on. Raises OSError."""
    return bool(flags_of(interface) & IFF_UP)


def _ask(asker: socket.socket, what: int, interface: str) -> bytes | None:
    try:
        answer = fcntl.ioctl(asker, what, struct.pack("16s24x", interface.encode()))
    except OSError:
        return None  # no IPv4 address on it
    return answer[20:24]
