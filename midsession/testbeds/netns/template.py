"""`python -m midsession.testbeds.netns.template FD`: the warm process that the worlds of many runs are forked from."""

from __future__ import annotations

import os
import socket
import sys

from midsession.agent.serve import serve
from midsession.testbeds.netns import kernel, warm, world


def _agent(stream: int, service: str) -> None:
    serve(stream, os.dup(stream), service, spawn=warm.spawn)


def main() -> None:
    """Serve orders on the inherited SOCK_SEQPACKET descriptor until the harness is gone."""
    kernel.die_with_parent()
    warm.preload()
    world.template(socket.socket(fileno=int(sys.argv[1])), _agent)


if __name__ == "__main__":
    main()
