"""A server that speaks with itself: over one long connection to its own address, and by a fresh connect each time.

Its clients are accepted and never spoken to. It tells each round, and ends when one goes wrong.
"""

from __future__ import annotations

import select
import selectors
import socket
import sys
import threading

ROUND_S = 0.05
"""So far apart that its long connection counts as idle for a while."""
WAIT_S = 5.0
LINE = b"x" * 999 + b"\n"


def serve(listening: socket.socket) -> None:
    """Answer whoever speaks with what was said."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is listening:
                    waiting.register(listening.accept()[0], selectors.EVENT_READ)
                elif data := ready.recv(4096):
                    ready.sendall(data)
                else:
                    waiting.unregister(ready)
                    ready.close()


def ask(connection: socket.socket) -> None:
    """Say a line and hear it."""
    connection.sendall(LINE)
    heard = b""
    while len(heard) < len(LINE):
        heard += connection.recv(4096)


def main() -> None:
    """Listen on the address and port of the command line, and speak there."""
    address = (sys.argv[1], int(sys.argv[2]))
    threading.Thread(target=serve, args=(socket.create_server(("0.0.0.0", address[1])),), daemon=True).start()
    with socket.create_connection(address, timeout=WAIT_S) as own:
        for number in range(1, 10_000):
            ask(own)
            with socket.create_connection(address, timeout=WAIT_S) as fresh:
                ask(fresh)
            sys.stdout.write(f"round {number}\n")
            sys.stdout.flush()
            select.select((own,), (), (), ROUND_S)  # nothing comes uncalled


if __name__ == "__main__":
    main()
