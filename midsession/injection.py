"""A fault under way: on which hosts, which of them have given their witnesses, which have been healed. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from midsession.core.record import Event, Record
from midsession.faults.base import Fault
from midsession.testbeds import Host


class Connections:
    """Both ends of every client's open connection, learnt from its records."""

    WATCHES = frozenset({Event.CONNECTED, Event.LOST, Event.CLOSED})

    def __init__(self) -> None:
        self._ends: dict[str, tuple[str, str]] = {}

    def hear(self, record: Record) -> None:
        """A client's record."""
        if record.client is None:
            return
        if record.event == Event.CONNECTED:
            self._ends[record.client] = (str(record.fields["local"]), str(record.fields["peer"]))
        elif record.event in (Event.LOST, Event.CLOSED):
            self._ends.pop(record.client, None)

    def of(self, client: str) -> tuple[str, str] | None:
        """Its own end and its peer's; None: it has none open."""
        return self._ends.get(client)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a fault may know of a run: who is where, and what is connected. `clients` are the scripted ones, each with
    its group."""

    services: Set[str]
    clients: Mapping[str, str]
    hosts_of: Callable[[str], Sequence[Host]]
    connections: Connections


@dataclass(frozen=True, slots=True)
class Place:
    """The `Scene` (see `midsession.faults.base`) of one host."""

    host: Host
    stage: Stage

    @property
    def address(self) -> str:
        """Its own address."""
        return self.host.address

    @property
    def spare_address(self) -> str:
        """Its other one; a testbed whose hosts have none has refused the plan."""
        assert self.host.spare_address is not None
        return self.host.spare_address

    @property
    def serves(self) -> bool:
        """Whether it is a service's host."""
        return self.host.name in self.stage.services

    def holds(self, address: str) -> bool:
        """Whether it is one of the two."""
        return address in (self.host.address, self.host.spare_address)

    def addresses(self, name: str) -> Sequence[str]:
        """Those of a service or client group."""
        return [host.address for host in self.stage.hosts_of(name)]

    def is_client(self, name: str) -> bool:
        """Whether it is the name of one scripted client, which shares its host with others."""
        return name in self.stage.clients

    def connections(self, name: str) -> Sequence[tuple[str, str]]:
        """Those that are open, of a scripted client or of all of a group."""
        meant = [client for client, group in self.stage.clients.items() if name in (client, group)]
        return [ends for client in meant if (ends := self.stage.connections.of(client)) is not None]


@dataclass(slots=True)
class Injection:
    """A fault on its hosts. `since_ns`: records of that host from there on may be its witness; none yet when absent.

    `began_ns` is the instant just before the first call that did it; None: none is known to have been made.
    """

    step: str
    fault: Fault
    places: Mapping[str, Place]
    since_ns: dict[str, int] = field(default_factory=dict)
    witnesses: dict[str, list[Record]] = field(default_factory=dict)
    unhealed: set[str] = field(default_factory=set)
    failed: bool = False
    injected_on: set[str] = field(default_factory=set)
    began_ns: int | None = None

    def __post_init__(self) -> None:
        if self.fault.healable:
            self.unhealed = set(self.places)

    @property
    def proven(self) -> bool:
        """Every host has given its witnesses."""
        return not self.unproven

    @property
    def unproven(self) -> list[str]:
        """The hosts that have not."""
        return [name for name in self.places if not self.is_proven_on(name)]

    def is_proven_on(self, name: str) -> bool:
        """One host has given all of its witnesses."""
        given = self.witnesses.get(name)
        return given is not None and self.fault.is_proven_by(given)

    def begin(self, injected: Record) -> None:
        """A host said that it was injected there; the first says when it began."""
        self.injected_on.add(injected.host)
        if self.began_ns is None:
            self.began_ns = int(injected.fields.get("began_ns", injected.t_ns))

    def take(self, record: Record) -> bool:
        """Take a record that may be a witness; True when it was the last one that was missing."""
        since_ns = self.since_ns.get(record.host)
        if since_ns is None or record.t_ns < since_ns or self.is_proven_on(record.host):
            return False
        if not self._is_about_it(record) or not self.fault.is_witness(record):
            return False
        self.witnesses.setdefault(record.host, []).append(record)
        return self.proven

    def is_lost_by(self, record: Record) -> bool:
        """Whether a record says that a witness can come no more: a program has ended by something else, whose end by
        this step was to be the witness, or a part of it."""
        if record.event != Event.EXITED or record.host not in self.injected_on:
            return False
        has_ended = any(witness.event == Event.EXITED for witness in self.witnesses.get(record.host, ()))
        return not has_ended and self.fault.is_witness(record) and not self._is_about_it(record)

    def _is_about_it(self, record: Record) -> bool:
        """Whether it is not of another step's doing, nor of nobody's: what a program ended by is told with its end."""
        ended_by_another = record.event == Event.EXITED and record.fields.get("by") != self.step
        return record.fields.get("fault", self.step) == self.step and not ended_by_another

    def leave_out(self, name: str) -> bool:
        """A host is beyond its reach after all; True when the last witness was missing from there."""
        self.places = {other: place for other, place in self.places.items() if other != name}
        return self.proven

    def after_ns(self) -> int:
        """From its beginning to the witness that came last."""
        began_ns = min(self.since_ns.values()) if self.began_ns is None else self.began_ns
        return max(given[-1].t_ns for given in self.witnesses.values()) - began_ns
