"""How a request is answered: exactly once, now or later, or refused with a text for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Reply, encode


class Refused(Exception):
    """The request cannot be carried out; the text goes to the conductor. The agent goes on."""


class LogBroken(Exception):
    """The agent's own log or a program's output log cannot be written. The agent ends: never a shorter log."""


class Answer:
    """The one reply to one request. A second one is a mistake of ours."""

    __slots__ = ("_id", "_send", "given")

    def __init__(self, request_id: int, send: Callable[[bytes], None]) -> None:
        self._id, self._send = request_id, send
        self.given = False

    def give(self, value: dict[str, Any]) -> None:
        """It was carried out."""
        self._reply(Reply(id=self._id, t_ns=now_ns(), value=value))

    def refuse(self, error: str) -> None:
        """It was not."""
        self._reply(Reply(id=self._id, t_ns=now_ns(), error=error))

    def _reply(self, reply: Reply) -> None:
        assert not self.given
        self.given = True
        self._send(encode(reply))
