"""What a fault is: a noun with typed fields, its cure, and the witness that proves that it took effect.

A fault's own file is the only place that names it. Everything else (language, conductor, run, report, docs) learns of
it through this interface and the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from midsession.agent.protocol import Request
from midsession.core.plan import Plan
from midsession.core.record import Event, Record
from midsession.core.wrong import Wrong

TargetKind = Literal["service", "client group", "client"]
SERVICE: frozenset[TargetKind] = frozenset({"service"})
ANY: frozenset[TargetKind] = SERVICE | {"client group"}
SESSIONS: frozenset[TargetKind] = frozenset({"client group", "client"})

Ability = Literal["filter", "packets", "links", "sockets", "queue", "shape", "names", "addresses"]
"""What an agent may be able to do to its host's network: filter packets, tell the single packets of the wire apart in
that, switch interfaces, destroy sockets, have a queue of packets, shape its link (by that queue, or by the kernel),
answer for its resolver, give it another address."""


@dataclass(frozen=True, slots=True)
class StartProgram:
    """Start the target's program as the plan describes it. Only the runner knows how, so it makes the request."""

    fault: str = ""
    """The step that stands in the `injected` record; empty when an earlier move of the same fault wrote one."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Let that many seconds pass before the next move."""

    rest_s: float


Move = Request | StartProgram | Rest
"""One thing that a fault does. A move begins when the agent has answered the one before it."""


class Scene(Protocol):
    """What a fault may know of the run when it is injected on one host: where things are."""

    @property
    def address(self) -> str:
        """The address of the host on which it is injected, on the network under test."""

    @property
    def spare_address(self) -> str:
        """An address that its host may have in place of its own, and nobody else has."""

    @property
    def serves(self) -> bool:
        """Whether it is a service's host, not one that plays clients."""

    def holds(self, address: str) -> bool:
        """Whether that is its host's address, or the spare one, which it may have by now."""

    def addresses(self, name: str) -> Sequence[str]:
        """The addresses of the hosts of a service or of a client group."""

    def is_client(self, name: str) -> bool:
        """Whether it is one client's name, not that of a service or group."""

    def connections(self, name: str) -> Sequence[tuple[str, str]]:
        """Both ends of the open connections of a scripted client, or of all of a group, as `ip:port`: its own, its
        peer's. What a client that is a program has open, nobody knows."""


class Unfit(Exception):
    """The fault cannot be injected as things stand now; the text says why. Its step fails."""


def open_connection(client: str, scene: Scene) -> tuple[tuple[str, int], tuple[str, int]]:
    """A client's own end and its peer's, each as address and port. Raises Unfit for a client that is not connected."""
    found = scene.connections(client)
    if not found:
        raise Unfit(f"{client} has no open connection")
    own, peer = (end.rpartition(":") for end in found[0])
    return (own[0], int(own[2])), (peer[0], int(peer[2]))


@dataclass(frozen=True, slots=True)
class Fault(ABC):
    """Base of every fault: a frozen dataclass whose fields are its YAML.

    `verb` is its key in the timeline. A scalar in place of the mapping sets `target`. `family` orders the docs.
    `healable` faults may carry `for:` and be named by `heal`, and are healed at the end of every run.
    The class docstring is its exact meaning and goes into the docs word for word.
    """

    verb: ClassVar[str]
    family: ClassVar[str]
    healable: ClassVar[bool] = False
    breaks: ClassVar[bool] = True
    """Whether it breaks something for sessions that are open. False for what only brings a program back."""
    targets: ClassVar[frozenset[TargetKind]] = SERVICE
    """What `target` may name. A client group means all hosts that play it; they must play no other group. A client,
    `talkers-3`, means its own connection and nothing else of the host that plays it."""
    needs_program: ClassVar[bool] = False
    """Whether it does something to a running program. Of a group of client programs it is then injected on the hosts
    of those that run; every other fault also on those of programs that have still to begin."""
    needs: ClassVar[frozenset[Ability]] = frozenset()
    """What the agents of its hosts must be able to do, see `abilities`."""
    watches: ClassVar[frozenset[Event]] = frozenset()
    """Events besides the agents' own that `is_witness` needs to see while the run is under way."""
    proven_from: ClassVar[Literal["first", "last"]] = "last"
    """A witness counts when it was stamped after this one of the fault's moves had begun."""

    unfelt: ClassVar[str] = "it was healed before it had any effect"
    """What is said of it where it was healed without its witness; ` on server` follows."""

    target: str | tuple[str, ...]
    """What it breaks: a name, or several where a choice from a list was drawn."""

    def refuse_kinds(self, kinds: Collection[TargetKind]) -> None:
        """Raises Wrong where, as its fields stand, it cannot hit targets of these kinds, all at once.

        Every kind is one of `targets`.
        """
        if "client" in kinds and len(kinds) > 1:
            message = "a client stands for its connection, all else for whole hosts: one step cannot hit both"
            raise Wrong("wrong-target", message, "add a step for each")

    def abilities(self) -> frozenset[Ability]:
        """What the agents of its hosts must be able to do, as its fields stand."""
        return self.needs

    @property
    def names(self) -> tuple[str, ...]:
        """What it breaks, name by name."""
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    def looked_up(self) -> Sequence[str]:
        """Services whose names clients must look up at every connect; those of the others are known to them."""
        return ()

    def places(self, plan: Plan) -> Sequence[str]:
        """The services, client groups and clients on whose hosts it is injected: what it breaks, for most."""
        return self.names

    @abstractmethod
    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """What is done to one of its hosts, in order; `step` goes into the records.

        Empty: there is nothing that it breaks on this host, and no witness is to come from it. Where that is so on each
        of its hosts, the step fails.

        The first request bears the step as its `fault`, so that there is an `injected` record; its `began_ns` is the
        fault's instant. Requests have `id` 0: the link fills it in. Raises Unfit.
        """

    def heal(self, step: str, scene: Scene) -> Sequence[Request]:
        """What undoes it on one of its hosts; empty for a fault that does not heal."""
        return ()

    @abstractmethod
    def is_witness(self, record: Record) -> bool:
        """True for a record that proves that the fault took effect on the record's host.

        It is asked only of records of hosts on which the fault was injected, that were stamped after the move
        `proven_from` had begun and name no other step as their `fault`; and of the end of a program only where the
        agent says that it ended by this step. Every host must give its witnesses.
        """

    def is_proven_by(self, witnesses: Sequence[Record]) -> bool:
        """Whether the witnesses that one host has given so far, at least one, are all that it must give."""
        return True

    def describe(self) -> str:
        """The fault as a short phrase for the account and the report: `kill server (SIGKILL)`."""
        return f"{self.verb} {self.whom}"

    @property
    def whom(self) -> str:
        """What it breaks, in words."""
        return ", ".join(self.names)
