"""The verbs of a run's frame: configure, subscribe, prepare, list, fetch, finish, shutdown."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.network import filter as filters
from midsession.agent.network import impair, lies
from midsession.agent.protocol import Configure, Fetch, Finish, List, Prepare, Shutdown, Subscribe
from midsession.core.record import Event

_FETCH_BYTES = 8 * 1024 * 1024
_EVENTS = frozenset(event.value for event in Event)


def configure(agent: Agent, ask: Configure, answer: Answer) -> None:
    """Begin a run, once whatever is left of an earlier one is gone."""

    channel = agent.channel
    assert channel is not None

    def begin() -> None:
        agent.forget_run()
        try:
            agent.host = HostRun(agent.loop, ask, channel)
        except (Refused, OSError, ValueError, OverflowError) as error:
            answer.refuse(f"cannot begin the run: {error}")
        else:
            answer.give({"directory": agent.host.directory.path})

    agent.supervisor.end(begin)


def subscribe(agent: Agent, ask: Subscribe, _answer: Answer) -> dict[str, Any]:
    """Replace the set of events that are pushed."""
    events = frozenset(ask.events)
    if unknown := events - _EVENTS:
        raise Refused(f"there is no event {sorted(unknown)[0]!r}")
    agent.any_run().tail.subscribe(events)
    return {}


def prepare(agent: Agent, ask: Prepare, _answer: Answer) -> dict[str, Any]:
    """Have ready what faults will need."""
    for ability in ask.abilities:
        _PREPARE.get(ability, _nothing)(agent)
    return {}


def list_files(agent: Agent, _ask: List, _answer: Answer) -> dict[str, Any]:
    """Our event files and logs, with their sizes."""
    return {"files": agent.any_run().directory.sizes()}


def fetch(agent: Agent, ask: Fetch, _answer: Answer) -> dict[str, Any]:
    """A piece of one of them; at most 8 MiB."""
    data, eof = agent.any_run().directory.read(ask.path, ask.offset, min(ask.limit, _FETCH_BYTES))
    return {"data": base64.b64encode(data).decode(), "eof": eof}


def finish(agent: Agent, _ask: Finish, answer: Answer) -> None:
    """End the run; answered once everything is dead, the book is closed and what was subscribed is pushed."""
    host = agent.any_run()

    def gone() -> None:
        agent.finish_run()
        host.tail.when_drained(lambda: answer.give({}))

    agent.supervisor.end(gone)


def shutdown(agent: Agent, _ask: Shutdown, answer: Answer) -> None:
    """The agent ends, with status 0, once the answer is on its way and it has lingered as it was made to."""

    def gone() -> None:
        agent.forget_run()
        answer.give({})
        agent.dismiss()

    agent.supervisor.end(gone)


def _nothing(_agent: Agent) -> None:
    """Most abilities need no preparation."""


_PREPARE: dict[str, Callable[[Agent], None]] = {
    "filter": filters.prepare,
    "packets": filters.prepare_packets,
    "queue": impair.prepare,
    "shape": impair.prepare,
    "names": lies.prepare,
}


VERBS: dict[type[Any], Any] = {
    Configure: configure,
    Subscribe: subscribe,
    Prepare: prepare,
    List: list_files,
    Fetch: fetch,
    Finish: finish,
    Shutdown: shutdown,
}
