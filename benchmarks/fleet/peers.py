"""The other ends of the fleet benchmark: an echo server, and a bare client with nothing but its loop.

python -m benchmarks.fleet.peers server             prints its port
python -m benchmarks.fleet.peers client PORT N S    prints the number of round trips and the seconds they took
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

import uvloop

LINE = b"x" * 63 + b"\n"


class Echo(asyncio.Protocol):
    """Whatever it hears, at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._write = transport.write  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Back with it."""
        self._write(data)


class Bare(Echo):
    """A client that counts replies: what uvloop itself allows."""

    trips = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first line."""
        super().connection_made(transport)
        self._write(LINE)

    def data_received(self, data: bytes) -> None:
        """The next one."""
        Bare.trips += 1
        self._write(LINE)


async def serve() -> None:
    """Until killed."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def ping(port: int, connections: int, seconds: float) -> None:
    """Ping-pong on every connection."""
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(Bare, "127.0.0.1", port)
    Bare.trips, began = 0, time.monotonic()
    await asyncio.sleep(seconds)
    sys.stdout.write(f"{Bare.trips} {time.monotonic() - began}\n")


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    role, *arguments = sys.argv[1:]
    if role == "server":
        uvloop.run(serve())
    else:
        uvloop.run(ping(int(arguments[0]), int(arguments[1]), float(arguments[2])))
