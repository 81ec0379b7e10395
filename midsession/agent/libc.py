"""The two things that the agent needs of libc and Python does not offer: inotify(7) and PR_SET_CHILD_SUBREAPER."""

from __future__ import annotations

import ctypes
import os

IN_MODIFY = 0x002
IN_CREATE = 0x100
_PR_SET_CHILD_SUBREAPER = 36


def inotify() -> int:
    """A new inotify descriptor; raises OSError (EMFILE: the user's `max_user_instances` are all in use)."""
    return _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(fd: int, path: str, mask: int) -> int:
    """Watch `path`; returns the watch descriptor, raises OSError."""
    return _checked(_libc().inotify_add_watch(fd, os.fsencode(path), mask))


def inotify_remove(fd: int, watch: int) -> None:
    """End a watch; one that the kernel has ended already is no error."""
    _libc().inotify_rm_watch(fd, watch)


def become_subreaper() -> None:
    """Be the parent of all descendants whose parent dies, as PID 1 is (prctl(2))."""
    _checked(_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
