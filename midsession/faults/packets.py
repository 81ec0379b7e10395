"""What the faults that are rules over packets have in common: whom they hit, the filter, its counter, its cure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from midsession.agent.protocol import Filter, Request, Unfilter
from midsession.core.record import Event, Record
from midsession.core.refers import Side
from midsession.core.wrong import Wrong
from midsession.faults.base import ANY, Fault, Move, Scene, TargetKind, open_connection

UNFELT = "until it was healed, no packet passed that it hits"
"""Said of a fault that counts packets, and counted none: often, the two ends had nothing to say to each other."""


@dataclass(frozen=True, slots=True)
class PacketFault(Fault):
    """Base of a fault that is one `Filter`; its witness is the first packet that was hit.

    Selectors narrow it down, and every one that is given must fit. `with` names the other end, a service or client
    group. `port` is the service's end of the traffic: the target's own port, or the other end's where the target is
    clients. `protocol` is `tcp` or `udp`. A single client as the target means the connections that it has open at that
    moment, and none that it opens later.
    """

    family = "link"
    healable = True
    targets = ANY | {"client"}
    needs = frozenset({"filter"})
    watches = frozenset({Event.WITNESSED, Event.CONNECTED, Event.LOST, Event.CLOSED})
    unfelt = UNFELT

    with_: Side | None = field(default=None, kw_only=True)
    port: int | None = field(default=None, kw_only=True)
    protocol: Literal["tcp", "udp"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Raises ValueError for a fault between the target and itself, and for what is no port."""
        refuse_itself(self.names, self.with_)
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError("'port' is between 1 and 65535")
        if self.protocol == "udp" and self.of_tcp:
            raise ValueError("'protocol' is tcp here: UDP has no connections")

    def refuse_kinds(self, kinds: Collection[TargetKind]) -> None:
        """A client is a TCP connection."""
        Fault.refuse_kinds(self, kinds)
        if "client" in kinds and self.protocol == "udp":
            refuse_for_client("protocol: udp")

    @property
    def of_tcp(self) -> bool:
        """Whether it is about TCP connections alone."""
        return False

    @abstractmethod
    def rule(self, step: str, scene: Scene) -> Filter:
        """What is dropped or answered."""

    def about(self, step: str, scene: Scene, **more: Any) -> Filter:
        """A filter with the fault's selectors; raises Unfit for a client that is not connected."""
        return Filter(
            id=0,
            fault=step,
            own=scene.address,
            peers=peers_of(self.with_, scene),
            connections=self._connections(scene),
            protocol=self.protocol,
            own_port=self.port if scene.serves else None,
            peer_port=None if scene.serves else self.port,
            **more,
        )

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One rule."""
        return (self.rule(step, scene),)

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """Take it out."""
        return (Unfilter(id=0, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the rule's counter move."""
        return record.event == Event.WITNESSED

    def describe(self) -> str:
        """With what it does, and what narrows it down."""
        said = ", ".join([*self.details(), *self._selectors()])
        return f"{self.verb} {self.whom}" + (f" ({said})" if said else "")

    def details(self) -> Sequence[str]:
        """What it does, in short phrases; nothing where the verb says it all."""
        return ()

    def _selectors(self) -> list[str]:
        said = [f"with {self.with_}"] if self.with_ else []
        said += [f"port {self.port}"] if self.port else []
        return said + ([self.protocol] if self.protocol else [])

    def _connections(self, scene: Scene) -> list[tuple[str, int, int]] | None:
        """Of the targets that are clients, those connections of theirs that end on this host; None: not clients."""
        clients = [name for name in self.names if scene.is_client(name)]
        if not clients:
            return None
        ends = [open_connection(name, scene) for name in clients]
        return [(*peer, own[1]) for own, peer in ends if own[0] == scene.address]


def refuse_for_client(field: str) -> NoReturn:
    """Raises Wrong: that field says nothing of a client's connection."""
    message = f"a client stands for its open TCP connection, and '{field}' does not go with that"
    raise Wrong("wrong-target", message, f"leave '{field.partition(':')[0]}' out, or aim at the client's group")


def peers_of(name: str | None, scene: Scene) -> list[str] | None:
    """The addresses of a fault's `with`; None: everybody."""
    return None if name is None else list(scene.addresses(name))


def refuse_itself(names: Sequence[str], name: str | None) -> None:
    """Raises ValueError where a fault is between the target and the target."""
    if name in names:
        raise ValueError(f"'with' names the target itself, {name!r}")
