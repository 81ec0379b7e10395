"""A neutral client: plain sockets, no part of the harness. Says what it sees of a server, whenever that changes.

    live: what its one long connection gives    answered | silence | FIN | RST
    long: the same for a line of 2000 bytes
    new:  what a fresh connect gives            connected | refused | timeout

A dead long connection is replaced once a fresh connect succeeds. Lines begin with `again` once something was wrong.
"""

from __future__ import annotations

import socket
import sys

WAIT_S = 0.15
OPEN_S = 1.0


class Line:
    """One long connection to a server that answers each line with a line."""

    def __init__(self, address: tuple[str, int], size: int) -> None:
        self._address, self._line = address, b"x" * (size - 1) + b"\n"
        self._waits = False
        self._open()

    def ask(self) -> str:
        """Send a line unless one is unanswered, and see what comes."""
        try:
            if not self._waits:
                self._waits = True
                self._socket.sendall(self._line)
            data = self._socket.recv(4096)
        except TimeoutError:
            return "silence"
        except (ConnectionResetError, BrokenPipeError):
            return "RST"
        self._waits = False
        return "answered" if data else "FIN"

    def renew(self) -> None:
        """Connect anew, if that is possible."""
        dead = self._socket
        try:
            self._open()
        except OSError:
            return  # the server is on its way down
        dead.close()

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=OPEN_S)
        self._socket.settimeout(WAIT_S)
        self._waits = False


def fresh(address: tuple[str, int]) -> str:
    """What a connect gives."""
    try:
        socket.create_connection(address, timeout=WAIT_S).close()
    except TimeoutError:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return f"error {error.errno}"
    return "connected"


def main() -> None:
    address = (sys.argv[1], int(sys.argv[2]))
    lines = {"live": Line(address, 10), "long": Line(address, 2000)}
    before, bad = "", False
    while True:
        seen = {name: line.ask() for name, line in lines.items()} | {"new": fresh(address)}
        text = " ".join(f"{name}={fate}" for name, fate in seen.items())
        if text != before:
            sys.stdout.write("again " * bad + text + "\n")
            sys.stdout.flush()
        before, bad = text, bad or text != "live=answered long=answered new=connected"
        for name, line in lines.items():
            if seen[name] in ("FIN", "RST") and seen["new"] == "connected":
                line.renew()


if __name__ == "__main__":
    main()
