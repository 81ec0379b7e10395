"""The conductor's end of an agent's byte stream: ask, hear records, notice when the agent is gone.

It knows nothing of how the stream came to be: pipes, a control network, a container's attached stdio.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable
from pathlib import Path, PurePosixPath

import msgspec

from midsession.agent.protocol import (
    MAX_FRAME_BYTES,
    PROTOCOL_VERSION,
    Farewell,
    Fetch,
    FromAgent,
    Hello,
    List,
    Records,
    Reply,
    Request,
    Shutdown,
    decode_from_agent,
    encode,
)
from midsession.errors import HarnessError
from midsession.testbeds import Inbox

_FETCH_BYTES = 4 * 1024 * 1024
_READ_BYTES = 256 * 1024


async def receive_hello(reader: asyncio.StreamReader, timeout_s: float) -> Hello:
    """The agent's first line. The stream's `limit` may be asyncio's default: longer lines are cut by `AgentLink`.

    Raises HarnessError when it does not come in time, is none, or is of another version of the protocol.
    """
    try:
        async with asyncio.timeout(timeout_s):
            line = await reader.readuntil(b"\n")
    except TimeoutError:
        raise HarnessError(f"an agent did not say hello within {timeout_s} s", "agent-silent") from None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise HarnessError(f"an agent did not say hello: {error}", "agent-gone") from error
    message = _decode(line)
    if not isinstance(message, Hello):
        raise HarnessError("an agent's first line was no hello", "agent-garbled")
    if message.version != PROTOCOL_VERSION:
        raise HarnessError(
            f"the agent on {message.hostname!r} speaks protocol {message.version}, we speak {PROTOCOL_VERSION}: "
            "build the images anew",
            "agent-version",
        )
    return message


class AgentLink:
    """One agent, after its hello.

    `name` is what errors call it; set it anew when its host is given another. Records go to `inbox.records`; when the
    agent says farewell, or the stream ends, before `close` or a `Shutdown`, every open request fails with HarnessError
    and `inbox.gone` is called once. Needs a running event loop; all methods belong to it.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, inbox: Inbox, name: str = ""
    ) -> None:
        self.hello, self.inbox, self.name = hello, inbox, name or hello.hostname
        self._reader, self._writer = reader, writer
        self._open: dict[int, asyncio.Future[Reply]] = {}
        self._last_id = 0
        self._gone: str | None = None
        self._orderly = False
        self._listener = asyncio.ensure_future(self._listen())
        self._listener.add_done_callback(self._listened)

    @property
    def is_gone(self) -> bool:
        """The stream has ended, one way or another."""
        return self._gone is not None

    def ask(self, request: Request) -> Awaitable[Reply]:
        """Send a request, now; await the result for the reply, or leave it alone.

        Awaiting raises HarnessError: slug `agent-refused` with the agent's text, or `agent-gone`.
        """
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        if self._gone is not None:
            answer.set_exception(self._error(f"is gone ({self._gone})"))
            return answer
        self._last_id += 1
        self._open[self._last_id] = answer
        self._orderly = self._orderly or isinstance(request, Shutdown)
        self._writer.write(encode(msgspec.structs.replace(request, id=self._last_id)) + b"\n")
        return answer

    async def close(self) -> None:
        """Let go of the stream: the agent hears its end, kills what runs and goes. Never raises."""
        self._orderly = True
        self._writer.close()
        self._listener.cancel()
        await asyncio.wait([self._listener])
        self._lost("closed by us")

    # --- what the agent says ---------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Frames are cut here rather than by `readuntil`: many come in one read."""
        rest = b""
        try:
            while data := await self._reader.read(_READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._hear(line)
                if len(rest) > MAX_FRAME_BYTES:
                    raise HarnessError(f"it sent a line of more than {MAX_FRAME_BYTES} bytes", "agent-garbled")
            self._lost("it closed the connection")
        except OSError as error:
            self._lost(str(error))
        except HarnessError as error:
            self._lost(str(error))
            self._writer.close()

    def _listened(self, listener: asyncio.Task[None]) -> None:
        """A mistake of ours (in the inbox, say) must end the run too, besides being reported by asyncio."""
        if not listener.cancelled() and (mistake := listener.exception()) is not None:
            self._lost(f"listening to it failed: {mistake!r}")
            asyncio.get_running_loop().call_exception_handler({"message": "AgentLink", "exception": mistake})

    def _hear(self, line: bytes) -> None:
        message = _decode(line)
        if isinstance(message, Records):
            self.inbox.records(message)
        elif isinstance(message, Reply):
            self._answered(message)
        elif isinstance(message, Farewell):
            self._lost(message.why)
        else:
            raise HarnessError("it said hello twice", "agent-garbled")

    def _answered(self, reply: Reply) -> None:
        answer = self._open.pop(reply.id, None)
        if answer is None:
            raise HarnessError(f"it answered request {reply.id}, which is not open: {reply.error}", "agent-garbled")
        if answer.done():
            return  # its asker was cancelled
        if reply.error is None:
            answer.set_result(reply)
        else:
            answer.set_exception(HarnessError(f"the agent on {self.name} refused: {reply.error}", "agent-refused"))

    def _lost(self, why: str) -> None:
        if self._gone is not None:
            return
        self._gone = why
        unanswered, self._open = self._open, {}
        for answer in unanswered.values():
            if not answer.done():
                answer.set_exception(self._error(f"is gone ({why})"))
        if not self._orderly:
            self.inbox.gone(self.name, why)

    def _error(self, what: str) -> HarnessError:
        return HarnessError(f"the agent on {self.name} {what}", "agent-gone")


async def fetch_files(link: AgentLink, directory: Path) -> None:
    """Bring an agent's event files and logs into `directory` under their relative names, anew where they are there.

    Raises HarnessError when the agent errs, is gone, or names a file outside; OSError when they cannot be written.
    """
    listed = (await link.ask(List(id=0))).value["files"]
    for name in listed:
        target = _inside(directory, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        with partial.open("wb") as file:
            while True:
                piece = (await link.ask(Fetch(id=0, path=name, offset=file.tell(), limit=_FETCH_BYTES))).value
                file.write(base64.b64decode(piece["data"], validate=True))
                if piece["eof"]:
                    break
        os.replace(partial, target)


def _inside(directory: Path, name: str) -> Path:
    """The place of an agent's file: `events/…`, `logs/…` or `logs/<host>/…`."""
    folder, *inner = PurePosixPath(name).parts or ("",)
    fits = {"events": (1,), "logs": (1, 2)}.get(folder, ())
    if len(inner) not in fits or any(part.startswith(".") for part in inner) or "\0" in name:
        raise HarnessError(f"an agent named a file that cannot be its own: {name!r}", "agent-garbled")
    return directory.joinpath(folder, *inner)


def _decode(line: bytes) -> FromAgent:
    try:
        message: FromAgent = decode_from_agent(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise HarnessError(f"an agent's line cannot be understood: {error}", "agent-garbled") from error
    return message


def _look_at(answer: asyncio.Future[Reply]) -> None:
    """A reply that nobody awaits may be an error all the same; asyncio must not complain about that."""
    if not answer.cancelled():
        answer.exception()
