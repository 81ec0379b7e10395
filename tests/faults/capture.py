"""An independent capture: every TCP segment at `eth0` of this network namespace, one JSON line each, by AF_PACKET.

No part of the harness: packet(7), and headers by RFC 791 and 9293. Run inside the namespace of a host, see `test_wire`.
Packets that the host's own rules drop as they arrive are seen, those that they drop as they leave are not: what is
seen is what was on the wire.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35
FLAGS = ((0x01, "FIN"), (0x02, "SYN"), (0x04, "RST"), (0x10, "ACK"))


def segment(packet: bytes) -> dict[str, object] | None:
    """Ends, flags, sequence numbers and the length of the payload; None for what is not TCP over IPv4."""
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return None
    head = (packet[0] & 15) * 4
    sport, dport, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", packet, head)
    (total,) = struct.unpack_from("!H", packet, 2)
    return {
        "from": [socket.inet_ntoa(packet[12:16]), sport],
        "to": [socket.inet_ntoa(packet[16:20]), dport],
        "flags": [name for bit, name in FLAGS if flags & bit],
        "seq": seq,
        "ack": ack,
        "payload": total - head - (offset >> 4) * 4,
        "size": total,
    }


def main() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as wire:
        wire.bind(("eth0", ETH_P_ALL))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)  # the kernel's instants: we may read late
        monotonic_ns = time.monotonic_ns() - time.time_ns()
        sys.stderr.write("ready\n")
        sys.stderr.flush()
        while True:
            sys.stdout.flush()
            packet, [(_, _, stamp)], _, (_, _, kind, *_) = wire.recvmsg(65536, socket.CMSG_SPACE(16))
            seconds, nanoseconds = struct.unpack("qq", stamp)
            if found := segment(packet):
                found |= {"t_ns": seconds * 10**9 + nanoseconds + monotonic_ns, "out": kind == PACKET_OUTGOING}
                sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
