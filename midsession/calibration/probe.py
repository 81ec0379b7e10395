"""A neutral witness of a link: plain sockets, the standard library, no part of the harness.

    sink PORT COUNT                 receives COUNT datagrams, or (0) a stream, until it ends or nothing more comes
    source HOST PORT COUNT GAP_S    sends COUNT numbered datagrams, one each GAP_S
    bulk HOST PORT SECONDS          sends as much as TCP lets through
    stream HOST PORT BYTES SIZE     sends so many bytes, in packets of at most SIZE, and before them one datagram that
                                    makes a larger packet

Each end prints `measured ` and a line of JSON when it is through. Both read CLOCK_MONOTONIC, which all hosts of a
machine share: delays are measured one way. The segments of a stream are counted by the two kernels (TCP_INFO).
"""

from __future__ import annotations

import fcntl
import json
import selectors
import signal
import socket
import statistics
import struct
import sys
import time
from collections import Counter

_DATAGRAM = struct.Struct("!qq")
_QUIET_S = 0.8
"""So long after something came, nothing more is expected."""
_BUNCH_S = 0.001
"""Datagrams that are due so soon are sent together."""
_BUFFER_BYTES = 4 << 20
_SEGMENTS_AT = 152
"""Where `tcpi_data_segs_in` and `tcpi_data_segs_out` are in struct tcp_info (linux/tcp.h, since 4.6)."""
_HEADERS = 40
"""Bytes of the headers of IP and TCP; TCP_MAXSEG counts what is behind them."""
_SIOCOUTQ = 0x5411
_POLL_S = 0.01


def main(arguments: list[str]) -> None:
    """One of these; never returns before it is killed."""
    match arguments:
        case ["sink", port, count]:
            _sink(int(port), int(count))
        case ["source", host, port, count, gap_s]:
            _say("begun")
            _send_datagrams((host, int(port)), int(count), float(gap_s))
        case ["bulk", host, port, seconds]:
            _say("begun")
            _send_bulk((host, int(port)), float(seconds))
        case ["stream", host, port, count, size]:
            _say("begun")
            _send_stream((host, int(port)), int(count), int(size))
        case _:
            sys.exit(__doc__)
    signal.pause()


# --- sending -------------------------------------------------------------------------------------------------------


def _send_datagrams(sink: tuple[str, int], count: int, gap_s: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(sink)
        begin = time.monotonic()
        for number in range(count):
            if (early_s := begin + number * gap_s - time.monotonic()) > _BUNCH_S:
                time.sleep(early_s)
            sender.send(_DATAGRAM.pack(number, time.monotonic_ns()))


def _send_bulk(sink: tuple[str, int], seconds: float) -> None:
    with socket.create_connection(sink) as sender:
        sender.settimeout(1.0)
        block, end = bytes(65536), time.monotonic() + seconds
        while time.monotonic() < end:
            sender.send(block)


def _send_stream(sink: tuple[str, int], count: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as herald:
        herald.sendto(bytes(size), sink)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, size - _HEADERS)
        sender.connect(sink)
        sender.sendall(bytes(count))
        while struct.unpack("=i", fcntl.ioctl(sender, _SIOCOUTQ, bytes(4)))[0]:
            time.sleep(_POLL_S)
        _say("measured " + json.dumps({"segments_sent": _segments(sender)[1]}))


def _segments(stream: socket.socket) -> tuple[int, int]:
    """How many segments with data have come, and how many were sent, again too."""
    info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEGMENTS_AT + 8)
    return struct.unpack_from("=II", info, _SEGMENTS_AT)


# --- receiving -----------------------------------------------------------------------------------------------------


class _Sink:
    """What has come so far. The first block of a stream begins its time and does not count."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrivals: list[tuple[int, int, int]] = []
        """Number, when it was sent, when it came."""
        self._bytes = self._begin_ns = self._end_ns = self._heralds = self._segments = 0

    @property
    def has_begun(self) -> bool:
        return bool(self._arrivals or self._bytes)

    def datagram(self, data: bytes, now_ns: int) -> None:
        if not self._count:
            self._heralds += 1
            return
        number, sent_ns = _DATAGRAM.unpack(data)
        self._arrivals.append((number, sent_ns, now_ns))

    def stream(self, data: bytes, now_ns: int) -> None:
        if self._begin_ns:
            self._bytes += len(data)
        self._begin_ns, self._end_ns = self._begin_ns or now_ns, now_ns

    def end(self, stream: socket.socket) -> None:
        self._segments += _segments(stream)[0]

    def measured(self) -> dict[str, float]:
        """In shares, milliseconds and bytes per second."""
        if self._count:
            return _account(self._arrivals, self._count)
        return {
            "bytes_per_s": self._bytes / max(self._end_ns - self._begin_ns, 1) * 1e9,
            "segments_came": self._segments,
            "heralds_came": self._heralds,
        }


def _account(arrivals: list[tuple[int, int, int]], sent: int) -> dict[str, float]:
    copies = Counter(number for number, _, _ in arrivals)
    delays = [(came - left) / 1e6 for _, left, came in arrivals]
    late = _late_delays(arrivals)
    bursts = _bursts(set(range(sent)) - set(copies))
    return {
        "sent": sent,
        "sent_per_s": _pace(arrivals),
        "lost_share": (sent - len(copies)) / sent,
        "burst": statistics.fmean(bursts) if bursts else 0.0,
        "twice_share": sum(n > 1 for n in copies.values()) / len(copies),
        "late_share": len(late) / len(arrivals),
        "mean_ms": statistics.fmean(delays),
        "p50_ms": _rank(delays, 0.5),
        "p90_ms": _rank(delays, 0.9),
        "p99_ms": _rank(delays, 0.99),
        "middle_ms": _rank(delays, 0.75) - _rank(delays, 0.25),
        "overtaken_ms": _rank(late, 0.5),
        "first_ns": min(came for _, _, came in arrivals),
    }


def _pace(arrivals: list[tuple[int, int, int]]) -> float:
    """How many datagrams a second were sent, from the first to the last that came."""
    (first, begin_ns), (last, end_ns) = min(a[:2] for a in arrivals), max(a[:2] for a in arrivals)
    return (last - first) / max(end_ns - begin_ns, 1) * 1e9


def _rank(values: list[float], share: float) -> float:
    """The value below which that share of the others lies; 0 where there is none."""
    return sorted(values)[int(len(values) * share)] if values else 0.0


def _late_delays(arrivals: list[tuple[int, int, int]]) -> list[float]:
    """The delays of those that were overtaken."""
    late, highest = [], -1
    for number, left, came in arrivals:
        if number < highest:
            late.append((came - left) / 1e6)
        highest = max(highest, number)
    return late


def _bursts(lost: set[int]) -> list[int]:
    """The lengths of the runs of lost numbers."""
    lengths: list[int] = []
    for number in sorted(lost):
        if number - 1 in lost:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def _sink(port: int, count: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    datagrams.bind(("0.0.0.0", port))
    sink, told = _Sink(count), False
    with selectors.DefaultSelector() as selector, socket.create_server(("0.0.0.0", port)) as listener:
        selector.register(datagrams, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        _say("listening")
        while True:
            ready = selector.select(_QUIET_S)
            ended = [_take(selector, key.fileobj, datagrams, listener, sink) for key, _ in ready]  # type: ignore[arg-type]
            if (any(ended) or not ready) and not told and sink.has_begun:
                told = True
                _say("measured " + json.dumps(sink.measured()))


def _take(
    selector: selectors.BaseSelector,
    ready: socket.socket,
    datagrams: socket.socket,
    listener: socket.socket,
    sink: _Sink,
) -> bool:
    """Take in what has come; whether it was the end of a stream."""
    if ready is listener:
        selector.register(listener.accept()[0], selectors.EVENT_READ)
    elif ready is datagrams:
        data = datagrams.recv(4096)
        sink.datagram(data, time.monotonic_ns())
    elif data := ready.recv(1 << 18):
        sink.stream(data, time.monotonic_ns())
    else:
        sink.end(ready)
        selector.unregister(ready)
        ready.close()
        return True
    return False


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
