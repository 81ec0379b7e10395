"""What the server does to its clients: a table of pure behaviours, bytes in, commands out.

A behaviour knows neither sockets nor logs. It is shown a client's arrival (`greet`) and each of its messages (`hear`)
and answers with commands, carried out in their order. To add one: write it here and enter it in `BEHAVIOURS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from server.store import Store, store_path


@dataclass(frozen=True, slots=True)
class Say:
    """Write these bytes to the client itself."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """Write these bytes to every other client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """End our side (FIN) once everything is written, and go on hearing the client: a half-close."""


Command = Say | Tell | Finish
Commands = tuple[Command, ...]


def _nothing(_: object) -> Commands:
    return ()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to treat clients.

    `greet` is called with the client's `address:port` when it has connected; `hear` with each message: a whole line
    without its newline where `by_line`, else the bytes of one read. A line that the client's FIN cut short is logged
    but not heard: half a message is never acknowledged. A `deaf` behaviour never reads at all, so it does not notice
    a client's end either.
    """

    about: str
    greet: Callable[[str], Commands] = _nothing
    hear: Callable[[bytes], Commands] = _nothing
    by_line: bool = False
    deaf: bool = False
    opens: Callable[[], Store] | None = None
    """Makes what the behaviour keeps, once per process; then `hear` asks it."""

    def ready(self) -> Behaviour:
        """The behaviour of a process that is about to serve. Raises OSError when its store cannot be opened."""
        if self.opens is None:
            return self
        store = self.opens()
        return replace(self, hear=lambda line: (Say(store.hear(line) + b"\n"),))


REPLY = "Got your message ✅\n".encode()

NONSENSE = b"\x00\xff\xfe\xc3\x28 \x1b]0;nonsense\x07 \xf0\x9f\x91\n"
"""Not UTF-8, a NUL, a terminal escape, half an emoji: what a careless peer or log viewer trips over."""


def _hello(peer: str) -> Commands:
    return Say(f"Hello {peer}, I hear you 👋\n".encode()), Finish()


BEHAVIOURS = {
    "greet": Behaviour("greet by address and port, end our side at once, still hear", greet=_hello, by_line=True),
    "reply": Behaviour("one line back for each line", hear=lambda _: (Say(REPLY),), by_line=True),
    "echo": Behaviour("the same bytes back", hear=lambda data: (Say(data),)),
    "chat": Behaviour("each line to all other clients", hear=lambda line: (Tell(line + b"\n"),), by_line=True),
    "sink": Behaviour("read everything, answer nothing"),
    "silent": Behaviour("accept, never read, never answer", deaf=True),
    "kv": Behaviour(
        "SET, GET and SCAN on a store that outlives the process",
        by_line=True,
        opens=lambda: Store(store_path(os.environ)),
    ),
    "kv_volatile": Behaviour("the same, but forgets all when it dies", by_line=True, opens=lambda: Store(None)),
    "nonsense": Behaviour(
        "garbage at once, and garbage back for whatever comes",
        greet=lambda _: (Say(NONSENSE),),
        hear=lambda _: (Say(NONSENSE),),
    ),
}
