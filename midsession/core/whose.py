"""Whose an event is: who writes records of it. The one table from which all that asks for events of somebody is made.

`client` is a session of the fleet, `server` the reference server. What is known of any other program is what the agent
of its host sees, and that says as much of a client program as of a service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from midsession.core.record import Event

Writer = Literal["client", "server", "agent", "fleet", "conductor"]

_CLIENT: frozenset[Writer] = frozenset({"client"})
_SERVER: frozenset[Writer] = frozenset({"server"})
_AGENT: frozenset[Writer] = frozenset({"agent"})
_CONDUCTOR: frozenset[Writer] = frozenset({"conductor"})

WRITERS: Mapping[Event, frozenset[Writer]] = {
    Event.CONNECTING: _CLIENT,
    Event.CONNECTED: _CLIENT,
    Event.SENT: _CLIENT | _SERVER,
    Event.RECEIVED: _CLIENT | _SERVER,
    Event.REPLIED: _CLIENT,
    Event.END: _CLIENT | _SERVER,
    Event.CLOSED: _CLIENT | _SERVER,
    Event.ERROR: _CLIENT | _SERVER,
    Event.LOST: _CLIENT,
    Event.RECONNECTING: _CLIENT,
    Event.GAVE_UP: _CLIENT,
    Event.MARK: _CLIENT,
    Event.DONE: _CLIENT,
    Event.PROTOCOL_ERROR: _CLIENT,
    Event.LISTENING: _SERVER | _AGENT,
    Event.ACCEPTED: _SERVER,
    Event.CLIENT_LOST: _SERVER,
    Event.STARTED: _AGENT,
    Event.EXITED: _AGENT,
    Event.FROZEN: _AGENT,
    Event.THAWED: _AGENT,
    Event.LINE: _AGENT,
    Event.INJECTED: _AGENT,
    Event.WITNESSED: _AGENT,
    Event.HEALED: _AGENT,
    Event.STALLED: frozenset({"fleet", "agent", "conductor"}),
    Event.EFFECTIVE: _CONDUCTOR,
    Event.BEGUN: _CONDUCTOR,
    Event.TRIGGERED: _CONDUCTOR,
    Event.NOTE: _CONDUCTOR,
    Event.ENDED: _CONDUCTOR,
}
"""Total over the events: a test says so."""


def _by(writer: Writer) -> frozenset[Event]:
    return frozenset(event for event, writers in WRITERS.items() if writer in writers)


OF_CLIENTS = _by("client")
"""What a scripted client can have."""
OF_CLIENTS_ALONE = frozenset(event for event, writers in WRITERS.items() if writers == _CLIENT)
"""What nobody but a scripted client can have."""
OF_SERVERS = _by("server")
"""What the reference server writes."""
OF_AGENTS = _by("agent")
"""What is known of a service whose program writes no records."""
OF_PROGRAMS = OF_AGENTS - {Event.LISTENING}
"""What is known of a client that is a program: its life and its output, and what was done to its host."""
OF_SESSIONS = OF_CLIENTS | OF_SERVERS - OF_AGENTS
"""What happens between a client and a server."""
ENDINGS = frozenset({Event.LOST, Event.END, Event.CLOSED, Event.CLIENT_LOST})
"""What happens to a connection that was made."""
