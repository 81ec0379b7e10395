"""The verbs filter and unfilter: packet rules in this host's own network namespace, and their counters.

A fault's rules are one nftables table, put in and taken out by one transaction. Two chains, `input` and `output`, drop
before the program's TCP sees a packet, or after it has sent one. A packet that one table drops is lost whatever the
others say, so faults add up.

`live` connections are listed by the kernel at the moment of the fault, address by address, rather than left to
connection tracking: that begins to track when its first rule is loaded, and takes an old connection for a new one.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from midsession.agent import sockets
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop, Timer
from midsession.agent.nft import Nft, NftError
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Filter, Unfilter

if TYPE_CHECKING:
    from midsession.agent.agent import Agent

_FIRST_LOOK_S = 0.001
_LAST_LOOK_S = 0.032
"""How often counters are read: sooner at first, since most faults take effect at once."""
_SHARE_STEPS = 1_000_000
_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")

_FLAGS = {"all": "", "request": "tcp flags & (syn | ack) == syn", "opening": "tcp flags & syn == syn"}


def put(agent: Agent, ask: Filter, _answer: Answer) -> dict[str, Any]:
    """Put the rules in. Refused when this step has rules here already, or for what cannot be a rule."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    try:
        table = _Table(ask)
        began_ns = now_ns()
        table.put()
    except NftError as error:
        raise Refused(f"nftables: {error}") from error
    host.injected(ask.fault, "filter", began_ns, now_ns())
    meter = _Meter(agent.loop, host, ask.fault, table)
    host.broken(ask.fault, meter.end)
    return {}


def take(agent: Agent, ask: Unfilter, _answer: Answer) -> dict[str, Any]:
    """Take the rules out; nothing to do where there are none."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Filter: put, Unfilter: take}


class _Table:
    """The table of one fault. Raises NftError, and Refused for a request that says what no rule can say."""

    def __init__(self, ask: Filter) -> None:
        if _NAME.fullmatch(ask.fault) is None:
            raise Refused(f"a step cannot be called {ask.fault!r}")
        if ask.act == "reset" and (ask.direction, ask.which) not in {("to", "request"), ("to", "opening")}:
            raise Refused("only what asks for a connection can be answered with RST")
        self._name = f"midsession_{ask.fault}"
        self._ask, self._nft = ask, Nft()

    def put(self) -> None:
        """All rules at once."""
        ask = self._ask
        chains = [_chain("input", "daddr", "saddr", ask)] if ask.direction in ("both", "to") else []
        chains += [_chain("output", "saddr", "daddr", ask)] if ask.direction in ("both", "from") else []
        parts = ["counter seen { }", "counter hit { }", *([_live(ask)] if ask.which == "live" else []), *chains]
        self._nft.run(f"create table ip {self._name}\ntable ip {self._name} {{\n" + "\n".join(parts) + "\n}")

    def count(self) -> dict[str, int]:
        """`packets` and `bytes` that met the rule, and `seen`: those that it was asked about."""
        listed = self._nft.list(f"counters table ip {self._name}")
        counters = {c["name"]: c for item in listed if (c := item.get("counter"))}
        hit = counters["hit"]
        return {"packets": hit["packets"], "bytes": hit["bytes"], "seen": counters["seen"]["packets"]}

    def delete(self) -> None:
        """Take it out, and see that the kernel has it no more."""
        self._nft.run(f"delete table ip {self._name}")
        left = [t["name"] for item in self._nft.list("tables") if (t := item.get("table"))]
        if self._name in left:
            raise Refused(f"the table {self._name} is still there")


class _Meter:
    """Reads a table's counters until a packet has met its rule, and writes `witnessed` then."""

    def __init__(self, loop: Loop, host: HostRun, fault: str, table: _Table) -> None:
        self._loop, self._host, self._fault, self._table = loop, host, fault, table
        self._proven = False
        self._wait_s = _FIRST_LOOK_S
        self._timer: Timer = loop.later(self._wait_s, self._look)

    def end(self) -> dict[str, Any]:
        """The cure: count once more, then take the table out; the last counts."""
        self._timer.cancel()
        try:
            counts = self._count()
            self._table.delete()
        except NftError as error:
            raise Refused(f"nftables: {error}") from error
        return counts

    def _look(self) -> None:
        self._wait_s = min(self._wait_s * 1.5, _LAST_LOOK_S)
        try:
            self._count()
        except NftError:
            return  # the table is gone: its cure will say so
        if not self._proven:
            self._timer = self._loop.later(self._wait_s, self._look)

    def _count(self) -> dict[str, int]:
        counts = self._table.count()
        if counts["packets"] and not self._proven:
            self._proven = True
            self._host.witnessed(self._fault, "counter", packets=counts["packets"], bytes=counts["bytes"])
        return counts


# --- the rules -----------------------------------------------------------------------------------------------------


def _chain(hook: str, own: str, peer: str, ask: Filter) -> str:
    parts = [f"ip {own} {_address(ask.own)}"]
    if ask.peers is not None:
        parts.append(f"ip {peer} {{ {', '.join(map(_address, ask.peers))} }}")
    if ask.which == "live":
        parts.append(
            "ip saddr . tcp sport . tcp dport @live" if hook == "input" else "ip daddr . tcp dport . tcp sport @live"
        )
    else:
        parts.append(_FLAGS[ask.which])
    parts.append(f"ip length > {_whole(ask.over_bytes)}" if ask.over_bytes is not None else "")
    parts.append("counter name seen")
    parts.append(_sample(ask))
    parts.append("counter name hit")
    parts.append("reject with tcp reset" if ask.act == "reset" else "drop")
    return f"chain {hook} {{ type filter hook {hook} priority 0; policy accept; {' '.join(filter(None, parts))}; }}"


def _sample(ask: Filter) -> str:
    if ask.every is not None:
        every = _whole(ask.every)
        return f"numgen inc mod {every} {every - 1}" if every > 1 else ""
    if ask.share is not None and ask.share < 1:
        return f"numgen random mod {_SHARE_STEPS} < {_whole(round(ask.share * _SHARE_STEPS))}"
    return ""


def _live(ask: Filter) -> str:
    """The set of connections that are open now: peer's address, peer's port, own port."""
    ends = [f"{c.peer} . {c.peer_port} . {c.own_port}" for c in sockets.open_now() if c.own == ask.own]
    elements = f"elements = {{ {', '.join(sorted(set(ends)))} }}" if ends else ""
    return f"set live {{ type ipv4_addr . inet_service . inet_service; {elements} }}"


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _whole(number: int) -> int:
    if number < 1:
        raise Refused(f"{number} is not a positive number")
    return number
