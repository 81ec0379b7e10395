"""NFQUEUE over a raw netlink socket: packets come up from the kernel, verdicts go down.

Sources: linux/netfilter/nfnetlink_queue.h, net/netfilter/nfnetlink_queue.c, netlink(7). One packet is one message; the
kernel has computed its checksum and cut it to the MTU (no NFQA_CFG_F_GSO), so what comes is what goes over the wire.
Many verdicts go down in one message each, sent together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable

from midsession.agent.network.stages import Packet

PREROUTING, OUTPUT = 0, 3
"""The netfilter hooks (NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT): packets to this host, and from it."""

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 3 << 8  # NFNL_SUBSYS_QUEUE
_PACKET, _VERDICT, _CONFIG = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_REQUEST, _ACK = 0x1, 0x4
_ERROR = 2
_PACKET_TYPE = struct.pack("=H", _PACKET)
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND = 1
_COPY_PACKET = 2
_FAIL_OPEN = 1
_VERDICT_HDR, _PAYLOAD = 2, 10
_DROP, _ACCEPT = 0, 1

_MESSAGE = struct.Struct("=IHHII")
_FAMILY = struct.Struct("!BBH")  # struct nfgenmsg: family, version, the queue's number
_ATTRIBUTE = struct.Struct("=HH")
_HEADERS_BYTES = _MESSAGE.size + _FAMILY.size
_NUMBER_AT = _HEADERS_BYTES + _ATTRIBUTE.size
"""Where the packet's number is: NFQA_PACKET_HDR comes first (nfqnl_build_packet_message)."""
_HOOK_AT = _NUMBER_AT + 6
_IP_HEADER_BYTES = 20
_IP_MOST_BYTES = 65535
_MESSAGE_ROOM = 1024
"""What comes besides the payload is far less."""
_BUFFER_BYTES = 32 << 20
_MAXLEN = 1 << 20
_SO_RCVBUFFORCE = 33
_BATCH = 64
_VERDICTS_AT_ONCE = 256


class NfQueue:
    """The queue `number` of this network namespace; its packets come `whole`, or their IP headers alone.

    Raises OSError where the kernel has none, or it is taken. Fails open: what finds the socket's buffer full passes
    unharmed; it is counted in `overrun`.
    """

    def __init__(self, number: int, whole: bool = False) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        _enlarge(self._socket)
        self._family = _FAMILY.pack(socket.AF_UNSPEC, 0, number)
        self._whole = whole
        self._last = 0
        self.overrun = 0
        self._accept = self._verdict(_ACCEPT)
        self._drop = self._verdict(_DROP)
        self._verdicts: list[bytes] = []
        self._configure(_attribute(_CFG_CMD, struct.pack("!BBH", _BIND, 0, socket.AF_INET)))
        self._configure(
            self._copies()
            + _attribute(_CFG_MAXLEN, struct.pack("!I", _MAXLEN))
            + _attribute(_CFG_MASK, struct.pack("!I", _FAIL_OPEN))
            + _attribute(_CFG_FLAGS, struct.pack("!I", _FAIL_OPEN))
        )
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Readable when packets have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """The kernel drops what still waits for a verdict."""
        self._socket.close()

    def want_whole(self) -> None:
        """Packets come whole from now on, instead of their IP headers alone."""
        if not self._whole:
            self._whole = True
            self._send(_CONFIG, _REQUEST, self._copies())

    def receive(self, taken: Callable[[Packet], None]) -> None:
        """Hand over packets that have come: some of them, when there are many."""
        room = _MESSAGE_ROOM + (_IP_MOST_BYTES if self._whole else _IP_HEADER_BYTES)
        receive = self._socket.recv
        for _ in range(_BATCH):
            try:
                message = receive(room)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the buffer overran; the numbers tell by how many
                    raise
                continue
            if message[4:6] == _PACKET_TYPE:
                taken(self._parse(message))

    def accept(self, packet: Packet) -> None:
        """Let it go on, with the next `flush`."""
        assert packet.number is not None
        if packet.changed:
            self._verdicts.append(self._changed(packet.number, packet.data))
        else:
            self._verdicts.append(self._accept + packet.number)

    def drop(self, packet: Packet) -> None:
        """Lose it, with the next `flush`."""
        assert packet.number is not None
        self._verdicts.append(self._drop + packet.number)

    def flush(self) -> None:
        """Send the verdicts, in their order."""
        verdicts, self._verdicts = self._verdicts, []
        for at in range(0, len(verdicts), _VERDICTS_AT_ONCE):
            self._socket.send(b"".join(verdicts[at : at + _VERDICTS_AT_ONCE]))

    # --- messages --------------------------------------------------------------------------------------------------

    def _parse(self, message: bytes) -> Packet:
        number = message[_NUMBER_AT : _NUMBER_AT + 4]
        self._count(int.from_bytes(number, "big"))
        hook = message[_HOOK_AT]
        # The payload is the last attribute, and no packet is shorter than an IP header.
        data = _payload(message) if self._whole else message[-_IP_HEADER_BYTES:]
        peer = data[12:16] if hook == PREROUTING else data[16:20]
        return Packet(number, (hook, peer), data)

    def _count(self, number: int) -> None:
        """The kernel numbers what it tries to send: a gap is what did not fit."""
        if number > self._last + 1:
            self.overrun += number - self._last - 1
        self._last = number

    def _copies(self) -> bytes:
        most = _IP_MOST_BYTES if self._whole else _IP_HEADER_BYTES
        return _attribute(_CFG_PARAMS, struct.pack("!IB", most, _COPY_PACKET))

    def _verdict(self, what: int) -> bytes:
        """A whole message but for the packet's number, which is its end."""
        attribute = _ATTRIBUTE.pack(12, _VERDICT_HDR) + struct.pack("!I", what)
        return _MESSAGE.pack(_HEADERS_BYTES + 12, _VERDICT, _REQUEST, 0, 0) + self._family + attribute

    def _changed(self, number: bytes, data: bytes) -> bytes:
        body = _attribute(_VERDICT_HDR, struct.pack("!I", _ACCEPT) + number) + _attribute(_PAYLOAD, data)
        return _MESSAGE.pack(_HEADERS_BYTES + len(body), _VERDICT, _REQUEST, 0, 0) + self._family + body

    def _configure(self, attributes: bytes) -> None:
        """Send and see that the kernel has accepted it. Raises OSError."""
        self._send(_CONFIG, _REQUEST | _ACK, attributes)
        while True:
            answer = self._socket.recv(_MESSAGE_ROOM)
            _, kind, *_ = _MESSAGE.unpack_from(answer)
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", answer, _MESSAGE.size)
                if code:
                    raise OSError(-code, f"NFQUEUE: {os.strerror(-code)}")
                return

    def _send(self, kind: int, flags: int, attributes: bytes) -> None:
        header = _MESSAGE.pack(_HEADERS_BYTES + len(attributes), kind, flags, 0, 0)
        self._socket.send(header + self._family + attributes)


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _payload(message: bytes) -> bytes:
    """The packet in a message, as far as it was copied."""
    at = _HEADERS_BYTES
    while at < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _PAYLOAD:
            return message[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    raise OSError(errno.EBADMSG, "NFQUEUE: a packet without its payload")


def _enlarge(queue: socket.socket) -> None:
    """As large a buffer as we may have: beyond net.core.rmem_max only with CAP_NET_ADMIN over the whole machine."""
    queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    with contextlib.suppress(PermissionError):
        queue.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
