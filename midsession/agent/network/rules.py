"""What a fault says about packets, as nftables' text. Pure: it asks no kernel and runs nothing.

Two chains hold a fault's rules, one for packets `to` this host and one for those `from` it. They `return` what they do
not hit, so that the faults after them are asked too: a packet that one fault drops is lost whatever the others say.

What a host sends to itself, also to its address on the network, passes by way of `lo` and is never hit or counted: no
path lies between the two ends that could be broken, and it would be a witness of nothing.

Where single packets count, by number or by length, the chain for those `to` this host is another one, which fragments
meet one by one. Whether what comes there is a packet as it was on the wire, and not many that the sender left in one
piece (GSO), is not for a rule to say, see `midsession.agent.network.filter`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from midsession.agent.answer import Refused
from midsession.agent.protocol import Filter

_SHARE_STEPS = 1_000_000
_LONGEST_CYCLE = 2**32 - 1
_MOST_CONNECTIONS = 65535
_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")
_FLAGS = {"all": "", "live": "", "request": "tcp flags & (syn | ack) == syn", "opening": "tcp flags & syn == syn"}
_CONNECTIONS = "type ipv4_addr . inet_service . inet_service;"

Connection = tuple[str, int, int]
"""An open TCP connection as a host's rules know it: the peer's address, the peer's port, our own port."""


class Way(NamedTuple):
    """How a packet that goes one way names the two ends: nftables' words for its own and its peer's side.

    `interface` is where it comes in or goes out: `lo` for what the host sends to itself, whatever addresses it bears.
    """

    hook: str
    interface: str
    own: str
    own_port: str
    peer: str
    peer_port: str

    @property
    def connection(self) -> str:
        """The key of the packet's connection in a set."""
        return f"ip {self.peer} . tcp {self.peer_port} . tcp {self.own_port}"


TO = Way("input", "iifname", "daddr", "dport", "saddr", "sport")
TO_AS_SENT = TO._replace(hook="prerouting")
FROM = Way("output", "oifname", "saddr", "sport", "daddr", "dport")
_WAYS = {"both": (TO, FROM), "to": (TO,), "from": (FROM,)}


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one fault: for each hook its rules in order, and the sets of connections that they name."""

    fault: str
    chains: Mapping[str, list[str]]
    sets: Mapping[str, str] = field(default_factory=dict)

    @property
    def hit(self) -> str:
        """The counter of the packets that were dropped or answered."""
        return f"hit_{self.fault}"

    @property
    def seen(self) -> str:
        """The counter of the packets that fitted, whether or not they were hit."""
        return f"seen_{self.fault}"


def rules(ask: Filter, there: Iterable[Connection]) -> Rules:
    """The rules of a request. The connections that are `there` are asked for only where they matter.

    Raises Refused, ValueError.
    """
    if _NAME.fullmatch(ask.fault) is None:
        raise Refused(f"a step cannot be called {ask.fault!r}")
    if ask.act == "reset" and ask.idle_s is None and (ask.direction, ask.which) not in _CAN_BE_REFUSED:
        raise Refused("only what asks for a connection, or is of one that was forgotten, can be answered with RST")
    if counts_packets(ask) and (ask.direction, ask.act, ask.idle_s) != ("to", "drop", None):
        raise Refused("single packets can be chosen only where they arrive, and dropped there")
    sets = {}
    if ask.connections is not None or ask.which == "live":
        sets[f"live_{ask.fault}"] = _set("", there if ask.connections is None else ask.connections)
    if ask.idle_s is not None:
        sets[f"known_{ask.fault}"] = _set(_expiry(ask.idle_s), there)
    ways = (TO_AS_SENT,) if counts_packets(ask) else _WAYS[ask.direction]
    return Rules(ask.fault, {way.hook: _chain(way, ask) for way in ways}, sets)


def counts_packets(ask: Filter) -> bool:
    """Whether it is about single packets, by their number or their length."""
    return bool(ask.over_bytes is not None or _sample(ask))


_CAN_BE_REFUSED = {("to", "request"), ("to", "opening")}


def _chain(way: Way, ask: Filter) -> list[str]:
    fits = " ".join(filter(None, [_ends(way, ask), _which(way, ask), _size(ask)]))
    end = "reject with tcp reset" if ask.act == "reset" else "drop"
    hit = " ".join(filter(None, [_sample(ask), f"counter name hit_{ask.fault}", end]))
    if ask.idle_s is None:
        return [f"{fits} counter name seen_{ask.fault} {hit}"]
    keep = f"update @known_{ask.fault} {{ {way.connection} }} return"
    answers = [f"{fits} tcp flags & rst == rst return"] if ask.act == "reset" else []  # our own pass here on their way
    return [
        *answers,
        f"{fits} tcp flags & (syn | ack) == syn {keep}",
        f"{fits} {way.connection} @known_{ask.fault} {keep}",
        f"{fits} counter name seen_{ask.fault} {hit}",
    ]


def _ends(way: Way, ask: Filter) -> str:
    parts = [f'{way.interface} != "lo" ip {way.own} {_address(ask.own)}']
    if ask.peers is not None:
        parts.append(f"ip {way.peer} {_addresses(ask.peers)}")
    if ask.spared:
        parts.append(f"ip {way.peer} != {_addresses(ask.spared)}")
    ports = [(way.own_port, ask.own_port), (way.peer_port, ask.peer_port)]
    if protocol := ask.protocol or _implied(ask):
        parts.append(f"meta l4proto {protocol}")
    elif any(number is not None for _, number in ports):
        parts.append("meta l4proto { tcp, udp }")
    return " ".join(parts + [f"th {end} {_port(number)}" for end, number in ports if number is not None])


def _implied(ask: Filter) -> str | None:
    """The protocol of what it is about, where that has one: nftables refuses `th` for both beside `tcp` for one."""
    return "tcp" if ask.which != "all" or ask.connections is not None or ask.idle_s is not None else None


def _which(way: Way, ask: Filter) -> str:
    named = ask.connections is not None or ask.which == "live"
    return " ".join(filter(None, [f"{way.connection} @live_{ask.fault}" if named else "", _FLAGS[ask.which]]))


def _size(ask: Filter) -> str:
    return f"ip length > {_whole(ask.over_bytes)}" if ask.over_bytes is not None else ""


def _sample(ask: Filter) -> str:
    if ask.every is not None:
        every = _whole(ask.every)
        return f"numgen inc mod {every} {every - 1}" if every > 1 else ""
    if ask.packets is not None:
        return (
            f"numgen inc mod {_LONGEST_CYCLE} {{ {', '.join(str(_whole(n) - 1) for n in sorted(set(ask.packets)))} }}"
        )
    if ask.share is not None and ask.share < 1:
        return f"numgen random mod {_SHARE_STEPS} < {_whole(round(ask.share * _SHARE_STEPS))}"
    return ""


def _set(more: str, connections: Iterable[Connection]) -> str:
    ends = sorted(
        {f"{_address(peer)} . {_port(peer_port)} . {_port(own_port)}" for peer, peer_port, own_port in connections}
    )
    elements = f"elements = {{ {', '.join(ends)} }};" if ends else ""
    return f"{{ {_CONNECTIONS} {more} {elements} }}"


def _expiry(idle_s: float) -> str:
    return f"flags dynamic, timeout; timeout {_whole(round(idle_s * 1000))}ms; size {_MOST_CONNECTIONS};"


def _addresses(texts: Iterable[str]) -> str:
    return f"{{ {', '.join(map(_address, texts))} }}"


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _port(number: int) -> int:
    if not 0 < number < 65536:
        raise Refused(f"{number} is not a port")
    return number


def _whole(number: int) -> int:
    if number < 1:
        raise Refused(f"{number} is not a positive number")
    return number
