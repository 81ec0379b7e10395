"""`partition`: packets between the target and others vanish."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Filter
from midsession.core.refers import Side
from midsession.faults.base import Scene, TargetKind
from midsession.faults.packets import PacketFault, refuse_for_client

_WHICH: dict[str, Literal["all", "opening", "live"]] = {"all": "all", "new": "opening", "established": "live"}


@dataclass(frozen=True, slots=True)
class Partition(PacketFault):
    """Packets between the target and others vanish: nobody is told, and every program lives on.

    `with` names the others, a service or client group; without it, everybody. Several targets that are cut off together
    still hear each other. `between: [a, b]`, in place of `target` and `with`, cuts that pair. `direction` is seen from
    the target: `both` (the default), `to` it, or `from` it only. With `to`, the target still speaks, and hears nothing.

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

    target: str | tuple[str, ...] = ""
    between: tuple[Side, Side] | None = None
    direction: Literal["both", "to", "from"] = "both"
    state: Literal["all", "new", "established"] = "all"

    def __post_init__(self) -> None:
        """Raises ValueError for a partition of nobody, of the target from itself, or both ways of saying it."""
        if bool(self.target) == bool(self.between):
            raise ValueError("say what is cut off: either 'target' or 'between'")
        if self.between is not None and self.with_ is not None:
            raise ValueError("'between' names both sides: leave 'with' out")
        if self.between is not None:
            object.__setattr__(self, "target", self.between[0])
            object.__setattr__(self, "with_", self.between[1])
        PacketFault.__post_init__(self)

    def refuse_kinds(self, kinds: Collection[TargetKind]) -> None:
        """A client's connection is open, and not new."""
        PacketFault.refuse_kinds(self, kinds)
        if "client" in kinds and self.state == "new":
            refuse_for_client("state: new")

    @property
    def of_tcp(self) -> bool:
        """New and established are words of TCP."""
        return self.state != "all"

    def rule(self, step: str, scene: Scene) -> Filter:
        """Drop what fits."""
        fellows = [address for name in self._fellows(scene) for address in scene.addresses(name)]
        return self.about(step, scene, spared=fellows, direction=self.direction, which=_WHICH[self.state])

    def details(self) -> list[str]:
        """The direction and the connections, where not all."""
        said = [f"direction {self.direction}"] if self.direction != "both" else []
        return said + ([f"{self.state} connections"] if self.state != "all" else [])

    def _fellows(self, scene: Scene) -> list[str]:
        """Those on the same side of the cut."""
        if len(self.names) == 1 or self.with_ is not None:
            return []
        return [name for name in self.names if not scene.is_client(name)]
