"""What the lesson promises of single connections, which no check of the language asks for."""

from __future__ import annotations

from midsession import History
from midsession.core.history import CannotTell


def each_is_greeted_by_its_own_address(history: History) -> None:
    """Each of the crowd has an address and port of its own; the server knows it, and greets it, by exactly these."""
    own = {str(r.client): r.fields["local"] for r in history.events("connected").of("crowd")}
    heard = history.events("received").of("crowd").by_client()
    assert len(set(own.values())) == len(history.clients_of("crowd")), f"{len(set(own.values()))} addresses"
    for client, address in own.items():
        greeting = "".join(r.fields["text"] for r in heard.get(client, ()))
        assert greeting == f"Hello {address}, I hear you 👋\n", f"{client} at {address} heard {greeting!r}"
    known = [r.fields["peer"] for r in history.events("accepted").of("server")]
    assert sorted(known) == sorted(own.values()), "the server has accepted other addresses"


def each_victim_is_heard_to_end(history: History) -> None:
    """The server hears the end of each victim's connection within a second of the massacre."""
    if history.steps["massacre"].effective is None:
        raise CannotTell("the massacre proves nothing")
    began_ns = history.instant("massacre")
    connections = {r.fields["peer"]: r.connection for r in history.events("accepted").of("server")}
    ends = {r.connection: r.t_ns for r in history.events("end").of("server").since("massacre")}
    victims = {str(r.client): r.fields["local"] for r in history.events("connected").of("victims")}
    assert set(victims) == set(history.clients_of("victims")), f"{len(victims)} victims were connected"
    for client, address in victims.items():
        end_ns = ends.get(connections.get(address))
        assert end_ns is not None, f"nobody heard the end of {client} at {address}"
        late_ns = end_ns - began_ns - history.stalled_ns(began_ns, end_ns)
        assert late_ns <= 1e9, f"the end of {client} was heard {late_ns / 1e9:.3f} s after the massacre"
