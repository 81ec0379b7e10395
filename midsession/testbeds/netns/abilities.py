"""What agents in namespaces can do on this machine, tried in fresh namespaces that end at once.

Where there can be none, it is believed of the machine: what it lacks is something else, and the making of a world says
what.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache

_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net")
_TRIES_S = 10.0
_BY_NFT = ("nft", "-f", "-"), "table ip t { chain c { type filter hook output priority 0; queue num 0 bypass; }; }"
_A_RULE = ("nft", "-f", "-"), "table ip t { chain c { type filter hook output priority 0; counter; }; }"
_BY_TC = ("tc", "-batch", "-")
_BY_DESTROYING = (
    (sys.executable, "-c", "from midsession.agent.network import sockets; raise SystemExit(not sockets.can_destroy())"),
    "",
)
_BY_IPTABLES = ("iptables-restore",), "*raw\n-A OUTPUT -j NFQUEUE --queue-num 0 --queue-bypass\nCOMMIT\n"


@cache
def namespaces() -> bool:
    """Whether there can be any."""
    return _works(("true",), "")


@cache
def packet_filter() -> bool:
    """Whether the kernel takes nftables rules for IPv4; believed of it where there is no `nft` to try it with."""
    return shutil.which("nft") is None or _works(*_A_RULE) or not namespaces()


@cache
def packet_queue() -> bool:
    """Whether packets can be sent to a queue, by either tool (see `midsession.agent.network.queue_rules`)."""
    return any(_works(*attempt) for attempt in (_BY_NFT, _BY_IPTABLES)) or not namespaces()


@cache
def netem() -> bool:
    """Whether the kernel has netem and tc is there (see `midsession.agent.network.shape`)."""
    return _works(_BY_TC, "qdisc add dev lo root netem delay 1ms\n") or not namespaces()


@cache
def socket_destroyer() -> bool:
    """Whether the kernel can destroy sockets (see `midsession.agent.network.sockets`)."""
    return _works(*_BY_DESTROYING)


def _works(argv: tuple[str, ...], text: str) -> bool:
    try:
        done = subprocess.run(
            [*_NAMESPACES, *argv], input=text.encode(), capture_output=True, timeout=_TRIES_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
