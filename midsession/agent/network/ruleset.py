"""The rules of all faults of one host: one nftables table, `midsession`, in this host's own network namespace.

Its base chains are made once, before the run, and stay empty until a fault comes: to register a hook takes the kernel
3 to 15 ms the first time, and to take one away a grace period of RCU. A fault then adds rules only: a chain of
its own for each hook, reached by a jump, and two counters. Whatever changes is one transaction, all or nothing.
"""

from __future__ import annotations

from midsession.agent.network.nft import Nft
from midsession.agent.network.rules import Rules

TABLE = "ip midsession"
_BASES = {
    "input": ("input", 0),
    "output": ("output", 0),
    "prerouting": ("prerouting", -290),
    "pieces": ("prerouting", -450),
}
"""The hooks and priorities of the base chains. `prerouting` stands behind the queue (-300): what comes there has been
on the impaired link, and was cut by it. `pieces` stands before connection tracking puts fragments together (-400)."""
_PIECE = 0x4D50
"""The mark of what has been seen in pieces: it counts no more when it comes along once more, be it whole."""
_WAYS_IN = {
    "input": {"input": ""},
    "output": {"output": ""},
    "prerouting": {
        "pieces": f"ip frag-off & 0x3fff != 0 meta mark set {_PIECE}",
        "prerouting": f"meta mark != {_PIECE}",
    },
}
"""For each chain of a fault, from which base chains it is reached, and by which packets."""


class Ruleset:
    """The table. Made empty; raises Refused whenever nftables refuse."""

    def __init__(self) -> None:
        self._nft = Nft()
        self._faults: dict[str, Rules] = {}
        self._bases = ["input", "output"]
        self._nft.run("\n".join([f"create table {TABLE}", *map(_base, self._bases)]))

    def rehearse(self, rules: Rules) -> None:
        """Go through all that a fault needs, up to the kernel's own check; no packet meets anything new.

        The first time costs a millisecond or two (the library's pages, and Python's, are touched for the first time).
        """
        self._hook_in(rules)
        self._nft.rehearse("\n".join(_added(rules) + _jumps(rules)))
        self._nft.list(f"counters table {TABLE}")

    def put(self, rules: Rules) -> None:
        """Add a fault's rules behind those of the others."""
        self._hook_in(rules)
        self._nft.run("\n".join(_added(rules) + _jumps(rules)))
        self._faults[rules.fault] = rules

    def count(self, rules: Rules) -> dict[str, int]:
        """`packets` and `bytes` that were hit, and `seen`: those that fitted."""
        listed = self._nft.list(f"counters table {TABLE}")
        counters = {c["name"]: c for item in listed if (c := item.get("counter"))}
        hit = counters[rules.hit]
        return {"packets": hit["packets"], "bytes": hit["bytes"], "seen": counters[rules.seen]["packets"]}

    def take(self, rules: Rules) -> None:
        """Take a fault's rules out."""
        others = [other for fault, other in self._faults.items() if fault != rules.fault]
        emptied = [f"flush chain {TABLE} {base}" for base in self._bases]
        jumps = [line for other in others for line in _jumps(other)]
        self._nft.run("\n".join(emptied + jumps + _removed(rules)))
        self._faults.pop(rules.fault, None)

    def remains_of(self, fault: str) -> list[str]:
        """The chains, sets and counters that the kernel has for a fault: `chain input_cut`."""
        listed = self._nft.list(f"table {TABLE}")
        named = [(kind, item[kind]["name"]) for item in listed for kind in ("chain", "set", "counter") if kind in item]
        return [f"{kind} {name}" for kind, name in named if name.partition("_")[2] == fault]

    def remove(self) -> None:
        """Take the table away."""
        self._nft.run(f"delete table {TABLE}")

    def _hook_in(self, rules: Rules) -> None:
        missing = [base for hook in rules.chains for base in _WAYS_IN[hook] if base not in self._bases]
        if missing:
            self._nft.run("\n".join(map(_base, missing)))
            self._bases += missing


def _base(name: str) -> str:
    hook, priority = _BASES[name]
    return f"add chain {TABLE} {name} {{ type filter hook {hook} priority {priority}; policy accept; }}"


def _added(rules: Rules) -> list[str]:
    lines = [f"add counter {TABLE} {counter}" for counter in (rules.seen, rules.hit)]
    lines += [f"add set {TABLE} {name} {spec}" for name, spec in rules.sets.items()]
    for hook, chain in rules.chains.items():
        lines.append(f"add chain {TABLE} {hook}_{rules.fault}")
        lines += [f"add rule {TABLE} {hook}_{rules.fault} {rule}" for rule in chain]
    return lines


def _jumps(rules: Rules) -> list[str]:
    return [
        f"add rule {TABLE} {base} {fits} jump {hook}_{rules.fault}"
        for hook in rules.chains
        for base, fits in _WAYS_IN[hook].items()
    ]


def _removed(rules: Rules) -> list[str]:
    lines = [f"delete chain {TABLE} {hook}_{rules.fault}" for hook in rules.chains]
    lines += [f"delete set {TABLE} {name}" for name in rules.sets]
    return lines + [f"delete counter {TABLE} {counter}" for counter in (rules.seen, rules.hit)]
