"""The impairments as stages that packets pass: pure, on whatever clock the caller has. Does no I/O.

A stage takes a packet and sends it onward, now or later, or loses it. Draws are functions of a key and of the packet's
number in its direction, so that the n-th packet of a direction meets the same fate in every run of a seed.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping

from midsession.agent.network import impairment
from midsession.core.plan import draw

IP_VERSION_MASK = 0x0F
_WORD_BYTES = 4
_RATE_WITNESS_S = 0.001

Flow = tuple[int, bytes]
"""The direction (the netfilter hook's number) and the peer's address."""
Counts = dict[str, int | float]
"""What a stage has done so far; lengths of time in milliseconds, said in the name."""


class Packet:
    """A packet under way. `number` is the kernel's, in its own bytes; None for one that the kernel has not any more.

    `data` is the whole IP packet where a stage needs it, else no more than its header.
    """

    __slots__ = ("changed", "copy", "data", "flow", "number", "size")

    def __init__(self, number: bytes | None, flow: Flow, data: bytes) -> None:
        self.number, self.flow, self.data = number, flow, data
        self.size = int.from_bytes(data[2:4], "big")
        self.changed = self.copy = False

    @property
    def whole(self) -> bool:
        """False for one that came before a stage wanted whole packets."""
        return len(self.data) >= self.size

    def twin(self) -> Packet:
        """A copy of it."""
        twin = Packet(None, self.flow, self.data)
        twin.copy = True
        return twin


class Stage(ABC):
    """One impairment at work. `onward` and `lose` are set by the line that it is part of.

    `counts` says what it has done; it has had its effect once `proven` is true.
    """

    whole = False
    """Whether it needs whole packets, and not their headers alone."""

    def __init__(self) -> None:
        self.counts: Counts = {"packets": 0, "seen": 0}
        self.onward: Callable[[Packet, float], None]
        self.lose: Callable[[Packet], None]

    @property
    def proven(self) -> bool:
        """Whether it has done to a packet what it is there for."""
        return self.counts["packets"] > 0

    @abstractmethod
    def take(self, packet: Packet, now: float) -> None:
        """A packet comes, at `now` in seconds."""

    def due(self) -> float | None:
        """When the next packet must go on; None: no packet waits for a time."""
        return None

    def let_go(self, now: float) -> None:
        """Send on what is due."""
        return

    def flush(self, now: float) -> None:
        """Send on whatever waits, in order: the stage is about to be taken out."""
        return


class _Choice:
    """Which packets of a direction are chosen."""

    def __init__(self, share: float | None, every: int | None, key: str) -> None:
        self._share, self._every, self._key = share, every, key
        self._met: defaultdict[int, int] = defaultdict(int)

    def of(self, packet: Packet) -> int:
        """The packet's number in its direction, from 1, when it is chosen; else 0."""
        direction = packet.flow[0]
        number = self._met[direction] = self._met[direction] + 1
        if self._every is not None:
            return 0 if number % self._every else number
        return number if self._share and draw(f"{self._key}/{direction}", number) < self._share else 0


class _Timed(Stage):
    """A stage in which packets wait for an instant."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[float, int, float, Packet]] = []
        self._order = itertools.count()

    def wait(self, packet: Packet, now: float, until: float) -> None:
        """Send it on then."""
        heapq.heappush(self._waiting, (until, next(self._order), now, packet))

    def due(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None

    def let_go(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, since, packet = heapq.heappop(self._waiting)
            self.released(packet, now - since)
            self.onward(packet, now)

    def flush(self, now: float) -> None:
        while self._waiting:
            self.onward(heapq.heappop(self._waiting)[-1], now)

    def released(self, packet: Packet, waited_s: float) -> None:
        """It goes on now, in its time, after so long."""


class DelayStage(_Timed):
    """`impairment.Delay`. `mean_ms` and `worst_ms` tell what was measured."""

    def __init__(self, ask: impairment.Delay, key: str) -> None:
        super().__init__()
        self._ask, self._key = ask, key
        self._courses: dict[int, _Course] = {}
        self._last: dict[Flow, float] = {}
        self._total_s = 0.0

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        until = max(now + self._latency_s(packet.flow[0], now), self._last.get(packet.flow, 0.0))
        self._last[packet.flow] = until
        self.wait(packet, now, until)

    def released(self, packet: Packet, waited_s: float) -> None:
        counts = self.counts
        counts["packets"] += 1
        self._total_s += waited_s
        counts["mean_ms"] = round(self._total_s / counts["packets"] * 1e3, 3)
        counts["worst_ms"] = round(max(counts.get("worst_ms", 0.0), waited_s * 1e3), 3)

    def _latency_s(self, direction: int, now: float) -> float:
        ask = self._ask
        if not ask.jitter_s:
            return ask.latency_s
        course = self._courses.get(direction)
        if course is None:
            course = self._courses[direction] = _Course(f"{self._key}/{direction}", _APART * ask.jitter_s, now)
        return max(0.0, ask.latency_s + ask.jitter_s * _SPREADS[ask.distribution](course.at(now)))


_APART = 3.0
"""Delays that are drawn each for itself lie so many times the jitter apart in time.

Packets keep their order as long as no delay falls faster than time goes by; one that would is held up by the packet
before it, which raises the mean. So near to each other draws may be without that: dense traffic's mean is raised by 1 %
of the jitter at most, or for `pareto`, whose longest delays hold up a lot at any distance, by some 20 %.
"""


class _Course:
    """A smooth course of values, each of them normally distributed (mean 0, standard deviation 1), from `begin` on.

    Between two draws their weights change; the root of the sum of the weights' squares keeps the variance what it is.
    Values that are two spans apart have nothing to do with each other.
    """

    def __init__(self, key: str, span_s: float, begin: float) -> None:
        self._key, self._span_s, self._begin = key, span_s, begin
        self._number, self._before, self._after = 0, _drawn(key, 1), _drawn(key, 2)

    def at(self, now: float) -> float:
        """The value at that time, which is none before the last one that was asked for."""
        number, weight = divmod((now - self._begin) / self._span_s, 1.0)
        if number != self._number:
            self._number = int(number)
            self._before, self._after = (_drawn(self._key, self._number + n) for n in (1, 2))
        return ((1 - weight) * self._before + weight * self._after) / math.hypot(1 - weight, weight)


def _drawn(key: str, number: int) -> float:
    """The transform of Box and Muller."""
    return math.sqrt(-2 * math.log(1 - draw(key, number))) * math.cos(2 * math.pi * draw(key, -number))


def _uniform(value: float) -> float:
    """Between -1 and 1."""
    return math.erf(value / math.sqrt(2))


def _normal(value: float) -> float:
    return value


def _pareto(value: float) -> float:
    """Mean 0, standard deviation 1, shape 3 (the one that netem's table is made with): mean 3/2, variance 3/4."""
    return float((math.erfc(value / math.sqrt(2)) / 2) ** (-1 / 3) - 1.5) / math.sqrt(0.75)


_SPREADS: Mapping[str, Callable[[float], float]] = {"uniform": _uniform, "normal": _normal, "pareto": _pareto}
"""Of a normally distributed value one that is distributed so, and no smaller for a greater one."""


class ReorderStage(_Timed):
    """`impairment.Reorder`. `packets` are those that were overtaken; `late` those that were held back for it."""

    def __init__(self, ask: impairment.Reorder, key: str) -> None:
        super().__init__()
        self._late_s = ask.late_s
        self._choice = _Choice(ask.share, ask.every, key)
        self._behind: defaultdict[Flow, set[Packet]] = defaultdict(set)
        self.counts["late"] = 0

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        if self._choice.of(packet):
            self.counts["late"] += 1
            self._behind[packet.flow].add(packet)
            self.wait(packet, now, now + self._late_s)
            return
        if overtaken := self._behind.get(packet.flow):
            self.counts["packets"] += len(overtaken)
            overtaken.clear()
        self.onward(packet, now)

    def released(self, packet: Packet, waited_s: float) -> None:
        self._behind[packet.flow].discard(packet)


class DuplicateStage(Stage):
    """`impairment.Duplicate`."""

    whole = True

    def __init__(self, ask: impairment.Duplicate, key: str) -> None:
        super().__init__()
        self._choice = _Choice(ask.share, ask.every, key)

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        chosen = self._choice.of(packet) and packet.whole
        twin = packet.twin() if chosen else None
        self.onward(packet, now)
        if twin is not None:
            self.counts["packets"] += 1
            self.onward(twin, now)


class CorruptStage(Stage):
    """`impairment.Corrupt`. What has nothing behind its IP header is left alone."""

    whole = True

    def __init__(self, ask: impairment.Corrupt, key: str) -> None:
        super().__init__()
        self._choice = _Choice(ask.share, ask.every, key)
        self._key = key

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        header = (packet.data[0] & IP_VERSION_MASK) * _WORD_BYTES
        number = self._choice.of(packet)
        if number and packet.whole and packet.size > header:
            self.counts["packets"] += 1
            bit = int(draw(f"{self._key}/bit/{packet.flow[0]}", number) * 8 * (len(packet.data) - header))
            data = bytearray(packet.data)
            data[header + bit // 8] ^= 1 << bit % 8
            packet.data, packet.changed = bytes(data), True
        self.onward(packet, now)


class BurstsStage(Stage):
    """`impairment.Bursts`: good and bad alternate; in the bad state everything is lost."""

    def __init__(self, ask: impairment.Bursts, key: str) -> None:
        super().__init__()
        self._leave = 1 / ask.length
        self._enter = min(1.0, self._leave * ask.share / (1 - ask.share)) if ask.share < 1 else 1.0
        self._key = key
        self._met: defaultdict[int, int] = defaultdict(int)
        self._bad: set[int] = set()
        self.counts["bursts"] = 0

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        direction = packet.flow[0]
        number = self._met[direction] = self._met[direction] + 1
        self._move(direction, draw(f"{self._key}/{direction}", number))
        if direction in self._bad:
            self.counts["packets"] += 1
            self.lose(packet)
        else:
            self.onward(packet, now)

    def _move(self, direction: int, drawn: float) -> None:
        if direction in self._bad and drawn < self._leave:
            self._bad.discard(direction)
        elif direction not in self._bad and drawn < self._enter:
            self._bad.add(direction)
            self.counts["bursts"] += 1


class RateStage(_Timed):
    """`impairment.Rate`. `packets` are those that waited a millisecond or more; `lost` found the queue full."""

    def __init__(self, ask: impairment.Rate, key: str) -> None:
        super().__init__()
        self._ask = ask
        self._free_at: defaultdict[int, float] = defaultdict(float)
        self.counts |= {"lost": 0, "bytes": 0}

    @property
    def proven(self) -> bool:
        return self.counts["packets"] + self.counts["lost"] > 0

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        begin = max(now, self._free_at[packet.flow[0]])
        if begin - now > self._ask.queue_s:
            self.counts["lost"] += 1
            self.lose(packet)
            return
        end = self._free_at[packet.flow[0]] = begin + packet.size / self._ask.bytes_per_s
        self.wait(packet, now, end)

    def released(self, packet: Packet, waited_s: float) -> None:
        self.counts["packets"] += waited_s >= _RATE_WITNESS_S
        self.counts["bytes"] += packet.size


class HoldStage(Stage):
    """`impairment.Hold`."""

    def __init__(self, ask: impairment.Hold, key: str) -> None:
        super().__init__()
        self._held: list[Packet] = []

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        self.counts["packets"] += 1
        self._held.append(packet)

    def flush(self, now: float) -> None:
        held, self._held = self._held, []
        for packet in held:
            self.onward(packet, now)


class CutStage(Stage):
    """`impairment.Cut`: the kernel has done it before a packet comes here. It has no effect that could be proven."""

    def __init__(self, ask: impairment.Cut, key: str) -> None:
        super().__init__()

    def take(self, packet: Packet, now: float) -> None:
        self.counts["seen"] += 1
        self.onward(packet, now)


_STAGES: Mapping[type[impairment.Impairment], Callable[..., Stage]] = {
    impairment.Delay: DelayStage,
    impairment.Reorder: ReorderStage,
    impairment.Duplicate: DuplicateStage,
    impairment.Corrupt: CorruptStage,
    impairment.Bursts: BurstsStage,
    impairment.Rate: RateStage,
    impairment.Hold: HoldStage,
    impairment.Cut: CutStage,
}


def stage_of(ask: impairment.Impairment, key: str) -> Stage:
    """The stage that carries out an impairment; `key` is that of its draws."""
    return _STAGES[type(ask)](ask, key)
