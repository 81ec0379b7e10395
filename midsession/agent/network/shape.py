"""netem and tbf by tc(8): a link's delay, rate and bursts of loss where the kernel has no queue of packets for us.

Each impairment has an interface of its own in each direction (ifb), to which packets are redirected on their way in or
out, and on which the kernel impairs them; so only those of the two hosts are touched, and what is lost there is not
told to the sender. What netem has no counter for cannot be proven, and is refused: it needs the queue. So does jitter:
netem draws a delay for each packet, so that either they overtake each other, or (with `rate`) each waits for the one
before it, and dense traffic has but the longest of the delays. Differences: two impairments do not stack for the same
packets, draws are the kernel's own, and when one is healed, what is held arrives in its time, behind what is sent
meanwhile (netem cannot be emptied in order).

Sources: tc-netem(8), tc-tbf(8), net/sched/sch_netem.c (netem_enqueue).
"""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from midsession.agent.answer import Refused
from midsession.agent.hostrun import HostRun
from midsession.agent.loop import Loop, Timer
from midsession.agent.network import impairment, tool
from midsession.agent.network.addresses import interface_of
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Impair
from midsession.agent.say import say

_LOOK_S, _LATEST_LOOK_S = 0.05, 0.5
_LOOKS_PER_WAIT = 8
_AFTER_REFUSAL_S = 1.0
_MOST_PACKETS = 1_000_000
_LEAST_BURST_BYTES = 3028
"""Two packets of an Ethernet."""
_BURSTS_PER_S = 100
_HOOKS = {"to": ("ingress", "dst", "src"), "from": ("egress", "src", "dst")}


@dataclass(frozen=True, slots=True)
class _Shaped:
    """An impairment in force: on which link, its interface for each direction, the filters that lead there, how it is
    proven."""

    ask: Impair
    link: str
    devices: dict[str, str]
    preference: int
    proof: Callable[[dict[str, int]], bool]
    since_ns: int


class Shaping:
    """The impairments of one host's link, made by the kernel. Raises Refused where it cannot."""

    name = "netem"

    def __init__(self, loop: Loop, host: HostRun) -> None:
        self._loop, self._host = loop, host
        self._shaped: dict[str, _Shaped] = {}
        self._ended: dict[str, _Shaped] = {}
        self._looks: dict[str, Timer] = {}
        self._numbers = itertools.count(1)
        self._hooked: set[str] = set()
        self._unhooked: set[str] = set()
        self._draining: set[str] = set()
        self._drained: Timer | None = None
        _try_netem()

    def put(self, ask: Impair, _key: str) -> dict[str, Any]:
        """Redirect the packets to interfaces that impair them. Returns what `injected` should say."""
        words, proof = qdisc(ask.how)
        self._refuse_second(ask)
        link, number = interface_of(ask.own), next(self._numbers)
        directions = ["to", "from"] if ask.direction == "both" else [ask.direction]
        shaped = _Shaped(ask, link, {d: f"ms{number}{d}" for d in directions}, number, proof, now_ns())
        _ip(*(line for d in shaped.devices.values() for line in (f"link add {d} type ifb", f"link set {d} up")))
        _tc(
            *([f"qdisc add dev {link} clsact"] if link not in self._hooked else []),
            *(f"qdisc add dev {device} root {words}" for device in shaped.devices.values()),
            *(line for d, device in shaped.devices.items() for line in _filters(ask, link, d, device, number)),
        )
        self._hooked.add(link)
        self._shaped[ask.fault] = shaped
        self._looks[ask.fault] = self._loop.later(_LOOK_S, partial(self._look, ask.fault))
        return {"qdisc": words}

    def take(self, fault: str) -> dict[str, Any]:
        """The cure: no more packets go there; what is held there comes in its time. Returns the last counts."""
        if fault in self._shaped:  # else it is asked for once more
            self._ended[fault] = self._shaped.pop(fault)
            self._looks.pop(fault).cancel()
        shaped = self._ended[fault]
        if fault not in self._unhooked:
            hooks = [_HOOKS[direction][0] for direction in shaped.devices]
            _tc(*(f"filter del dev {shaped.link} {hook} pref {shaped.preference}" for hook in hooks))
            self._unhooked.add(fault)
        counts = _counts(shaped.devices.values())
        self._draining.update(shaped.devices.values())
        self._drain()
        return _told(counts)

    def remains_of(self, fault: str) -> str:
        """Asks the kernel for filters that lead there: what they do not lead there passes."""
        shaped = self._ended[fault]
        hooks = [_HOOKS[direction][0] for direction in shaped.devices]
        shown = [tool.run(["tc", "-j", "filter", "show", "dev", shaped.link, hook]) for hook in hooks]
        found = [item for listed in shown for item in json.loads(listed)]
        return "packets are still led through it" if shaped.preference in [f.get("pref") for f in found] else ""

    def close(self) -> None:
        """Take away what is left; what it holds is lost."""
        if self._drained is not None:
            self._drained.cancel()
        _ip(*(f"link del {device}" for device in sorted(self._draining)))
        _tc(*(f"qdisc del dev {link} clsact" for link in sorted(self._hooked)))

    def _refuse_second(self, ask: Impair) -> None:
        for fault, other in self._shaped.items():
            ways = {ask.direction, other.ask.direction}
            both = len(ways) == 1 or "both" in ways
            peers, others = ask.peers, other.ask.peers
            if both and (peers is None or others is None or set(peers) & set(others)):
                raise Refused(f"netem does one thing at a time to a link, and {fault} is in force; it needs a queue")

    def _look(self, fault: str) -> None:
        shaped = self._shaped[fault]
        try:
            counts = _counts(shaped.devices.values())
        except Refused as refused:  # for a moment only; or else its cure is refused too
            say(f"cannot see what {fault} does: {refused}")
            soon_s = _AFTER_REFUSAL_S
        else:
            if shaped.proof(counts):
                self._host.witnessed(fault, "netem", **_told(counts))
                return
            soon_s = min(max((now_ns() - shaped.since_ns) / 1e9 / _LOOKS_PER_WAIT, _LOOK_S), _LATEST_LOOK_S)
        self._looks[fault] = self._loop.later(soon_s, partial(self._look, fault))

    def _drain(self) -> None:
        """Take interfaces away once they are empty."""
        soon_s = _LOOK_S
        try:
            empty = [device for device in sorted(self._draining) if not _counts([device])["backlog"]]
            _ip(*(f"link del {device}" for device in empty))
            self._draining.difference_update(empty)
        except Refused as refused:  # for a moment only; or else `close` is refused too
            say(f"cannot take away what is empty: {refused}")
            soon_s = _AFTER_REFUSAL_S
        self._drained = self._loop.later(soon_s, self._drain) if self._draining else None


def qdisc(ask: impairment.Impairment) -> tuple[str, Callable[[dict[str, int]], bool]]:
    """What tc is told, and which counts prove it."""
    match ask:
        case impairment.Delay(latency_s=latency_s, jitter_s=0):
            return f"netem limit {_MOST_PACKETS} delay {_microseconds(latency_s)}", _anything_passed
        case impairment.Bursts(share=share, length=length):
            leave = 1 / length
            enter = leave * share / (1 - share)
            return f"netem limit {_MOST_PACKETS} loss gemodel {enter:.6%} {leave:.6%}", _anything_dropped
        case impairment.Rate(bytes_per_s=bytes_per_s, queue_s=queue_s):
            burst = max(_LEAST_BURST_BYTES, bytes_per_s // _BURSTS_PER_S)
            return f"tbf rate {bytes_per_s}bps burst {burst} latency {_microseconds(queue_s)}", _anything_slowed
        case _:
            raise Refused("this needs a queue of packets, and this kernel has none (or no tool to send packets to it)")


def _anything_passed(counts: dict[str, int]) -> bool:
    return counts["packets"] > 0


def _anything_dropped(counts: dict[str, int]) -> bool:
    return counts["drops"] > 0


def _anything_slowed(counts: dict[str, int]) -> bool:
    return counts["overlimits"] + counts["drops"] > 0


def _filters(ask: Impair, link: str, direction: str, device: str, preference: int) -> Iterable[str]:
    hook, own, peer = _HOOKS[direction]
    for address in [None] if ask.peers is None else ask.peers:
        narrow = "" if address is None else f" match ip {peer} {_address(address)}/32"
        fits = f"protocol ip pref {preference} u32 match ip {own} {_address(ask.own)}/32{narrow}"
        yield f"filter add dev {link} {hook} {fits} {_leads_to(device)}"


def _leads_to(device: str) -> str:
    return f"action mirred egress redirect dev {device}"


def _counts(devices: Iterable[str]) -> dict[str, int]:
    """The sums of the devices' counters: `packets` that came through, `drops`, `overlimits`, `backlog`."""
    total = dict.fromkeys(("packets", "drops", "overlimits", "backlog"), 0)
    shown = json.loads(tool.run(["tc", "-s", "-j", "qdisc", "show"]))
    roots = {root["dev"]: root for root in shown if root.get("root")}
    for device in devices:
        if device not in roots:
            raise Refused(f"{device}, to which packets are led, is gone")
        for name in total:
            total[name] += roots[device].get(name, 0)
    return total


def _told(counts: dict[str, int]) -> dict[str, int]:
    return {"packets": counts["packets"], "lost": counts["drops"]}


def _try_netem() -> None:
    """Raises Refused where the kernel has no netem, or there is no tc. What else it may load for us is loaded now."""
    device = "msprobe"
    _ip(f"link add {device} type ifb")
    try:
        _tc(f"qdisc add dev {device} root netem delay 1ms")
        with suppress(Refused):  # what is missing is told when it is needed
            _tc(
                f"qdisc replace dev {device} root {qdisc(impairment.Rate(bytes_per_s=1000, queue_s=1.0))[0]}",
                f"qdisc add dev {device} clsact",
                f"filter add dev {device} egress protocol ip u32 match u32 0 0 {_leads_to(device)}",
            )
    finally:
        _ip(f"link del {device}")


def _tc(*commands: str) -> None:
    _batch("tc", commands)


def _ip(*commands: str) -> None:
    _batch("ip", commands)


def _batch(name: str, commands: Iterable[str]) -> None:
    if text := "\n".join(commands):
        tool.run([name, "-batch", "-"], text)


def _microseconds(seconds: float) -> str:
    return f"{round(seconds * 1e6)}us"


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))
