"""What the doctor looks for on behalf of netns: what worlds are made with, and what some faults need in them."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from midsession.agent.tools import which
from midsession.errors import EnvironmentLacks
from midsession.testbeds.netns.abilities import packet_queue, queue_remedy
from midsession.testbeds.netns.refusal import Machine, explain
from midsession.testbeds.netns.trial import try_world
from midsession.testbeds.probe import Missing, Probe, first_line

_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork")
_BRINGS = {"tc": "Debian: apt-get install iproute2"}
"""What a tool comes with, where the probe's own remedy is about something else."""


def _linux() -> str:
    if sys.platform != "linux":
        raise Missing(f"this is {platform.system()}")
    return platform.release()


def _clock() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    if not path.exists():
        raise Missing(f"there is no {path}")
    return "CLOCK_MONOTONIC, one domain for all hosts of this machine"


def _world() -> str:
    try:
        answer = try_world()
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing, lacks.remedy) from None
    except OSError as error:
        raise Missing(f"a world with one host: {error}") from None
    if not answer.ok:
        raise Missing(*explain(answer, Machine.look()))
    return "user, net, mount and pid namespaces, without root" if os.geteuid() else "yes (as root)"


def _in_namespaces(*argv: str) -> str:
    """Run a command in fresh user and network namespaces, where this user is root."""
    tool, *arguments = argv
    path = which(tool)
    if path is None:
        raise Missing(f"there is no {tool}", _BRINGS.get(tool, ""))
    try:
        return first_line(*_NAMESPACES, path, *arguments)
    except Missing as missing:
        if str(missing).startswith("unshare:"):
            raise Missing("cannot be tried without namespaces", "allow namespaces first, see above") from None
        raise


def _ip() -> str:
    return first_line("ip", "-V")


def _nft() -> str:
    _in_namespaces("nft", "list", "ruleset")
    return first_line("nft", "--version")


def _netem() -> str:
    _in_namespaces("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    return "yes"


def _queue() -> str:
    _in_namespaces("true")
    if not packet_queue():
        raise Missing("neither nft nor iptables can send packets to one", queue_remedy())
    return "yes"


PROBES = (
    Probe("Linux", _linux, "run inside a Linux machine, or `make up` with Docker"),
    Probe("clock", _clock, "mount /proc"),
    Probe("namespaces", _world, "see docs/netns.md"),
    Probe("ip", _ip, "Debian: apt-get install iproute2", needed=False),
    Probe("nft", _nft, "Debian: apt-get install nftables", needed=False),
    Probe("packet queue", _queue, "Debian: apt-get install iptables", needed=False),
    Probe("netem", _netem, "a kernel with sch_netem: modprobe sch_netem", needed=False),
)
