"""What a program of a host may: no privilege but two that stay in its own network, and only so much of the machine.

The agent keeps its privileges, because it makes the faults; every program that it starts gives them up for good.
Without that, a program could take off all that `filesystem` covers, being root of the namespaces that hold the covers.

Sources: capabilities(7), prctl(2), user_namespaces(7), getrlimit(2).
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress

import msgspec

from midsession.core import units
from midsession.core.wrong import Wrong
from midsession.errors import EnvironmentLacks
from midsession.testbeds.netns import kernel

MEMORY_VARIABLE, PROCESSES_VARIABLE = "MIDSESSION_NETNS_MEMORY", "MIDSESSION_NETNS_PROCESSES"
KEPT = frozenset({kernel.CAP_NET_BIND_SERVICE, kernel.CAP_NET_RAW})
"""What a program may of all that root may: listen on a port below 1024, and ping. Both only in its own namespace."""
_PROCESSES = 16_384
_PID_MAX = "/proc/sys/kernel/pid_max"


class Limits(msgspec.Struct, frozen=True):
    """How much one host takes of the machine: bytes of data in each process, processes and threads in all."""

    memory_bytes: int
    processes: int = _PROCESSES

    @staticmethod
    def of_environment() -> Limits:
        """Half of the machine's memory, unless the environment says otherwise. Raises EnvironmentLacks."""
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return Limits(_size(MEMORY_VARIABLE) or half, _number(PROCESSES_VARIABLE) or _PROCESSES)


def limit_host(limits: Limits) -> None:
    """Bound this process and all that it starts, and the PID namespace whose /proc is mounted. Raises OSError.

    RLIMIT_DATA counts what a process can write to and shares with nobody. RLIMIT_AS would also count the address space
    that Go, Java and V8 reserve and never touch. RLIMIT_NPROC does not hold for a real root, and before Linux 5.14 it
    counts the user's processes all over the machine; so the bound on processes is the namespace's own `pid_max`, which
    there is since Linux 6.14.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limits.memory_bytes if hard == resource.RLIM_INFINITY else min(limits.memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with suppress(OSError), open(_PID_MAX, "w") as file:
        file.write(str(limits.processes))


def confine() -> None:
    """Give up all privileges but `KEPT`, for this process and whatever it executes. Raises OSError."""
    kernel.keep_capabilities(KEPT)
    kernel.gain_nothing_by_exec()


def _size(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return units.size(text)
    except Wrong as wrong:
        raise EnvironmentLacks(f"{variable}={text}: {wrong}", "set it to a size like 4GiB", "bad-limit") from None


def _number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal() or not 400 <= int(text) <= 4_194_304:
        raise EnvironmentLacks(f"{variable}={text}", "set it to a number from 400 to 4194304", "bad-limit")
    return int(text)
