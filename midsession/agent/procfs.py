"""What /proc says: who descends from us and in what state, whose parent we are, which ports listen.

Every function reads afresh and keeps nothing. /proc must be that of our own PID namespace, see `check`.
Sources: proc_pid_stat(5), proc_pid_net(5), net/ipv4/tcp_ipv4.c (state 0A is TCP_LISTEN).
"""

from __future__ import annotations

import os
import socket
import sys
import time

from midsession.core.record import clock_domain

STOPPED = frozenset("tT")
GONE = frozenset("ZX")
_PF_EXITING = 0x4  # include/linux/sched.h: set before a dying process lets go of its files and sockets


helpers: set[int] = set()
"""Processes of the agent's own, by pid: they belong to no program, and nothing below tells of them."""


def check() -> None:
    """Raise OSError when /proc shows another PID namespace than ours: nothing below would be true."""
    seen = os.readlink("/proc/self")
    if seen != str(os.getpid()):
        raise OSError(f"/proc is of another PID namespace (it calls us {seen}, we are {os.getpid()}): mount it afresh")


def descendant_states() -> dict[int, str]:
    """The state letter of every process that descends from us, by pid; zombies are left out.

    We are the parent of all orphans (PID 1, or a subreaper): whatever a program has started, in whatever session or
    process group, is among them.
    """
    found = _processes()
    family = {os.getpid()}
    while new := {pid for pid, _, parent in found if parent in family} - family:
        family |= new
    return {pid: state for pid, state, _ in found if pid in family and pid != os.getpid() and state not in GONE}


def is_exiting(pid: int) -> bool:
    """Whether a process is on its way out, or gone: no signal can be the cause of its end any more."""
    words = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return not words or words[0].decode() in GONE or bool(int(words[6]) & _PF_EXITING)


def children() -> list[int]:
    """Our children, adopted orphans among them; zombies are left out."""
    own = os.getpid()
    return [pid for pid, state, parent in _processes() if parent == own and state not in GONE]


def others() -> list[str]:
    """Every process that we see but ourselves, as `pid command`; zombies are left out."""
    own = os.getpid()
    return [f"{pid} {_command(pid)}" for pid, state, _ in _processes() if pid != own and state not in GONE]


def listeners() -> set[tuple[str, int]]:
    """The addresses and TCP ports that someone listens on in our network namespace, IPv4 and IPv6."""
    found = set()
    for table, family in (("/proc/self/net/tcp", socket.AF_INET), ("/proc/self/net/tcp6", socket.AF_INET6)):
        for line in _read(table).splitlines()[1:]:
            words = line.split()
            if words[3] == b"0A":
                address, _, port = words[1].decode().partition(":")
                found.add((_address(family, address), int(port, 16)))
    return found


def _address(family: socket.AddressFamily, text: str) -> str:
    """An address as those tables have it: in words of 32 bits, each in the byte order of this machine."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return socket.inet_ntop(family, b"".join(word.to_bytes(4, sys.byteorder) for word in words))


def listening_ports() -> set[int]:
    """The TCP ports that someone listens on in our network namespace."""
    return {port for _, port in listeners()}


def served_ports() -> set[int]:
    """Those of them that other hosts reach: not on the loopback interface alone."""
    return {port for address, port in listeners() if not _is_loopback(address)}


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


def own_clock() -> str:
    """Our clock domain. A kernel without time namespaces has but one."""
    boot_id = _read("/proc/sys/kernel/random/boot_id").decode()
    try:
        time_namespace = os.readlink("/proc/self/ns/time")
    except FileNotFoundError:
        time_namespace = "time"
    return clock_domain(boot_id, time_namespace)


def now_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds, the clock of every record."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _processes() -> list[tuple[int, str, int]]:
    """Everyone's pid, state letter, and parent."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in helpers and (stat := _read(f"/proc/{name}/stat")):
            # The command's name stands in parentheses and may itself hold any byte.
            state, parent = stat.rpartition(b")")[2].split()[:2]
            found.append((int(name), state.decode(), int(parent)))
    return found


def _command(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").decode(errors="replace").strip()


def _read(path: str) -> bytes:
    """The whole file; empty when it is not there (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except ProcessLookupError:
        return b""
    finally:
        os.close(fd)
