"""This host's IPv4 routes through a gateway: the kernel takes them away with the address of their interface.

Read from /proc/net/route, and put back by the ioctl of route(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

_SIOCADDRT = 0x890B
_UP, _GATEWAY = 0x1, 0x2
_RTENTRY = struct.Struct("@L16s16s16sHhLPhPLLH")
"""struct rtentry of linux/route.h; the gateways of this host are told apart by their metric, which it counts from 1."""
_TABLE = "/proc/net/route"


class Route(NamedTuple):
    """A route: addresses in network byte order, as 4 bytes."""

    interface: str
    destination: bytes
    mask: bytes
    gateway: bytes
    metric: int


def through_gateways(interface: str) -> list[Route]:
    """Those that leave by an interface. Raises OSError."""
    with open(_TABLE, encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [
        Route(interface, _bytes(row[1]), _bytes(row[7]), _bytes(row[2]), int(row[6]))
        for row in rows
        if row[0] == interface and int(row[3], 16) & _GATEWAY
    ]


def put_back(interface: str, wanted: Iterable[Route]) -> None:
    """Have these routes, of which some may be there. Raises OSError."""
    there = through_gateways(interface)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        for route in wanted:
            if route not in there:
                name = ctypes.create_string_buffer(route.interface.encode())
                fcntl.ioctl(control, _SIOCADDRT, _entry(route, ctypes.addressof(name)))


def _entry(route: Route, interface_at: int) -> bytes:
    ends = (_socket_address(address) for address in (route.destination, route.gateway, route.mask))
    return _RTENTRY.pack(0, *ends, _UP | _GATEWAY, 0, 0, 0, route.metric + 1, interface_at, 0, 0, 0)


def _socket_address(address: bytes) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address)


def _bytes(column: str) -> bytes:
    """An address, which the kernel prints as a number of the machine's own byte order."""
    return int(column, 16).to_bytes(4, sys.byteorder)
