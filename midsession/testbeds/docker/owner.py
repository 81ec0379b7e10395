"""Who owns what lies in an engine: a process, named so that anybody on its machine can tell whether it still lives."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

_MACHINE_ID = Path("/etc/machine-id")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A process, for ever: pid and start (clock ticks since boot), in a PID namespace, in one boot of a machine."""

    machine: str
    boot: str
    namespace: str
    pid: int
    start: int

    def __str__(self) -> str:
        return f"{self.machine or '-'}/{self.boot}/{self.namespace}/{self.pid}/{self.start}"

    @staticmethod
    def parse(text: str) -> Owner | None:
        """The owner of a label's text; None for a text that we have not written."""
        parts = text.split("/")
        if len(parts) != 5 or not (parts[3].isdecimal() and parts[4].isdecimal()) or not parts[1]:
            return None
        machine, boot, namespace, pid, start = parts
        return Owner(machine.removeprefix("-"), boot, namespace, int(pid), int(start))

    def is_dead(self, machine_is_ours: bool = True) -> bool:
        """Proven dead. One of another machine, or of a PID namespace into which we do not see, never is.

        A machine is known by its machine-id, which clones of one image share: `machine_is_ours` says that only
        processes of this very machine can have been the owner, and then one of an earlier boot is dead.
        """
        here = me()
        if self.boot != here.boot:
            return machine_is_ours and bool(self.machine) and self.machine == here.machine
        if self.namespace == here.namespace:
            return not _lives(self.pid, self.start)
        return sees_all() and self.namespace not in _namespaces()


_INITIAL = "4026531836"
"""The inode of a kernel's first PID namespace, PROC_PID_INIT_INO of Linux's proc_ns.h: all others are within it."""


def sees_all() -> bool:
    """Whether every process of this kernel, and its namespace, can be seen from here."""
    return me().namespace == _INITIAL and os.geteuid() == 0


def _namespaces() -> set[str]:
    """The PID namespaces that have a process."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            found.add(_number(os.readlink(folder / "ns" / "pid")))
    return found


def _number(link: str) -> str:
    return link.strip("pid:[]")


def me() -> Owner:
    """This process."""
    pid = os.getpid()
    start = start_of(pid)
    assert start is not None
    namespace = _number(os.readlink("/proc/self/ns/pid"))
    return Owner(_text(_MACHINE_ID), _text(_BOOT_ID), namespace, pid, start)


def start_of(pid: int) -> int | None:
    """When a process was started: field 22 of proc_pid_stat(5); None when /proc does not show it. Zombies are dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _lives(pid: int, start: int) -> bool:
    seen = start_of(pid)
    if seen is not None:
        return seen == start
    if Path(f"/proc/{pid}").exists():
        return False  # a zombie
    try:
        os.kill(pid, 0)  # /proc may be mounted with hidepid: then another user's process is there and not seen
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
