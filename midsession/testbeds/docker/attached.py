"""A container's standard streams over the engine's attach call, as asyncio streams.

Without a terminal, the engine sends stdout and stderr over one connection in frames: one byte that names the stream,
three zeros, the length in four bytes (big-endian), and the payload. (Engine API, "Attach to a container".)
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from midsession.errors import HarnessError

if TYPE_CHECKING:
    import docker

STDOUT, STDERR = 1, 2
_HEADER_BYTES = 8
_STREAMS = (0, STDOUT, STDERR)


class Demultiplexer:
    """Turn the engine's frames into (stream, payload) pieces. Does no I/O.

    Pieces come as soon as any of their bytes do, so a frame that is cut is several pieces. Raises HarnessError for
    what is no frame.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def receive(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces in the next bytes."""
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                yield self._stream, piece
                continue
            wanted = _HEADER_BYTES - len(self._header)
            self._header += data[at : at + wanted]
            at += wanted
            if len(self._header) == _HEADER_BYTES:
                self._begin(self._header)
                self._header = b""

    def _begin(self, header: bytes) -> None:
        if header[0] not in _STREAMS or header[1:4] != b"\0\0\0":
            raise HarnessError(f"an attached stream sent {header!r} where a frame's header was due", "attach-garbled")
        self._stream, self._left = header[0], int.from_bytes(header[4:], "big")


class Attached(asyncio.StreamReaderProtocol):
    """The protocol of an attached connection: stdout goes to the stream reader, stderr to a callback."""

    def __init__(self, reader: asyncio.StreamReader, on_stderr: Callable[[bytes], None]) -> None:
        super().__init__(reader)
        self._frames, self._on_stderr = Demultiplexer(), on_stderr
        self._reader = reader

    def data_received(self, data: bytes) -> None:
        """The engine sent bytes."""
        try:
            for stream, piece in self._frames.receive(data):
                if stream == STDERR:
                    self._on_stderr(piece)
                else:
                    self._reader.feed_data(piece)
        except HarnessError as error:
            self._reader.set_exception(OSError(str(error)))


def attach_socket(api: docker.APIClient, container: str, *, stdin: bool) -> socket.socket:
    """Attach; blocks. The container need not run yet: then nothing of what it says is missed."""
    params = {"stdin": int(stdin), "stdout": 1, "stderr": 1, "stream": 1}
    attached = api.attach_socket(container, params=params)
    # The answer's own reader is buffered; nothing was sent before the container's start, so nothing is lost in it.
    own = socket.socket(fileno=os.dup(attached.fileno()))
    for theirs in (attached, getattr(attached, "_sock", attached)):  # a file object and the socket that it reads from
        theirs.close()
    own.setblocking(False)
    return own


async def open_agent(
    attached: socket.socket, on_stderr: Callable[[bytes], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams to an agent's standard input and output."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, protocol = await loop.create_connection(lambda: Attached(reader, on_stderr), sock=attached)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Outputs(asyncio.Protocol):
    """What a program says on both streams, until the connection's end.

    What comes after something that is no frame could be anything: `on_garbled` is told, once, and no more is heard.
    """

    def __init__(self, on_data: Callable[[int, bytes], None], on_garbled: Callable[[HarnessError], None]) -> None:
        self._frames, self._on_data, self._on_garbled = Demultiplexer(), on_data, on_garbled
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Attached."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The program said something."""
        try:
            for stream, piece in self._frames.receive(data):
                self._on_data(stream, piece)
        except HarnessError as error:
            self.close()
            self._on_garbled(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, or has closed both streams."""
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        """Listen no more."""
        if self._transport is not None:
            self._transport.close()


async def open_outputs(
    attached: socket.socket, on_data: Callable[[int, bytes], None], on_garbled: Callable[[HarnessError], None]
) -> Outputs:
    """Hear both of a program's streams."""
    loop = asyncio.get_running_loop()
    _, outputs = await loop.create_connection(lambda: Outputs(on_data, on_garbled), sock=attached)
    return outputs
