"""Have a world made and taken away again, to see whether this machine lets it."""

from __future__ import annotations

import socket
import tempfile

import msgspec

from midsession.interrupts import heard
from midsession.testbeds.netns.confinement import Limits
from midsession.testbeds.netns.filesystem import needed_paths
from midsession.testbeds.netns.warmth import WarmProcess
from midsession.testbeds.netns.world import Answer, HostOrder, WorldOrder

_WITHIN_S = 20.0


def try_world() -> Answer:
    """What init says of a world with one host. Raises EnvironmentLacks, and OSError when nothing is said in time.

    An interrupt waits until the world and its directory are gone.
    """
    with heard():
        return _try_world()


def _try_world() -> Answer:
    host = HostOrder("trial", "trial", "10.77.0.2", "10.77.0.3")
    warm = WarmProcess()
    pairs = [socket.socketpair() for _ in range(2)]
    try:
        with tempfile.TemporaryDirectory() as directory:
            order = WorldOrder([host], directory, needed_paths(), Limits.of_environment(), directory)
            warm.order(order, [theirs.fileno() for _, theirs in pairs])
            for _, theirs in pairs:
                theirs.close()
            return _first_word(pairs[0][0])
    finally:
        for ours, _ in pairs:
            ours.close()
        warm.end(_WITHIN_S)


def _first_word(status: socket.socket) -> Answer:
    status.settimeout(_WITHIN_S)
    line = status.recv(65536)
    status.shutdown(socket.SHUT_WR)
    while status.recv(65536):
        continue  # until the last process of the world is gone
    return msgspec.json.decode(line.split(b"\n")[0], type=Answer) if line else Answer(False, "it ended without a word")
