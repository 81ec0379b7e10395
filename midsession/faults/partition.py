"""`partition`: packets between the target and others vanish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Filter
from midsession.faults.base import Scene
from midsession.faults.packets import PacketFault, peers_of, refuse_itself

_WHICH: dict[str, Literal["all", "opening", "live"]] = {"all": "all", "new": "opening", "established": "live"}


@dataclass(frozen=True, slots=True)
class Partition(PacketFault):
    """Packets between the target and others vanish: nobody is told, and every program lives on.

    `with` names the others, a service or client group; without it, everybody. `direction` is seen from the target:
    `both` (the default), `to` it, or `from` it only. With `to`, the target still speaks, and hears nothing.

    `state` says which connections are cut: `all` (the default) packets of any kind; `new`, only TCP segments with SYN,
    so that live sessions go on and connects time out; `established`, only TCP connections that are open at that moment,
    so that live sessions fall silent and new ones work. Peers see silence until a timeout of their own; what was
    sent meanwhile is sent again by TCP and arrives after the heal.

    The rule stands in the target's own network namespace. Packets `from` the target are dropped as they leave it,
    where its kernel is told so, and tries again sooner than after a loss on the path; see `loss`.

    It took effect when the rule's counter shows the first packet dropped, on each of the target's hosts. Healing takes
    the rule out.
    """

    verb = "partition"

    direction: Literal["both", "to", "from"] = "both"
    state: Literal["all", "new", "established"] = "all"
    with_: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a partition of the target from itself."""
        refuse_itself(self.target, self.with_)

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop what fits."""
        return Filter(
            id=0,
            fault=step,
            own=scene.address,
            peers=peers_of(self.with_, scene),
            direction=self.direction,
            which=_WHICH[self.state],
        )

    def describe(self) -> str:
        """With what narrows it down."""
        said = [f"with {self.with_}"] if self.with_ else []
        said += [f"direction {self.direction}"] if self.direction != "both" else []
        said += [f"{self.state} connections"] if self.state != "all" else []
        return f"partition {self.target}" + (f" ({', '.join(said)})" if said else "")
