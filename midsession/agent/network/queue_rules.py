"""The rules that send a host's packets to its queue: by nft where this kernel's has a `queue` statement, else by
iptables, which is a way to nftables that knows more, or else the way to a kernel's older tables.

Packets of a link that has several impairments go to the queue once. The rules stand first (priority `raw`, before
connection tracking and before every filter): what a filter drops has been on the link before. Without a process that
reads the queue, packets pass (`bypass`). All rules are written anew at each change, in one transaction.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from midsession.agent.answer import Refused
from midsession.agent.network import iptables
from midsession.agent.network.impairment import Direction
from midsession.agent.network.nft import Nft
from midsession.agent.network.queue import FROM, MARK, TO

_TABLE = "midsession_queue"
_NUMBERS = {"to": TO, "from": FROM}
_CHAINS = {"to": "midsession-to", "from": "midsession-from"}
_EMPTY_CHAINS = [f":{chain} - [0:0]" for chain in _CHAINS.values()]
"""As iptables-restore has it: made where they are not there, else emptied."""
_HOOKS = {"to": "PREROUTING", "from": "OUTPUT"}


class Way(NamedTuple):
    """Packets between this host's address and its peers (None: everybody), in one direction or both."""

    own: str
    peers: tuple[str, ...] | None
    direction: Direction


_TRIAL = Way("192.0.2.1", None, "both")
"""Of an address that nobody has (RFC 5737)."""


class QueueRules:
    """What stands now, by fault. Hooked in at once, without a rule. Raises Refused where no tool can do it."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}
        self._tool = _Nft() if _nft_can() else _first_iptables()

    @property
    def by(self) -> str:
        """`nft`, `iptables` or `iptables-legacy`."""
        return self._tool.name

    def put(self, fault: str, way: Way) -> None:
        """Send these packets to the queue too."""
        self._tool.write([*self._ways.values(), way])
        self._ways[fault] = way

    def take(self, fault: str) -> None:
        """Send no packets to the queue for that fault any more."""
        self._tool.write(self._others(fault))
        self._ways.pop(fault, None)

    def remains_of(self, fault: str) -> str:
        """What the kernel has besides the rules of the other faults, in words; empty: nothing."""
        wanted = sum(1 for way in self._others(fault) for _ in self._tool.rules_of(way))
        found = self._tool.found()
        return "" if found == wanted else f"{found} rules send packets to the queue, where {wanted} should"

    def remove(self) -> None:
        """Take away everything that was made here."""
        self._tool.remove()

    def _others(self, fault: str) -> list[Way]:
        return [way for name, way in self._ways.items() if name != fault]


def _nft_can() -> bool:
    """Whether this kernel's nftables know `queue`: tried in a table that is never there, since one transaction makes
    and removes it."""
    name = f"{_TABLE}_probe"
    rule = f"add rule ip {name} c queue num {TO} bypass"
    try:
        Nft().run(f"add table ip {name}\nadd chain ip {name} c\n{rule}\ndelete table ip {name}")
    except Refused:
        return False
    return True


class _Nft:
    name = "nft"

    def __init__(self) -> None:
        self._nft = Nft()
        self.write([])

    def write(self, ways: Sequence[Way]) -> None:
        rules = [rule for way in ways for rule in self.rules_of(way)]
        chains = "\n".join(_nft_chain(direction, rules) for direction in _HOOKS)
        self._nft.run(f"add table ip {_TABLE}\ndelete table ip {_TABLE}\ntable ip {_TABLE} {{\n{chains}\n}}")

    def rules_of(self, way: Way) -> Iterable[tuple[str, str]]:
        """Each with its direction."""
        for direction in _directions(way):
            own, peer, outside = ("daddr", "saddr", "iifname") if direction == "to" else ("saddr", "daddr", "oifname")
            peers = "" if way.peers is None else f"ip {peer} {{ {', '.join(map(_address, way.peers))} }}"
            fits = f'{outside} != "lo" ip {own} {_address(way.own)} {peers} meta mark != {MARK}'
            yield direction, f"{fits} queue num {_NUMBERS[direction]} bypass"

    def found(self) -> int:
        """How many rules the kernel has."""
        return sum("rule" in item for item in self._nft.list(f"table ip {_TABLE}"))

    def remove(self) -> None:
        self._nft.run(f"delete table ip {_TABLE}")


def _nft_chain(direction: str, rules: Iterable[tuple[str, str]]) -> str:
    hook = _HOOKS[direction].lower()
    lines = [f"type filter hook {hook} priority -300; policy accept;", *(rule for of, rule in rules if of == direction)]
    return f"chain {hook} {{\n" + "\n".join(lines) + "\n}"


def _first_iptables() -> _Iptables:
    """By the first tools that this kernel takes a rule from."""
    refusals = []
    for tools in iptables.available():
        try:
            return _Iptables(tools)
        except Refused as refused:
            refusals.append(str(refused))
    none = "this kernel's nftables have no `queue` statement, and there is no iptables on this host"
    raise Refused("; ".join(refusals) or none)


class _Iptables:
    """Chains of our own in the table `raw`; whatever else stands there is left alone."""

    def __init__(self, tools: iptables.Tools) -> None:
        self._tools = tools
        jumps = [f"-A {_HOOKS[direction]} -j {chain}" for direction, chain in _CHAINS.items()]
        # A kernel that takes chains may have no word for a queue. All at once: what it refuses leaves nothing.
        tools.write([*_EMPTY_CHAINS, *self.rules_of(_TRIAL), *jumps])
        self.write([])

    @property
    def name(self) -> str:
        return self._tools.name

    def write(self, ways: Sequence[Way]) -> None:
        self._tools.write([*_EMPTY_CHAINS, *(rule for way in ways for rule in self.rules_of(way))])

    def rules_of(self, way: Way) -> Iterable[str]:
        for direction in _directions(way):
            outside, own, peer = ("-i", "-d", "-s") if direction == "to" else ("-o", "-s", "-d")
            for address in [None] if way.peers is None else way.peers:
                narrow = "" if address is None else f" {peer} {_address(address)}"
                fits = f"! {outside} lo {own} {_address(way.own)}{narrow} -m mark ! --mark {MARK}"
                yield f"-A {_CHAINS[direction]} {fits} -j NFQUEUE --queue-num {_NUMBERS[direction]} --queue-bypass"

    def found(self) -> int:
        """How many rules the kernel has in our chains."""
        ours = tuple(f"-A {chain} " for chain in _CHAINS.values())
        return sum(line.startswith(ours) for line in self._tools.list())

    def remove(self) -> None:
        jumps = [f"-D {_HOOKS[direction]} -j {chain}" for direction, chain in _CHAINS.items()]
        self._tools.write([*jumps, *(f"-{act} {chain}" for chain in _CHAINS.values() for act in "FX")])


def _directions(way: Way) -> Iterable[str]:
    return ("to", "from") if way.direction == "both" else (way.direction,)


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))
