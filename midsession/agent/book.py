"""The agent's own records."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from midsession.agent.answer import LogBroken
from midsession.agent.directory import Directory
from midsession.agent.procfs import now_ns
from midsession.core.record import Event, Header, Log, Record, event_file_name


class Book:
    """The log of writer `agent` (incarnation 1: a run has one agent per host). Raises OSError when it exists already.

    `client` stands in every record. `on_written` is called after each. Every later failure to write raises LogBroken.
    """

    def __init__(self, directory: Directory, header: Header, client: str | None = None) -> None:
        self._client = client
        self.name = event_file_name(header.host, header.writer, header.incarnation)
        self._fd = directory.create("events", self.name)
        self.size = 0
        self._log = Log(header, self._write, now_ns)
        self.closed = False
        self.on_written: Callable[[], None] = lambda: None

    def append(self, event: Event, fields: dict[str, Any], t_ns: int | None = None) -> Record:
        """Write one record."""
        try:
            record = self._log.append(event, self._client, fields=fields, t_ns=t_ns)
        except OSError as error:
            raise LogBroken(f"the agent's log cannot be written: {error}") from error
        self.on_written()
        return record

    def close(self) -> None:
        """Write the trailer and close the file."""
        if not self.closed:
            self.closed = True
            try:
                self._log.close()
            except OSError as error:
                raise LogBroken(f"the agent's log cannot be closed: {error}") from error
            finally:
                os.close(self._fd)

    def _write(self, line: bytes) -> int:
        taken = os.write(self._fd, line)
        self.size += taken
        return taken
