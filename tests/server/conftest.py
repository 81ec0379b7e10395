"""The reference server as a process of its own, and clients as plain blocking sockets."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from midsession.core.logfile import LogFile, read_log
from midsession.core.record import Record, decode_line

REPOSITORY = Path(__file__).parents[2]
HEADER = {"run": "r", "host": "server", "writer": "program", "incarnation": 1, "clock": "c", "seed": 1, "plan": "p"}
PATIENCE_S = 30.0


class Server:
    """A running server; `port` is where it listens."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.events = directory / f"{len(list(directory.iterdir()))}.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server", "--host", "127.0.0.1", *arguments],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "MIDSESSION_EVENT_FILE": str(self.events),
                "MIDSESSION_HEADER": msgspec.json.encode(HEADER).decode(),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._clients: list[Client] = []
        self.pid = self._process.pid
        self.port = self._wait_until_listening()

    def _wait_until_listening(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        found = re.match(r"Listening on 127\.0\.0\.1:(\d+) ", line)
        assert found, line + self._process.communicate()[1].decode()
        return int(found[1])

    def connect(self) -> Client:
        """A new client that has been accepted by the kernel."""
        self._clients.append(Client(self.port))
        return self._clients[-1]

    def records(self, event: str) -> list[Record]:
        """The whole records of one kind that stand in the event file by now."""
        lines = self.events.read_bytes().split(b"\n")[1:-1]
        records = [decode_line(line, "server", "program", 1) for line in lines if line.startswith(b'{"event"')]
        return [record for record in records if record.event == event]

    def wait_for_records(self, event: str, count: int) -> list[Record]:
        """Wait until there are at least `count` records of this kind."""
        deadline = time.monotonic() + PATIENCE_S
        with _Watch(self.events) as watch:
            while len(found := self.records(event)) < count:
                in_time = watch.wait_for_a_write(deadline - time.monotonic())
                assert in_time, f"{count} × {event}: not within {PATIENCE_S} s; last seen {len(found)}"
        return found

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, LogFile]:
        """Wait for the end: exit code, what it printed after its first line, its event file."""
        out, err = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, (out + err).decode(), read_log(self.events.read_bytes())

    def stop(self) -> tuple[int, str, LogFile]:
        """SIGTERM, then `end`."""
        self.signal()
        return self.end()

    def destroy(self) -> None:
        """Leave nothing behind, however the test went."""
        for client in self._clients:
            client.close()
        self._process.kill()
        self._process.communicate()


class _Watch:
    """Tells when a file is written to: inotify(7), which the standard library does not offer."""

    _IN_MODIFY = 0x2

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        watch = libc.inotify_add_watch(self._descriptor, os.fsencode(path), self._IN_MODIFY)
        assert watch >= 0, os.strerror(ctypes.get_errno())

    def wait_for_a_write(self, within_s: float) -> bool:
        """Return True at the next write, or at one that came since the last call; False when none came in time."""
        if not select.select([self._descriptor], [], [], max(0, within_s))[0]:
            return False
        return bool(os.read(self._descriptor, 65536))

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Client:
    """A TCP client in blocking style; every wait of it is bounded."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = "{}:{}".format(*self.socket.getsockname())
        self._file = self.socket.makefile("rb")

    def send(self, text: str | bytes) -> int:
        """Write it all; how many bytes that were."""
        data = text.encode() if isinstance(text, str) else text
        self.socket.sendall(data)
        return len(data)

    def line(self) -> str:
        """The next line with its newline; empty at the server's FIN."""
        return self._file.readline().decode()

    def rest(self) -> bytes:
        """Everything up to the server's FIN."""
        return self._file.read()

    def read(self, count: int) -> bytes:
        """Exactly so many bytes, fewer only at the server's FIN."""
        return self._file.read(count)

    def half_close(self) -> None:
        """Send FIN, go on hearing."""
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Send RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close in order."""
        self._file.close()
        self.socket.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers on loopback: `start("reply")`, further arguments as on the command line."""
    servers: list[Server] = []

    def start(behaviour: str, *arguments: str) -> Server:
        port = () if "--port" in arguments else ("--port", "0")
        servers.append(Server(tmp_path, "--behaviour", behaviour, *port, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.destroy()
