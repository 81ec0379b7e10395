"""The rules that send a host's packets to its queue: by nft where this kernel's has a `queue` statement, else by
iptables.

Packets of a link that has several impairments go to the queue once. The rules stand first (priority `raw`, before
connection tracking and before every filter): what a filter drops has been on the link before. Without a process that
reads the queue, packets pass (`bypass`). All rules are written anew at each change, in one transaction.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from midsession.agent import privilege
from midsession.agent.answer import Refused
from midsession.agent.network.impairment import Direction
from midsession.agent.network.nft import Nft, NftError
from midsession.agent.network.queue import FROM, MARK, TO

_TABLE = "midsession_queue"
_NUMBERS = {"to": TO, "from": FROM}
_CHAINS = {"to": "midsession-to", "from": "midsession-from"}
_EMPTY_CHAINS = [f":{chain} - [0:0]" for chain in _CHAINS.values()]
"""As iptables-restore has it: made where they are not there, else emptied."""
_HOOKS = {"to": "PREROUTING", "from": "OUTPUT"}
_WITHIN_S = 5.0
_RESTORE = "iptables-restore"


class Way(NamedTuple):
    """Packets between this host's address and its peers (None: everybody), in one direction or both."""

    own: str
    peers: tuple[str, ...] | None
    direction: Direction


class QueueRules:
    """What stands now, by fault. Hooked in at once, without a rule. Raises Refused where neither tool can do it."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}
        self._tool = _Nft() if _nft_can() else _Iptables()

    @property
    def by(self) -> str:
        """`nft` or `iptables`."""
        return self._tool.name

    def put(self, fault: str, way: Way) -> None:
        """Send these packets to the queue too."""
        self._tool.write([*self._ways.values(), way])
        self._ways[fault] = way

    def take(self, fault: str) -> None:
        """Send no packets to the queue for that fault any more."""
        self._tool.write([way for name, way in self._ways.items() if name != fault])
        del self._ways[fault]

    def remove(self) -> None:
        """Take away everything that was made here."""
        self._tool.remove()


def _nft_can() -> bool:
    """Whether this kernel's nftables know `queue`: tried in a table that is never there, since one transaction makes
    and removes it."""
    name = f"{_TABLE}_probe"
    rule = f"add rule ip {name} c queue num {TO} bypass"
    try:
        Nft().run(f"add table ip {name}\nadd chain ip {name} c\n{rule}\ndelete table ip {name}")
    except NftError:
        return False
    return True


class _Nft:
    name = "nft"

    def __init__(self) -> None:
        self._nft = Nft()
        self.write([])

    def write(self, ways: Sequence[Way]) -> None:
        chains = "\n".join(_nft_chain(direction, ways) for direction in _HOOKS)
        self._run(f"add table ip {_TABLE}\ndelete table ip {_TABLE}\ntable ip {_TABLE} {{\n{chains}\n}}")

    def remove(self) -> None:
        self._run(f"delete table ip {_TABLE}")

    def _run(self, commands: str) -> None:
        try:
            self._nft.run(commands)
        except NftError as error:
            raise Refused(f"nftables: {error}") from error


def _nft_chain(direction: str, ways: Sequence[Way]) -> str:
    own, peer, outside = ("daddr", "saddr", "iifname") if direction == "to" else ("saddr", "daddr", "oifname")
    rules = []
    for way in ways:
        if way.direction in ("both", direction):
            peers = "" if way.peers is None else f"ip {peer} {{ {', '.join(map(_address, way.peers))} }}"
            fits = f'{outside} != "lo" ip {own} {_address(way.own)} {peers} meta mark != {MARK}'
            rules.append(f"{fits} queue num {_NUMBERS[direction]} bypass")
    hook = _HOOKS[direction].lower()
    return f"chain {hook} {{ type filter hook {hook} priority -300; policy accept;\n" + "\n".join(rules) + "\n}"


class _Iptables:
    """Chains of our own in the table `raw`; whatever else stands there is left alone."""

    name = "iptables"

    def __init__(self) -> None:
        command = shutil.which(_RESTORE)
        if command is None:
            raise Refused("this kernel's nftables have no `queue` statement, and there is no iptables on this host")
        self._command = command
        jumps = [f"-A {_HOOKS[direction]} -j {chain}" for direction, chain in _CHAINS.items()]
        self._run([*_EMPTY_CHAINS, *jumps])

    def write(self, ways: Sequence[Way]) -> None:
        self._run([*_EMPTY_CHAINS, *(rule for way in ways for rule in _iptables_rules(way))])

    def remove(self) -> None:
        jumps = [f"-D {_HOOKS[direction]} -j {chain}" for direction, chain in _CHAINS.items()]
        self._run([*jumps, *(f"-{act} {chain}" for chain in _CHAINS.values() for act in "FX")])

    def _run(self, lines: Sequence[str]) -> None:
        text = "\n".join(["*raw", *lines, "COMMIT", ""])
        argv = [self._command, "--noflush"]
        with privilege.lent():
            done = subprocess.run(argv, input=text.encode(), capture_output=True, timeout=_WITHIN_S, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise Refused(f"iptables: {said[0]}")


def _iptables_rules(way: Way) -> Iterable[str]:
    for direction, (outside, own, peer) in {"to": ("-i", "-d", "-s"), "from": ("-o", "-s", "-d")}.items():
        if way.direction in ("both", direction):
            for address in [None] if way.peers is None else way.peers:
                narrow = "" if address is None else f" {peer} {_address(address)}"
                fits = f"! {outside} lo {own} {_address(way.own)}{narrow} -m mark ! --mark {MARK}"
                yield f"-A {_CHAINS[direction]} {fits} -j NFQUEUE --queue-num {_NUMBERS[direction]} --queue-bypass"


def _address(text: str) -> str:
    return str(ipaddress.IPv4Address(text))
