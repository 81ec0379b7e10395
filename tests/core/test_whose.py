"""Whose an event is, said once."""

from __future__ import annotations

from midsession.core.record import Event
from midsession.core.whose import OF_AGENTS, OF_CLIENTS, OF_PROGRAMS, OF_SERVERS, OF_SESSIONS, WRITERS

CONDUCTORS = {Event.BEGUN, Event.TRIGGERED, Event.EFFECTIVE, Event.NOTE, Event.ENDED}


def test_every_event_has_its_writers() -> None:
    """The table is total."""
    assert set(WRITERS) == set(Event)
    assert all(WRITERS.values())


def test_only_the_conductors_events_are_nobodys() -> None:
    """Neither a service nor a client can be asked for them: no record of theirs bears its name."""
    assert set(Event) - OF_CLIENTS - OF_SERVERS - OF_AGENTS == CONDUCTORS


def test_what_happens_to_sessions_happens_to_no_program() -> None:
    """The two share no event, and with the conductor's they are all."""
    assert OF_SESSIONS | OF_PROGRAMS | {Event.LISTENING} | CONDUCTORS == set(Event)
    assert not OF_SESSIONS & (OF_AGENTS | CONDUCTORS)
