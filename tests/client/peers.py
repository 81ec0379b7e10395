"""Raw peers and a fleet in this process: real sockets on loopback, nothing between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from client.fleet import Fleet
from client.journal import ACCOUNT_LINES, Account
from midsession.core import plan as p
from midsession.core.job import Go, Job

Peer = Callable[[socket.socket], object]
_LIMIT_S = 10.0


@contextlib.contextmanager
def unanswering() -> Iterator[int]:
    """A port at which SYNs are dropped: its backlog is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def listening(peer: Peer, connections: int = 1) -> Iterator[int]:
    """A server in a thread that gives each of its `connections` to `peer`, and is gone then; yields its port."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    server.settimeout(_LIMIT_S)
    port = server.getsockname()[1]
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            for left in reversed(range(connections)):
                endpoint, _ = server.accept()
                if not left:
                    server.close()  # a client that comes once more is refused
                endpoint.settimeout(_LIMIT_S)
                with endpoint:
                    peer(endpoint)
        except (AssertionError, OSError) as failure:  # told to the test below
            failures.append(failure)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        thread.join(_LIMIT_S)
        server.close()
    assert not failures, failures
    assert not thread.is_alive()


def hang_up(endpoint: socket.socket) -> None:
    """RST: close with SO_LINGER 0."""
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    endpoint.close()


def until_end(endpoint: socket.socket) -> bytes:
    """Everything up to the client's FIN."""
    heard = b""
    while data := endpoint.recv(65536):
        heard += data
    return heard


class Tape:
    """A sink that keeps the records, as `(event, connection, fields)`."""

    def __init__(self) -> None:
        self.records: list[tuple[str, int | None, dict[str, Any]]] = []
        self.on_event: dict[str, Callable[[], object]] = {}

    def add(self, event: str, client: str | None, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Keep one."""
        self.records.append((event, connection, fields))
        if event in self.on_event:
            asyncio.get_running_loop().call_soon(self.on_event.pop(event))

    def flush(self) -> None:
        """They are kept already."""

    def close(self) -> None:
        """Nothing to close."""

    @property
    def events(self) -> list[str]:
        """The names, in order."""
        return [event for event, _, _ in self.records]

    def fields(self, event: str) -> dict[str, Any]:
        """The fields of the first record of that name."""
        return next(fields for name, _, fields in self.records if name == event)

    @property
    def ways(self) -> list[str]:
        """How it was lost, each time."""
        return [fields["how"] for event, _, fields in self.records if event == "lost"]

    @property
    def outcomes(self) -> list[str]:
        """What each session ended with."""
        return [fields["outcome"] for event, _, fields in self.records if event == "done"]


def play(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    port: int,
    *script: p.Instruction,
    clients: int = 1,
    on_loss: p.Reconnect | None = None,
    host: str = "127.0.0.1",
    timeout_s: float = 5.0,
    stop_at: str | None = None,
    stop_after_s: float = 0.0,
) -> Tape:
    """Play a script with a fleet in this process, to its end.

    `stop_at`: stop the fleet once that event was seen, and `stop_after_s` have passed.
    """
    crew = [p.ClientPlan(n, 0.0, p.substream(1, "client", str(n))) for n in range(1, clients + 1)]
    group = p.GroupPlan("talkers", host, port, list(script), crew, on_loss, timeout_s)
    tape = Tape()

    async def run() -> None:
        account = Account()
        account.shown = ACCOUNT_LINES
        fleet = Fleet(Job(run="r1", groups=[group]), tape, account)
        if stop_at is not None:
            loop = asyncio.get_running_loop()
            tape.on_event[stop_at] = lambda: loop.call_later(stop_after_s, fleet.stop)
        fleet.obey(Go(time.monotonic_ns()))
        async with asyncio.timeout(_LIMIT_S):
            await fleet.over

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
    assert len(tape.outcomes) == clients
    return tape
