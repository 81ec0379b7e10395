"""What a link can be made to do to its packets, as values: part of the protocol, and what each mechanism carries out.

Durations are in seconds. `share` and `every` choose packets: each one with that probability, or exactly each n-th,
counted from 1 in either direction by itself. Draws come from the run's seed, see `midsession.agent.network.stages`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Distribution = Literal["uniform", "normal", "pareto"]
Direction = Literal["both", "to", "from"]


class _Impairment(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"
):
    """Base of every impairment."""


class Delay(_Impairment, frozen=True, kw_only=True, tag="delay"):
    """Each packet waits `latency_s`, give or take `jitter_s`; none overtakes another of the same two hosts.

    `uniform`: anything between latency - jitter and latency + jitter. `normal` and `pareto`: mean latency, standard
    deviation jitter, and never less than nothing. The delay changes with time, smoothly, and is one for all packets
    that come at the same time: those that are six times the jitter apart have delays that are drawn each for itself.
    """

    latency_s: float
    jitter_s: float = 0.0
    distribution: Distribution = "uniform"


class Reorder(_Impairment, frozen=True, kw_only=True, tag="reorder"):
    """Chosen packets wait `late_s`, so that those behind them overtake."""

    late_s: float
    share: float | None = None
    every: int | None = None


class Duplicate(_Impairment, frozen=True, kw_only=True, tag="duplicate"):
    """Chosen packets come twice."""

    share: float | None = None
    every: int | None = None


class Corrupt(_Impairment, frozen=True, kw_only=True, tag="corrupt"):
    """One bit behind the IP header of chosen packets is flipped; no checksum is mended."""

    share: float | None = None
    every: int | None = None


class Bursts(_Impairment, frozen=True, kw_only=True, tag="bursts"):
    """Packets are lost in runs of `length` on the average, and `share` of all of them: a Gilbert model."""

    share: float
    length: float


class Rate(_Impairment, frozen=True, kw_only=True, tag="rate"):
    """Either direction carries `bytes_per_s` (IP packets, headers included).

    A packet that would wait longer than `queue_s` for the link to be free is dropped.
    """

    bytes_per_s: int
    queue_s: float


class Hold(_Impairment, frozen=True, kw_only=True, tag="hold"):
    """Every packet waits for the end of it; then all come at once, in their order."""


class Cut(_Impairment, frozen=True, kw_only=True, tag="cut"):
    """Nothing, but that packets which the sender left in one piece are cut to the MTU, as on a wire."""


Impairment = Delay | Reorder | Duplicate | Corrupt | Bursts | Rate | Hold | Cut
"""Any of them; the tag says which."""
