"""The stages of a host's link in the order in which they came, and the packets on their way through them. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from midsession.agent.network.stages import Counts, Flow, Packet, Stage

MOST_WAITING = 200_000
"""So many packets may wait. What comes then passes unharmed, and is counted: better than a loss nobody asked for."""


class _Place:
    """A stage, and which packets it is for: `peers` None: those of all peers."""

    def __init__(self, stage: Stage, hooks: frozenset[int], peers: frozenset[bytes] | None) -> None:
        self.stage, self._hooks, self._peers = stage, hooks, peers

    def is_for(self, flow: Flow) -> bool:
        return flow[0] in self._hooks and (self._peers is None or flow[1] in self._peers)


class Line:
    """Carries packets through the stages that are for them; calls `out` and `lose` with those at their end."""

    def __init__(self, out: Callable[[Packet], None], lose: Callable[[Packet], None]) -> None:
        self._out, self._lose = out, lose
        self._places: dict[str, _Place] = {}
        self._paths: dict[Flow, tuple[Stage, ...]] = {}
        self.waiting = 0
        self.overrun = 0
        """Packets that passed unharmed because too many waited."""

    @property
    def whole(self) -> bool:
        """Whether any stage needs whole packets."""
        return any(place.stage.whole for place in self._places.values())

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages by the names of their faults."""
        return {name: place.stage for name, place in self._places.items()}

    def add(self, name: str, stage: Stage, hooks: frozenset[int], peers: frozenset[bytes] | None) -> None:
        """A stage behind all others."""
        stage.onward = partial(self._forward, stage)
        stage.lose = self._lost
        self._places[name] = _Place(stage, hooks, peers)
        self._paths.clear()

    def remove(self, name: str, now: float) -> Counts:
        """Let go what waits in a stage, in order, and take it out."""
        place = self._places[name]
        place.stage.flush(now)
        del self._places[name]
        self._paths.clear()
        return place.stage.counts

    def enter(self, packet: Packet, now: float) -> None:
        """A packet comes."""
        self.waiting += 1
        if self.waiting > MOST_WAITING:
            self.overrun += 1
            self._leave(packet)
            return
        path = self._path(packet.flow)
        if path:
            path[0].take(packet, now)
        else:
            self._leave(packet)

    def due(self) -> float | None:
        """When `let_go` must be called next; None: not before the next packet."""
        instants = [due for place in self._places.values() if (due := place.stage.due()) is not None]
        return min(instants, default=None)

    def let_go(self, now: float) -> None:
        """Send on whatever is due."""
        for place in self._places.values():
            place.stage.let_go(now)

    def _forward(self, stage: Stage, packet: Packet, now: float) -> None:
        path = self._path(packet.flow)
        at = path.index(stage) + 1
        if at < len(path):
            path[at].take(packet, now)
        else:
            self._leave(packet)

    def _path(self, flow: Flow) -> tuple[Stage, ...]:
        path = self._paths.get(flow)
        if path is None:
            path = tuple(place.stage for place in self._places.values() if place.is_for(flow))
            self._paths[flow] = path
        return path

    def _leave(self, packet: Packet) -> None:
        self.waiting -= not packet.copy
        self._out(packet)

    def _lost(self, packet: Packet) -> None:
        self.waiting -= not packet.copy
        self._lose(packet)
