"""Answers DNS queries for some names in the name service's place: by a socket, and the rules that lead them there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from midsession.agent.loop import Loop
from midsession.agent.network.nft import Nft
from midsession.agent.network.redirection import QUERIES, redirection
from midsession.agent.network.resolver import name_service


class StandIn:
    """Answers with what `respond` makes of a query (None: not at all), until `end`. Raises Refused, OSError.

    `more`: a further chain of its table, which goes when it goes. The rest is that of `redirection`.
    """

    def __init__(
        self,
        loop: Loop,
        fault: str,
        names: Sequence[str],
        respond: Callable[[bytes], bytes | None],
        priority: int,
        *,
        past_marked: bool = False,
        more: str = "",
    ) -> None:
        self._loop, self._respond = loop, respond
        self._nft, self._table = Nft(), f"ip midsession_{fault}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(("127.0.0.1", 0))
            port = self._socket.getsockname()[1]
            rules = redirection(self._table, names, name_service(), port, priority, past_marked)
            further = f"table {self._table} {{\n{more}\n}}" if more else ""
            self._nft.run(f"create table {self._table}\n{rules}\n{further}")
        except BaseException:
            self._socket.close()
            raise
        loop.reader(self._socket.fileno(), self._asked)

    def end(self) -> None:
        """Be no more. Who has asked already is still answered: else it would wait for its resolver to give up."""
        self._nft.run(f"flush chain {self._table} {QUERIES}")
        if self._socket.fileno() >= 0:
            self._asked()
        self._nft.run(f"delete table {self._table}")
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def remains(self) -> str:
        """What the kernel still has of it."""
        tables = {f"{t['family']} {t['name']}" for item in self._nft.list("tables") if (t := item.get("table"))}
        return f"the table {self._table} leads queries astray" if self._table in tables else ""

    def _asked(self) -> None:
        """All that have come."""
        while True:
            try:
                query, asker = self._socket.recvfrom(4096)
            except BlockingIOError:
                return
            if response := self._respond(query):
                self._socket.sendto(response, asker)
