"""`python -m midsession.testbeds.netns.template FD`: the warm process that the worlds of many runs are forked from."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from midsession.agent.serve import serve
from midsession.testbeds.netns import kernel, warm, world


def _agent(stream: int, service: str, packets_are_cut: bool) -> None:
    serve(stream, os.dup(stream), service, spawn=warm.spawn, packets_are_cut=packets_are_cut)


def main() -> NoReturn:
    """Serve orders on the inherited SOCK_SEQPACKET descriptor until the harness is gone; never returns."""
    kernel.die_with_parent()
    warm.preload()
    world.template(socket.socket(fileno=int(sys.argv[1])), _agent)
    os._exit(0)  # somebody waits for the end, and the interpreter's own takes longer than a world's


if __name__ == "__main__":
    main()
