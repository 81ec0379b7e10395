"""What agents in namespaces can do on this machine, tried in fresh namespaces that end at once.

Where there can be none, it is believed of the machine: what it lacks is something else, and the making of a world says
what.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

from midsession.agent.network import iptables
from midsession.agent.tools import which

_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net")
_TRIES_S = 10.0
_BY_NFT = ("nft", "-f", "-"), "table ip t { chain c { type filter hook output priority 0; queue num 0 bypass; }; }"
_A_RULE = ("nft", "-f", "-"), "table ip t { chain c { type filter hook output priority 0; counter; }; }"
_BY_TC = ("tc", "-batch", "-")
_BY_DESTROYING = (
    (sys.executable, "-c", "from midsession.agent.network import sockets; raise SystemExit(not sockets.can_destroy())"),
    "",
)
_BY_IPTABLES = iptables.raw("-A OUTPUT -j NFQUEUE --queue-num 0 --queue-bypass")
_A_QUEUE_KERNEL = "a kernel with NFQUEUE (nfnetlink_queue, xt_NFQUEUE)"


@cache
def namespaces() -> bool:
    """Whether there can be any."""
    return _works(("true",), "")


@cache
def packet_filter() -> bool:
    """Whether the kernel takes nftables rules for IPv4; believed of it where there is no `nft` to try it with."""
    return which("nft") is None or _works(*_A_RULE) or not namespaces()


@cache
def packet_queue() -> bool:
    """Whether packets can be sent to a queue, by any tool (see `midsession.agent.network.queue_rules`)."""
    return _works(*_BY_NFT) or any(map(queued_by, iptables.available())) or not namespaces()


def queue_remedy() -> str:
    """What to do where packets cannot be sent to a queue."""
    if not any(iptables.available()):
        return f"install iptables (Debian: apt-get install iptables), on {_A_QUEUE_KERNEL}"
    return f"load the tables of iptables (as root: modprobe ip_tables), or take {_A_QUEUE_KERNEL}"


@cache
def netem() -> bool:
    """Whether the kernel has netem and tc is there (see `midsession.agent.network.shape`)."""
    return _works(_BY_TC, "qdisc add dev lo root netem delay 1ms\n") or not namespaces()


@cache
def socket_destroyer() -> bool:
    """Whether the kernel can destroy sockets (see `midsession.agent.network.sockets`)."""
    return _works(*_BY_DESTROYING)


def queued_by(tools: iptables.Tools) -> bool:
    """Whether the kernel takes a rule from these tools that sends packets to a queue."""
    return _works((tools.restore,), _BY_IPTABLES, iptables.ENVIRONMENT)


def _works(argv: tuple[str, ...], text: str, more: Mapping[str, str] | None = None) -> bool:
    tool, *arguments = argv
    try:
        done = subprocess.run(
            [*_NAMESPACES, which(tool) or tool, *arguments],
            input=text.encode(),
            env={**os.environ, **(more or {})},
            capture_output=True,
            timeout=_TRIES_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
