"""The verb reset: forget the run, and count what is on this host, so that nothing of one run is left for the next.

The census is what could make a difference to another program here: processes, ports that listen, connections, packet
rules, interfaces, files, System V IPC; and what a program inherits from its agent, or is served by, which one of its
user can change: limits, scheduling, priority of CPU and I/O, CPUs, the weight where memory lacks, what a core dump
holds, how late timers may be. (Whoever may trace an agent can change all of it: no census sees who is out to harm.) An
agent that is made for one run, as on netns, needs none. The census is a plain value: two of them are compared, and what
it means is nobody's business. Connections in TIME_WAIT are told apart from it: they stay for a minute, and only deny
their port to some programs: to those that do not ask for it with SO_REUSEADDR; and to all, where they were not made
with it.
"""

from __future__ import annotations

import os
import resource
import socket
from typing import Any

from midsession.agent import libc, procfs
from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.directory import empty
from midsession.agent.network import sockets
from midsession.agent.network.addresses import own_addresses
from midsession.agent.network.nft import Nft
from midsession.agent.privilege import may_administer
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Reset

_QUIET_WITHIN_S = 0.5
_QUIET_POLL_S = 0.005


def reset(agent: Agent, ask: Reset, answer: Answer) -> None:
    """Forget the run; answered with the census once nothing runs and no connection is open, or soon after.

    Refused for ever after a cure has failed: what a census sees is not all that may be left.
    """

    def forget() -> None:
        agent.forget_run()
        if agent.spoiled:
            answer.refuse("a fault could not be healed here")
            return
        for directory in ask.scratch:
            empty(directory)
        _Calm(agent, ask, answer)

    agent.supervisor.end(forget)


VERBS: dict[type[Any], Any] = {Reset: reset}


def census(scratch: list[str]) -> dict[str, Any]:
    """What is on this host. Raises OSError, Refused."""
    return {
        "processes": sorted(procfs.others()),
        "listening": sorted(procfs.listening_ports()),
        "connections": sorted(f"{c.own}:{c.own_port} {c.peer}:{c.peer_port}" for c in sockets.open_now()),
        "rules": _rules() if may_administer() else [],  # who may not can have made none
        "interfaces": _interfaces(),
        "files": sorted(os.path.join(folder, name) for folder in scratch for name in os.listdir(folder)),
        "ipc": [line for kind in ("shm", "msg", "sem") for line in _ipc(kind)],
        "inherited": _inherited(),
    }


def _ipc(kind: str) -> list[str]:
    """Each object of System V IPC with its key and number, proc_sysvipc(5); none where the kernel has no such thing."""
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            return [f"{kind} {' '.join(line.split()[:2])}" for line in file.readlines()[1:]]
    except FileNotFoundError:
        return []


def _inherited() -> list[str]:
    return [
        *(f"{name} {text}" for name in _OWN_FILES if (text := _own(name)) is not None),
        f"nice {os.getpriority(os.PRIO_PROCESS, 0)}",
        f"policy {os.sched_getscheduler(0)} {os.sched_getparam(0).sched_priority}",
        f"scheduling {libc.scheduling().hex()}",
        f"I/O {libc.io_priority()}",
        f"CPUs {sorted(os.sched_getaffinity(0))}",
        *(f"{name} {resource.getrlimit(getattr(resource, name))}" for name in _LIMITS),
    ]


def _own(name: str) -> str | None:
    """What a file of ours in /proc holds; None where the kernel has no such file."""
    try:
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


_OWN_FILES = ("oom_score_adj", "coredump_filter", "timerslack_ns", "autogroup")
"""proc_pid(5), sched(7): what another process of our user may write, of what a file tells."""
_LIMITS = sorted(name for name in vars(resource) if name.startswith("RLIMIT_"))


def _rules() -> list[str]:
    """Where packet rules stand, one item a rule. Rules of Docker's own name service are among them."""
    found = [item["rule"] for item in Nft().list("ruleset") if "rule" in item]
    return sorted(f"{rule['family']} {rule['table']} {rule['chain']}" for rule in found)


def _interfaces() -> list[str]:
    """Each interface with its flags (IFF_UP is the last bit, netdevice(7)), its MTU, and its address."""
    addresses = own_addresses()
    names = sorted(name for _, name in socket.if_nameindex())
    return [f"{name} {_of(name, 'flags')} {_of(name, 'mtu')} {addresses.get(name, '-')}" for name in names]


def _of(interface: str, fact: str) -> str:
    with open(f"/sys/class/net/{interface}/{fact}", encoding="ascii") as file:
        return file.read().strip()


class _Calm:
    """Waits until no connection is open: those of a program that was killed are the kernel's to end."""

    def __init__(self, agent: Agent, ask: Reset, answer: Answer) -> None:
        self._agent, self._ask, self._answer = agent, ask, answer
        self._until_ns = now_ns() + int(_QUIET_WITHIN_S * 1e9)
        self._look()

    def _look(self) -> None:
        if sockets.open_now() and now_ns() < self._until_ns:
            self._agent.loop.later(_QUIET_POLL_S, self._look)
            return
        try:
            lingering = sorted({c.own_port for c in sockets.lingering_now()})
            shared = [port for port in lingering if _is_shared(port)]
            self._answer.give({"census": census(self._ask.scratch), "lingering": lingering, "shared": shared})
        except (OSError, Refused) as error:
            self._answer.refuse(f"cannot count what is on this host: {error}")


def _is_shared(port: int) -> bool:
    """Whether who asks for a port with SO_REUSEADDR gets it: then those who had it have asked so, too, socket(7)."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            return False
    return True
