"""Sends IP packets that the kernel has not any more, as they are, and cuts those that are too long for their link.

What a host sends is cut late, behind every netfilter hook (ip_finish_output): who takes a packet away before has taken
the whole datagram, and a raw socket refuses what is longer than the MTU (raw_send_hdrinc, EMSGSIZE). So we cut it here.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

_HEADER = 20
_DONT, _MORE, _OFFSET = 0x4000, 0x2000, 0x1FFF
_UNIT = 8
"""Offsets are counted in so many bytes."""
_IP_MTU = 14  # linux/in.h; Python has no name for it
_TAKEN = {errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}
"""Another fault's rule, or a link that is down, takes a packet as it comes: it would have without us."""


class Sender:
    """A raw socket whose packets bear the mark `mark`. Counts those that it had to lose, in `unsent`."""

    def __init__(self, mark: int) -> None:
        self._socket = raw_socket(mark)
        self.unsent = 0

    def send(self, packet: bytes) -> None:
        """Send it, whole or in pieces."""
        peer = (socket.inet_ntoa(packet[16:20]), 0)
        try:
            try:
                self._socket.sendto(packet, peer)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                for piece in pieces(packet, mtu_to(peer[0])):
                    self._socket.sendto(piece, peer)
        except ValueError:
            self.unsent += 1
        except OSError as error:
            self.unsent += error.errno not in _TAKEN


def raw_socket(mark: int) -> socket.socket:
    """One whose packets come with their IP header, and bear that mark. Raises OSError."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return raw


def pieces(packet: bytes, mtu: int) -> Iterator[bytes]:
    """The packet as fragments of at most `mtu` bytes (RFC 791, 3.2); their checksums are the kernel's to make.

    Raises ValueError when it must not be cut, and for one with options: not all of them go into every fragment.
    """
    flags = int.from_bytes(packet[6:8], "big")
    if flags & _DONT or packet[0] & 0x0F != _HEADER // 4:
        raise ValueError("it cannot be cut")
    number = packet[4:6] if any(packet[4:6]) else b"\xff\xff"  # without one, the kernel would number each for itself
    room = (mtu - _HEADER) // _UNIT * _UNIT
    for at in range(_HEADER, len(packet), room):
        piece = packet[at : at + room]
        is_last = at + room >= len(packet)
        offset = (flags & _OFFSET) + (at - _HEADER) // _UNIT
        place = (flags & _MORE if is_last else _MORE) | offset
        length = (_HEADER + len(piece)).to_bytes(2, "big")
        yield packet[:2] + length + number + place.to_bytes(2, "big") + packet[8:_HEADER] + piece


def mtu_to(address: str) -> int:
    """The MTU of the way there, as the kernel knows it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asker:
        asker.connect((address, 1))
        return asker.getsockopt(socket.IPPROTO_IP, _IP_MTU)
