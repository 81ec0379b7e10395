"""What the agent needs of libc and Python does not offer: inotify(7), prctl(2), capset(2), sched_setattr(2),
sched_getattr(2), ioprio_get(2)."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

IN_MODIFY = 0x002
IN_CREATE = 0x100
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_KEEPCAPS = 8
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
_IOPRIO_WHO_PROCESS = 1
_SCHED_ATTR_BYTES = 56
_CAPABILITY_VERSION_3 = 0x20080522


def inotify() -> int:
    """A new inotify descriptor; raises OSError (EMFILE: the user's `max_user_instances` are all in use)."""
    return _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch `path`; returns the watch descriptor, raises OSError."""
    return _checked(_libc().inotify_add_watch(fd, os.fsencode(path), mask))


def become_subreaper() -> None:
    """Be the parent of all descendants whose parent dies, as PID 1 is (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def keep_capabilities(keep: bool) -> None:
    """Whether the permitted capabilities outlive a change of all user IDs from root to another (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0))


def set_capabilities(permitted: int, inheritable: int) -> None:
    """Have these (a bit for each capability below 32), all the permitted ones effective, and no others."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc().capset(header, struct.pack("=6I", permitted, permitted, inheritable, 0, 0, 0)))


def raise_ambient(capability: int) -> None:
    """Give a capability that is permitted and inheritable to whatever is executed from now on (prctl(2))."""
    _checked(_libc().prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def die_with_parent() -> None:
    """SIGKILL for us when the thread that forked us dies (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0))


def be_called(name: str) -> None:
    """Show up under that name, of 15 bytes at most, in `ps` and /proc (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_NAME, name.encode(), 0, 0, 0))


def wake_exactly() -> None:
    """Waits of this thread end within a microsecond of their time, and not 50 (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0))


def run_promptly() -> None:
    """Ask for slices of 0.1 ms: who asks for short ones is woken sooner on a busy machine, and gets no more in all.

    Any process may (sched_setattr(2), Linux 6.12); an older kernel, or one that we do not know to call, goes without.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, 0, 0, 100_000, 0, 0)
        _libc().syscall(number, 0, attributes, 0)


def scheduling() -> bytes:
    """All that the kernel's scheduler was told of us: policy, priority, flags, slice, clamps (`struct sched_attr` of
    sched_getattr(2)). Empty where we do not know to call it, or may not."""
    number = _SCHED_GETATTR.get(os.uname().machine)
    attributes = ctypes.create_string_buffer(_SCHED_ATTR_BYTES)
    if number is None or _libc().syscall(number, 0, attributes, _SCHED_ATTR_BYTES, 0) < 0:
        return b""
    return attributes.raw


def io_priority() -> int | None:
    """Our class and priority of I/O (ioprio_get(2)). None where we do not know to call it, or may not."""
    number = _IOPRIO_GET.get(os.uname().machine)
    value = -1 if number is None else int(_libc().syscall(number, _IOPRIO_WHO_PROCESS, 0))
    return None if value < 0 else value


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
