"""One client on the event loop: carries a session's wishes to a socket, and what the socket does to the session.

The player is its connections' Protocol and its session's Effects in one. There is one task per attempt to connect, and
none per message.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from client.lookup import Found, Lookups
from client.trouble import name_trouble
from midsession.core.program import Connect, Program
from midsession.core.session import Session, State
from midsession.core.sockets import address_text
from midsession.core.template import Names

if TYPE_CHECKING:
    from midsession.core.plan import ClientPlan

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s (socket(7))
READ_BYTES = 64 * 1024
_TICKS_PER_S = 20


class World(Protocol):
    """What a player needs of its fleet."""

    run: str
    signals: set[str]
    addresses: dict[str, str]
    lookups: Lookups

    def emit(self, event: str, client: str, connection: int | None, fields: dict[str, Any], t_ns: int) -> None:
        """Take one record."""

    def flush(self) -> None:
        """Make all records durable."""

    def done(self, player: Player, outcome: str) -> None:
        """A session is over."""


class Player(asyncio.BaseProtocol):
    """Plays one client of a fleet."""

    __slots__ = (
        "_dialling",
        "_given_up",
        "_loop",
        "_timer",
        "_transport",
        "_world",
        "_write_full",
        "data_received",
        "emit",
        "flush",
        "name",
        "session",
    )

    def __init__(self, world: World, group: str, client: ClientPlan, program: Program) -> None:
        self.name = f"{group}-{client.number}"
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._dialling: asyncio.Task[None] | None = None  # until the socket is connected: what can be given up
        self._timer: asyncio.Handle | None = None
        self._given_up = self._write_full = False
        self.emit, self.flush = world.emit, world.flush  # straight, without a call of ours between
        names = Names(client.number, group, self.name, world.run)
        self.session = Session(program, names, client.key, self, time.monotonic_ns, world.signals)
        self.data_received: Callable[[bytes], None] = self.session.data

    def begin(self) -> None:
        """Arrive, unless the fleet was stopped before."""
        if self.session.state is State.NEW:
            self.session.begin()

    # --- the session's wishes -----------------------------------------------------------------------------------------

    def connect(self, target: Connect) -> None:
        """Begin an attempt to connect."""
        self._given_up = self._write_full = False
        self._dialling = attempt = self._loop.create_task(self._connect(target))
        attempt.add_done_callback(self._attempted)

    def write(self, data: bytes) -> bool:
        """Write; whether the buffer is too full now."""
        assert self._transport is not None
        self._transport.write(data)
        return self._write_full

    def shutdown_write(self) -> None:
        """Send FIN after what is buffered."""
        assert self._transport is not None
        self._transport.write_eof()

    def close(self) -> None:
        """Close in order, or give up connecting."""
        if self._transport is not None:
            self._transport.close()
        else:
            self._given_up = True
            if self._dialling is not None:
                self._dialling.cancel()

    def abort(self, reset: bool) -> None:
        """Close at once, with an RST if asked."""
        if self._transport is None:
            return
        if reset:
            endpoint = self._transport.get_extra_info("socket")
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._transport.abort()

    def read(self, policy: str, bytes_per_s: int | None) -> None:
        """Go on or stop reading."""
        assert self._transport is not None
        if policy == "never":
            if self._transport.is_reading():
                self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def wake_at(self, t_ns: int) -> None:
        """Call the session's timer then: never early, and at most a millisecond late (uvloop counts in those)."""
        if self._timer is not None:
            self._timer.cancel()
        wait_ns = t_ns - time.monotonic_ns()
        if wait_ns <= 0:
            self._timer = self._loop.call_soon(self.session.timer)
        else:
            self._timer = self._loop.call_later(-(-wait_ns // 1_000_000) / 1000, self.session.timer)

    def done(self, outcome: str) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._world.done(self, outcome)

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def _connect(self, target: Connect) -> None:
        """Dial, then make a transport of the socket. That is neither timed nor cancelled: the session hears of its
        connection before this task does, and from then on only the session ends it.

        `connect_accepted_socket` takes any connected socket, and takes it at once: uvloop's `create_connection` (0.23)
        leaves the descriptor of one that is closed as soon as it is made to the socket object, too, and when that is
        closed in its turn the number may be another connection's.
        """
        try:
            endpoint = await self._dial_in_time(target)
        finally:
            self._dialling = None
        await self._loop.connect_accepted_socket(lambda: self, endpoint)

    def _attempted(self, attempt: asyncio.Task[None]) -> None:
        """An attempt is over; of one that made a connection the session knows, and it may be at its next one.

        What is no trouble of the network is a mistake of ours: the loop's handler gets it."""
        error = None if attempt.cancelled() else attempt.exception()
        if self._given_up and (error is not None or attempt.cancelled()):
            self.session.closed()
        elif isinstance(error, OSError):
            self.session.failed(*name_trouble(error))
        elif error is not None:
            raise error

    async def _dial_in_time(self, target: Connect) -> socket.socket:
        try:
            async with asyncio.timeout(target.timeout_s):
                return await self._dial(target)
        except TimeoutError as error:
            if error.errno is not None:
                raise
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {target.timeout_s:g} s") from None

    async def _dial(self, target: Connect) -> socket.socket:
        """A connected socket; the addresses of a name are tried in the resolver's order, the last error counts."""
        error: OSError = socket.gaierror(socket.EAI_NONAME, "the name has no address")
        for family, address in await self._resolve(self._world.addresses.get(target.host, target.host), target.port):
            try:
                return await self._dial_one(family, address, target.source_port)
            except TimeoutError:
                raise
            except OSError as failed:
                error = failed
        raise error

    async def _dial_one(self, family: int, address: Any, source_port: int | None) -> socket.socket:
        endpoint = socket.socket(family, socket.SOCK_STREAM)
        try:
            endpoint.setblocking(False)
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source_port is not None:
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                endpoint.bind(("" if family == socket.AF_INET else "::", source_port))
            await self._loop.sock_connect(endpoint, address)
        except BaseException:
            endpoint.close()
            raise
        return endpoint

    async def _resolve(self, host: str, port: int) -> Found:
        family = _literal(host)
        if family is not None:
            return [(family, (host, port))]
        return await self._world.lookups.find(host, port)

    # --- what the socket does -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        stream = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = stream
        if self._given_up:
            stream.abort()
            return
        ends = (address_text(stream.get_extra_info(end)) for end in ("sockname", "peername"))
        self.session.connected(*ends)

    def eof_received(self) -> bool:
        """The peer's FIN; True keeps our own direction open."""
        self.session.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        if exc is None:
            self.session.closed()
        else:
            self.session.closed(*name_trouble(exc))

    def pause_writing(self) -> None:
        """The write buffer is over its high-water mark."""
        self._write_full = True

    def resume_writing(self) -> None:
        """The write buffer has room again. Told in a turn of its own: asyncio calls this from within its write, and
        would shut the socket down a second time after a FIN that the session asks for here."""
        self._write_full = False
        self._loop.call_soon(self._drained)

    def _drained(self) -> None:
        if not self._write_full and self._transport is not None:
            self.session.drained()


class PacedPlayer(Player, asyncio.BufferedProtocol):
    """A player whose script says how to read: it hands the kernel a buffer of just so many bytes.

    uvloop begins to read behind `connection_made`, whatever was said in it. So a client that never reads from the start
    takes one byte from the kernel, keeps it to itself, and stops there; nobody hears of it before reading begins.
    """

    __slots__ = ("_buffer", "_held", "_never", "_rate", "_resume")

    def __init__(self, world: World, group: str, client: ClientPlan, program: Program) -> None:
        super().__init__(world, group, client, program)
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._never = False
        self._held = b""
        self._rate = 0
        self._resume: asyncio.Handle | None = None

    def connect(self, target: Connect) -> None:
        """A new connection reads as usual until it is told otherwise."""
        self._never, self._rate, self._held = False, 0, b""
        super().connect(target)

    def read(self, policy: str, bytes_per_s: int | None) -> None:
        """Go on, stop, or read at a rate."""
        self._cancel_resume()
        self._never = policy == "never"
        self._rate = (bytes_per_s or 0) if policy == "slow" else 0
        super().read(policy, bytes_per_s)
        if self._held and not self._never:
            self._resume = self._loop.call_soon(self._go_on)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: at a rate, no more of them than a tick may bring."""
        if self._never:
            return self._buffer[:1]
        if self._rate:
            return self._buffer[: min(READ_BYTES, max(1, self._rate // _TICKS_PER_S))]
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """That many bytes were read; at a rate, the next ones wait until these have taken their time."""
        self._held += bytes(self._buffer[:nbytes])
        if self._transport is not None and (self._never or self._rate):
            self._transport.pause_reading()
        if self._rate:
            self._resume = self._loop.call_later(nbytes / self._rate, self._go_on)
        if not self._never:
            self._hand_over()

    def eof_received(self) -> bool:
        """The peer's FIN, after everything that came before it."""
        self._hand_over()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; what it delivered before counts."""
        self._cancel_resume()
        if not self._never:
            self._hand_over()
        super().connection_lost(exc)

    def _hand_over(self) -> None:
        held, self._held = self._held, b""
        if held:
            self.session.data(held)

    def _go_on(self) -> None:
        self._resume = None
        self._hand_over()
        if self._transport is not None and not self._transport.is_closing() and not self._never:
            self._transport.resume_reading()

    def _cancel_resume(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None


@functools.lru_cache(maxsize=256)
def _literal(host: str) -> int | None:
    """The family of an address in numbers; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, UnicodeError):
            continue
        return family
    return None
