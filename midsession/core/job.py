"""What a fleet is told: the clients it plays, and the short lines on its standard input while it plays them."""

from __future__ import annotations

import msgspec

from midsession.core.plan import GroupPlan

SPARE_DESCRIPTORS = 64
"""What a fleet may have open besides one descriptor for each client: its log, the loop's own, resolvers."""
READY_LINE = "fleet ready"
"""A fleet prints this line on its standard output once it has read its job and hears its standard input."""


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fleet's share of a plan: its groups, each with only the clients that this fleet plays.

    `addresses` maps service names to the address they have on the network under test; a name that is not in it is
    resolved as usual. Sessions begin at `Go.t_ns` plus their `arrive_s`.
    """

    run: str
    groups: list[GroupPlan]
    addresses: dict[str, str] = {}


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="order"):
    """Base of a line on a fleet's standard input."""


class Go(_Order, frozen=True, tag="go"):
    """The run's start: CLOCK_MONOTONIC in nanoseconds."""

    t_ns: int


class Signal(_Order, frozen=True, tag="signal"):
    """Release what waits for `name` (a `wait`, a `repeat until`), now and from now on."""

    name: str


class Release(_Order, frozen=True, tag="release"):
    """Every client of `group` has come to the barrier `name`: let them on."""

    group: str
    name: str


class Begin(_Order, frozen=True, tag="begin"):
    """Begin the sessions of a group that was waiting for a `run` action; arrivals count from `t_ns`."""

    group: str
    t_ns: int


Order = Go | Signal | Release | Begin

decode_job = msgspec.json.Decoder(Job).decode
decode_order = msgspec.json.Decoder(Order).decode
