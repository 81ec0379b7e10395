"""One client's connection, and the crowd of them: the shell around the behaviours."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import cast

from midsession.core.record import Event
from midsession.core.sockets import LOST_HOW, address_text
from midsession.core.wire import Inbox, LineTooLong, describe, without_end
from server.behaviours import Behaviour, Command, Finish, Say
from server.journal import Records, Screen

MAX_LINE_BYTES = 64 * 1024
"""A client that sends more than this without a newline is cut off (behaviours that hear lines)."""

MAX_BACKLOG_BYTES = 1024 * 1024
"""A client for which more than this waits to be read is cut off (chat): others must not pay for a slow reader."""


class Crowd:
    """All clients of one server, by the number of their connection."""

    def __init__(self, behaviour: Behaviour, records: Records, screen: Screen) -> None:
        self.behaviour, self.records, self.screen = behaviour, records, screen
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._ending = False
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: Connection) -> int:
        """Take a connection in; its number, counted from 1."""
        self._count += 1
        self._connections[self._count] = connection
        self._empty.clear()
        return self._count

    def leave(self, number: int) -> None:
        """Let go of a connection that is closed."""
        del self._connections[number]
        if not self._connections:
            self._empty.set()

    def has_no_room(self, error: OSError) -> None:
        """Say that no descriptor is left for another client: who comes waits for one."""
        self.records.add(Event.ERROR, None, {"how": "exhausted", "errno": error.errno, "message": str(error.strerror)})
        self.screen.line(f"No Room: {error.strerror}; who connects now waits until others leave")

    @property
    def ending(self) -> bool:
        """Whether the server is on its way out, so that a late arrival is ended at once."""
        return self._ending

    def tell_others(self, sender: Connection, data: bytes) -> None:
        """Write to all clients but one, and cut off those that do not read what they are told."""
        for connection in list(self._connections.values()):
            if connection is not sender:
                connection.say(data)
                connection.cut_off_if_slow()

    def finish_all(self) -> None:
        """End our side of every session; each is over once its client has ended too."""
        self._ending = True
        for connection in list(self._connections.values()):
            connection.finish()

    def close_all(self) -> None:
        """Close every connection now, whatever its client still does."""
        for connection in list(self._connections.values()):
            connection.close_now()

    async def wait_until_empty(self) -> None:
        """Return when no client is connected."""
        await self._empty.wait()


class Connection(asyncio.Protocol):
    """One client from accept to close. Writes exactly one `accepted` and exactly one `closed`."""

    _transport: asyncio.Transport
    _number: int

    def __init__(self, crowd: Crowd) -> None:
        self._crowd, self._records, self._screen = crowd, crowd.records, crowd.screen
        self._behaviour = crowd.behaviour
        self._lines = Inbox(MAX_LINE_BYTES) if self._behaviour.by_line else None
        self._peer = ""
        self._finished = self._failed = False
        self._bytes_in = self._bytes_out = 0

    # --- told by asyncio ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one only in its methods
        self._peer = address_text(transport.get_extra_info("peername"))
        self._number = self._crowd.join(self)
        self._records.add(Event.ACCEPTED, self._number, {"peer": self._peer})
        self._screen.chatter("Client Connected: {} (connection {})", self._peer, self._number)
        if self._behaviour.deaf:
            transport.pause_reading()
        self._obey(self._behaviour.greet(self._peer))
        if self._crowd.ending:
            self.finish()

    def data_received(self, data: bytes) -> None:
        """Bytes came: cut them into messages and do what the behaviour says to each."""
        self._bytes_in += len(data)
        if self._lines is None:
            self._log(Event.RECEIVED, data)
            self._obey(self._behaviour.hear(data))
            return
        self._lines.feed(data)
        try:
            while (line := self._lines.whole_line()) is not None:
                self._log(Event.RECEIVED, line)
                self._obey(self._behaviour.hear(without_end(line)))
        except LineTooLong as error:
            self._cut_off("line_too_long", str(error))

    def eof_received(self) -> bool:
        """The client ended its side. False: the transport writes what is still to be written, then ends ours."""
        if self._lines is not None and (rest := self._lines.rest()):
            self._log(Event.RECEIVED, rest)
        self._records.add(Event.END, self._number)
        self._screen.chatter("Client Ended: {}", self._peer)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over; `exc` says that the client was lost rather than ended."""
        if exc is not None:
            self._lose(exc)
        totals = {"had_error": self._failed, "bytes_in": self._bytes_in, "bytes_out": self._bytes_out}
        self._records.add(Event.CLOSED, self._number, totals)
        self._screen.chatter(
            "Client Closed: {} ({} bytes in, {} bytes out)", self._peer, self._bytes_in, self._bytes_out
        )
        self._crowd.leave(self._number)

    def pause_writing(self) -> None:
        """The client does not read: hear no more of it until it does, so that its answers cannot pile up here."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has read: hear it again."""
        if not self._behaviour.deaf:
            self._transport.resume_reading()

    # --- told by the crowd -------------------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Write to the client; nothing once our side has ended."""
        if self._finished or self._transport.is_closing():
            return
        self._log(Event.SENT, data)
        self._bytes_out += len(data)
        self._transport.write(data)

    def finish(self) -> None:
        """End our side after what is already written; the client is still heard. One that is gone is noticed here."""
        if not self._finished and not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError as error:  # ENOTCONN after an RST: who does not read has not been told of it
                self._lose(self._trouble() or error)
                self._transport.abort()
        self._finished = True

    def cut_off_if_slow(self) -> None:
        """Cut the client off when too much waits for it."""
        waiting = self._transport.get_write_buffer_size()
        if waiting > MAX_BACKLOG_BYTES and not self._transport.is_closing():
            self._cut_off("slow", f"{waiting} bytes wait for a client that does not read")

    def close_now(self) -> None:
        """Close without waiting for the client. What it has not taken by now is lost, and said to be."""
        waiting = self._transport.get_write_buffer_size()
        if waiting:
            self._cut_off("unread", f"{waiting} bytes were never read by the client")
        else:
            self._transport.abort()

    # --- own ---------------------------------------------------------------------------------------------------------

    def _obey(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            if isinstance(command, Say):
                self.say(command.data)
            elif isinstance(command, Finish):
                self.finish()
            else:
                self._crowd.tell_others(self, command.data)

    def _log(self, event: Event, data: bytes) -> None:
        fields = describe(data)
        self._records.add(event, self._number, fields)
        arrow = "←" if event is Event.RECEIVED else "→"
        self._screen.chatter("{} {} {}", self._peer, arrow, fields["text"])

    def _lose(self, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) else None
        how = LOST_HOW.get(number or 0, "error")
        self._fail(how, number, str(error))
        self._records.add(Event.CLIENT_LOST, self._number, {"peer": self._peer, "how": how})
        self._screen.line(f"Client Lost: {self._peer} ({how})")

    def _trouble(self) -> OSError | None:
        """What the socket has to report and nobody has asked for yet (SO_ERROR, socket(7))."""
        number = self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(number, os.strerror(number)) if number else None

    def _cut_off(self, how: str, message: str) -> None:
        self._fail(how, None, message)
        self._screen.line(f"Client Cut Off: {self._peer} ({message})")
        self._transport.abort()

    def _fail(self, how: str, number: int | None, message: str) -> None:
        self._failed = True
        self._records.add(Event.ERROR, self._number, {"how": how, "errno": number, "message": message})
