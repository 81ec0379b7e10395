"""The lifecycle contract of our own fleet, judged in every run: a harness that breaks it cannot be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status

_DATA: tuple[str, ...] = (Event.SENT, Event.RECEIVED, Event.REPLIED, Event.END, Event.PROTOCOL_ERROR)

ALLOWED: dict[str, dict[str, str]] = {
    "new": {Event.CONNECTING: "trying"},
    "trying": {
        Event.CONNECTED: "open",
        Event.ERROR: "trying",
        Event.PROTOCOL_ERROR: "trying",
        Event.LOST: "lost",
        Event.CLOSED: "closed",
    },
    "open": dict.fromkeys(_DATA, "open") | {Event.ERROR: "open", Event.LOST: "lost", Event.CLOSED: "closed"},
    "lost": {Event.ERROR: "lost", Event.PROTOCOL_ERROR: "lost", Event.CLOSED: "closed"},
    "closed": {},
}
"""What may happen to a connection in which state, and what comes of it (DESIGN: the lifecycle contract)."""

_OF_A_CONNECTION = frozenset(event for allowed in ALLOWED.values() for event in allowed)


@dataclass(frozen=True, slots=True)
class Lifecycle(Check):
    """Every connection is tried, made, used and closed, in that order and closed exactly once; `done` comes once, last.

    Always on for clients; it cannot be named in a scenario. A breach is a failure of the harness itself.
    """

    kind: ClassVar[str] = "lifecycle"

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return "each client connects before data, closes each connection once, and does nothing after its end"

    def judge(self, history: History) -> Finding:
        """Walk through each client's records in the order in which its fleet wrote them."""
        played = [client for group in history.plan.scripted for client in group.names]
        breaches = [breach for client in played for breach in _breaches(history, client)]
        clients = [c for c in played if history.of_client(c)]
        return Finding(
            check=self.kind,
            status=Status.ERROR if breaches else Status.PASS if clients else Status.INCONCLUSIVE,
            promise=self.promise,
            seen=words.listing(why for why, _ in breaches) or f"kept by {words.plural(len(clients), 'client')}",
            support=len(clients),
            witnesses=[r for _, r in breaches][: words.SHOWN],
            offenders=words.who(r for _, r in breaches),
        )


def _breaches(history: History, client: str) -> Iterator[tuple[str, Record]]:
    records = history.of_client(client)[:]
    done = next((n for n, r in enumerate(records) if r.event == Event.DONE), None)
    if done is not None:
        yield from ((f"{client}: {r.event} after its done", r) for r in records[done + 1 :])
    states: dict[int, str] = {}
    for r in records:
        if r.event in _OF_A_CONNECTION and r.connection is not None:
            state = states.get(r.connection, "new")
            if r.event not in ALLOWED[state]:
                yield f"{client}: {r.event} on its connection {r.connection}, which is {state}", r
            states[r.connection] = ALLOWED[state].get(r.event, state)
    if done is not None:
        left = [number for number, state in states.items() if state != "closed"]
        yield from ((f"{client}: its connection {number} was never closed", records[done]) for number in left)
