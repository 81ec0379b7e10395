"""The stages of an impaired link, on a clock of the test's own: what each does to packets, and how they stack."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable

import pytest

from midsession.agent.network import line as lines
from midsession.agent.network.impairment import Bursts, Corrupt, Cut, Delay, Duplicate, Hold, Impairment, Rate, Reorder
from midsession.agent.network.line import Line
from midsession.agent.network.nfqueue import OUTPUT, PREROUTING
from midsession.agent.network.stages import Packet, stage_of

BOTH = frozenset({PREROUTING, OUTPUT})
PEER, OTHER = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
HEADER = bytes([0x45]) + bytes(19)


class Road:
    """A line whose packets are numbered, and what became of them: (number, when) in the order of their coming out."""

    def __init__(self, *asked: Impairment, key: str = "k") -> None:
        self.now = 1000.0
        self.out: list[tuple[int, float]] = []
        self.data: list[bytes] = []
        self.lost: list[int] = []
        self.line = Line(self._out, lambda packet: self.lost.append(self._number(packet)))
        self._numbers = itertools.count(1)
        self._of: dict[bytes, int] = {}
        for at, ask in enumerate(asked):
            self.add(str(at), ask, key=key)

    def add(self, name: str, ask: Impairment, key: str = "k", peers: Iterable[bytes] | None = None) -> None:
        """Another impairment, of both directions."""
        self.line.add(name, stage_of(ask, key), BOTH, None if peers is None else frozenset(peers))

    def send(
        self, count: int = 1, gap_s: float = 0.0, flow: tuple[int, bytes] = (PREROUTING, PEER), size: int = 100
    ) -> None:
        """So many packets, one each `gap_s`; those in between come out in their time."""
        for _ in range(count):
            number = next(self._numbers)
            head = HEADER[:2] + size.to_bytes(2, "big") + HEADER[4:]
            data = head + number.to_bytes(4, "big") + bytes(size - 24)
            packet = Packet(number.to_bytes(4, "big"), flow, data)
            self.line.enter(packet, self.now)
            self.wait(gap_s)

    def wait(self, seconds: float) -> None:
        """Time goes by; what is due goes on at its very instant."""
        until = self.now + seconds
        while (due := self.line.due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.line.let_go(self.now)
        self.now = until

    @property
    def order(self) -> list[int]:
        return [number for number, _ in self.out]

    def _out(self, packet: Packet) -> None:
        self.out.append((self._number(packet), self.now))
        self.data.append(packet.data)

    def _number(self, packet: Packet) -> int:
        return int.from_bytes(packet.number if packet.number else packet.data[20:24], "big")


def delays(road: Road, gap_s: float) -> list[float]:
    """How long each took, for packets sent with that gap from 1000 s on."""
    return [at - (1000.0 + (number - 1) * gap_s) for number, at in sorted(road.out)]


def test_a_delay_is_exact_and_keeps_the_order() -> None:
    """Each packet waits just as long, and is counted and measured."""
    road = Road(Delay(latency_s=0.05))
    road.send(10, gap_s=0.01)
    road.wait(1)
    assert road.order == list(range(1, 11))
    assert delays(road, 0.01) == pytest.approx([0.05] * 10)
    assert road.line.remove("0", road.now) == {"packets": 10, "seen": 10, "mean_ms": 50.0, "worst_ms": 50.0}
    assert road.line.waiting == 0


@pytest.mark.parametrize(
    ("ask", "spread_s"),
    [
        (Delay(latency_s=0.5, jitter_s=0.1), 0.1 / 3**0.5),
        (Delay(latency_s=0.5, jitter_s=0.1, distribution="normal"), 0.1),
        (Delay(latency_s=0.5, jitter_s=0.1, distribution="pareto"), 0.1),
    ],
)
def test_delays_lie_as_their_distribution_says(ask: Delay, spread_s: float) -> None:
    """Mean and standard deviation, over packets too far apart to push each other."""
    road = Road(ask)
    road.send(3000, gap_s=20.0)
    road.wait(60)
    found = delays(road, 20.0)
    assert len(found) == 3000
    assert statistics.fmean(found) == pytest.approx(0.5, abs=0.01)
    assert statistics.pstdev(found) == pytest.approx(spread_s, rel=0.2)
    assert min(found) >= 0


@pytest.mark.parametrize(
    ("ask", "spread_s"),
    [
        (Delay(latency_s=0.02, jitter_s=0.015), 0.015 / 3**0.5),
        (Delay(latency_s=0.05, jitter_s=0.01, distribution="normal"), 0.01),
    ],
)
@pytest.mark.parametrize("gap_s", [0.0005, 0.005])
def test_dense_traffic_has_the_jitter_that_was_asked_for(ask: Delay, spread_s: float, gap_s: float) -> None:
    """Mean, median and standard deviation, though packets keep their order: not the longest of the delays for all."""
    road = Road(ask)
    road.send(round(30 / gap_s), gap_s=gap_s)
    road.wait(1)
    found = delays(road, gap_s)
    assert road.order == sorted(road.order)
    assert statistics.fmean(found) == pytest.approx(ask.latency_s, abs=0.06 * ask.jitter_s)
    assert statistics.median(found) == pytest.approx(ask.latency_s, abs=0.09 * ask.jitter_s)
    assert statistics.pstdev(found) == pytest.approx(spread_s, rel=0.06)


def test_a_long_tail_holds_up_what_is_right_behind() -> None:
    """As `pareto` is said to do to dense traffic: its mean is somewhat higher, its median as it should be."""
    road = Road(Delay(latency_s=0.1, jitter_s=0.01, distribution="pareto"))
    road.send(60_000, gap_s=0.001)
    road.wait(10)
    found = delays(road, 0.001)
    assert 0.0995 < statistics.fmean(found) < 0.1035
    assert statistics.median(found) == pytest.approx(0.1 + 0.01 * (0.5 ** (-1 / 3) - 1.5) / 0.75**0.5, abs=0.001)


def test_a_delay_is_one_for_all_packets_of_a_time() -> None:
    """However many there are: the road is longer or shorter, not a packet's luck."""
    ask = Delay(latency_s=0.05, jitter_s=0.02)
    sparse, dense = Road(ask), Road(ask)
    sparse.send(100, gap_s=0.05)
    dense.send(1000, gap_s=0.005)
    for road in (sparse, dense):
        road.wait(1)
    assert delays(sparse, 0.05) == pytest.approx(delays(dense, 0.005)[::10], abs=1e-6)


def test_jitter_overtakes_nobody_and_is_the_same_for_the_same_seed() -> None:
    """Of the same two hosts; and the other direction has draws of its own."""
    ask = Delay(latency_s=0.05, jitter_s=0.05)
    roads = [Road(ask, key="a"), Road(ask, key="a"), Road(ask, key="b")]
    for road in roads:
        road.send(200, gap_s=0.001)
        road.wait(1)
    assert roads[0].order == list(range(1, 201))
    assert roads[0].out == roads[1].out != roads[2].out
    ways = [Road(ask), Road(ask)]
    ways[0].send(50, 0.2, (PREROUTING, PEER))
    ways[1].send(50, 0.2, (OUTPUT, PEER))
    assert delays(ways[0], 0.2) != delays(ways[1], 0.2)


def test_each_nth_is_counted_in_each_direction_by_itself() -> None:
    """The n-th, the 2n-th, …: exactly."""
    road = Road(Corrupt(every=3))
    for _ in range(6):
        road.send(1, flow=(PREROUTING, PEER))
        road.send(1, flow=(OUTPUT, PEER))
    assert road.line.stages["0"].counts == {"packets": 4, "seen": 12}
    damaged = [
        number
        for (number, _), data in zip(road.out, road.data, strict=True)
        if any(data[24:]) or data[20:24] != number.to_bytes(4, "big")
    ]
    assert damaged == [5, 6, 11, 12]


@pytest.mark.parametrize("ask", [Corrupt(share=0.1), Duplicate(share=0.1), Reorder(share=0.1, late_s=0.0)])
def test_a_share_of_all_packets_is_chosen(ask: Impairment) -> None:
    """As large a one as was asked for."""
    road = Road(ask)
    road.send(10_000)
    counts = road.line.stages["0"].counts
    chosen = counts.get("late", counts["packets"])
    assert chosen / counts["seen"] == pytest.approx(0.1, abs=0.01)


def test_a_damaged_packet_has_one_bit_flipped_behind_its_header() -> None:
    """Its IP header is whole, so that it comes to the one whose checksum finds it."""
    road = Road(Corrupt(share=1.0))
    road.send(50)
    assert len(road.data) == 50
    for number, data in enumerate(road.data, 1):
        sent = HEADER[:2] + (100).to_bytes(2, "big") + HEADER[4:] + number.to_bytes(4, "big") + bytes(76)
        assert data[:20] == sent[:20]
        assert sum((a ^ b).bit_count() for a, b in zip(data, sent, strict=True)) == 1


def test_a_copy_comes_right_behind_its_original_and_meets_what_is_behind() -> None:
    """Duplicated first, delayed then: both are late."""
    road = Road(Duplicate(every=2), Delay(latency_s=0.05))
    road.send(4)
    road.wait(1)
    assert road.order == [1, 2, 2, 3, 4, 4]
    assert {at for _, at in road.out} == {1000.05}
    assert road.line.waiting == 0


def test_a_late_packet_is_overtaken_and_proof_needs_that() -> None:
    """Those behind it come first; one that nobody overtakes proves nothing."""
    road = Road(Reorder(every=3, late_s=0.02))
    road.send(3, gap_s=0.001)
    assert not road.line.stages["0"].proven
    road.send(2, gap_s=0.001)
    assert road.line.stages["0"].proven
    road.wait(1)
    assert road.order == [1, 2, 4, 5, 3]
    assert road.line.stages["0"].counts == {"packets": 1, "seen": 5, "late": 1}


def test_losses_come_in_bursts_of_the_length_and_in_the_share_that_were_asked_for() -> None:
    """Over 60,000 packets; nothing else is lost."""
    road = Road(Bursts(share=0.1, length=5))
    road.send(60_000)
    lost = set(road.lost)
    runs = sum(number - 1 not in lost for number in lost)
    assert len(lost) / 60_000 == pytest.approx(0.1, abs=0.02)
    assert len(lost) / runs == pytest.approx(5, abs=0.5)
    assert len(lost) + len(road.out) == 60_000
    assert road.line.waiting == 0


def test_a_rate_lets_through_what_it_says_and_drops_what_would_wait_too_long() -> None:
    """Packets follow each other by their size over the bandwidth; either direction by itself."""
    road = Road(Rate(bytes_per_s=1000, queue_s=0.35))
    road.send(6, size=100)
    road.send(1, size=100, flow=(OUTPUT, PEER))
    road.wait(2)
    assert [round(at - 1000, 6) for number, at in sorted(road.out)] == [0.1, 0.2, 0.3, 0.4, 0.1]
    assert road.lost == [5, 6]
    assert road.line.stages["0"].counts == {"packets": 5, "seen": 7, "lost": 2, "bytes": 500}


def test_what_is_held_comes_at_once_and_in_order() -> None:
    """And not before; nothing is lost."""
    road = Road(Hold())
    road.send(100, gap_s=0.01)
    assert road.out == []
    assert road.line.due() is None
    assert road.line.remove("0", road.now)["packets"] == 100
    assert road.out == [(number, road.now) for number in range(1, 101)]


def test_where_packets_are_only_cut_nothing_else_happens_to_them() -> None:
    """The kernel cuts them on their way here."""
    road = Road(Cut())
    road.send(5, gap_s=0.01)
    assert road.order == [1, 2, 3, 4, 5]
    assert delays(road, 0.01) == pytest.approx([0.0] * 5)
    assert not road.line.stages["0"].proven
    assert road.line.remove("0", road.now) == {"packets": 0, "seen": 5}


def test_impairments_stack_and_are_healed_each_by_itself() -> None:
    """What a healed one held goes on to those behind it; then they alone are left."""
    road = Road(Delay(latency_s=10.0), Delay(latency_s=0.05))
    road.send(2, gap_s=0.01)
    road.line.remove("0", road.now)
    assert road.out == []
    road.wait(0.05)
    assert road.out == [(1, pytest.approx(1000.07)), (2, pytest.approx(1000.07))]
    road.send(1)
    road.wait(1)
    assert delays(road, 0.0)[2] == pytest.approx(0.07 + 0.05)


def test_only_the_packets_of_the_two_hosts_are_touched() -> None:
    """Others pass, though they came to the queue."""
    road = Road()
    road.add("far", Hold(), peers=[OTHER])
    road.send(1, flow=(PREROUTING, PEER))
    road.send(1, flow=(PREROUTING, OTHER))
    assert road.order == [1]
    road.line.remove("far", road.now)
    assert road.order == [1, 2]


def test_what_cannot_be_held_passes_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many is no reason to lose a packet."""
    monkeypatch.setattr(lines, "MOST_WAITING", 10)
    road = Road(Hold())
    road.send(15)
    assert road.order == [11, 12, 13, 14, 15]
    assert road.line.overrun == 5
    road.line.remove("0", road.now)
    assert sorted(road.order) == list(range(1, 16))
