"""The few system calls that Python 3.11 does not wrap, and the ioctls that give an interface its address.

Sources: unshare(2), mount(2), mount_setattr(2), prctl(2), netdevice(7), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Collection

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

CAP_NET_BIND_SERVICE = 10
CAP_NET_RAW = 13
CAP_SETFCAP = 31

MS_NOSUID = 0x2
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18

_SYS_MOUNT_SETATTR = 442  # the same number on every architecture (it is younger than the common table)
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64  # as many bits as capset(2) takes; the kernel says EINVAL after its last one
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def unshare(flags: int) -> None:
    """Leave the namespaces of `flags`; a new PID namespace holds the children only. Raises OSError.

    Every OSError of this module has the refused step for its `filename`: `unshare`, `/proc/self/uid_map`, `mount proc`.
    """
    _checked(_libc.unshare(flags), "unshare")


def map_user(uid: int, gid: int) -> None:
    """Be root of the user namespace just unshared, as nobody but `uid:gid` outside. Raises OSError."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        path = f"/proc/self/{name}"
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError as error:  # of the write, which does not know the file's name
            raise OSError(error.errno, error.strerror, path) from error


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError that names what was to be mounted."""
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode() or None, flags, data.encode() or None)
    _checked(result, f"mount {kind or target}")


def make_read_only(target: str) -> None:
    """Make a whole tree of mounts read-only in this mount namespace (mount_setattr, Linux 5.12). Raises OSError."""
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    call = _libc.syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr)
    )
    _checked(call, f"make {target} read-only")


def make_writable(target: str) -> None:
    """Take the read-only flag from one mount again. Raises OSError."""
    attr = _MountAttr(attr_clr=_MOUNT_ATTR_RDONLY)
    call = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), 0, ctypes.byref(attr), ctypes.sizeof(attr))
    _checked(call, f"make {target} writable")


def die_with_parent() -> None:
    """SIGKILL this process when the thread that forked it dies (PR_SET_PDEATHSIG)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def keep_capabilities(kept: Collection[int]) -> None:
    """Give up every capability but these, also for whatever is executed later. Raises OSError.

    The bounding set goes too: a user 0 that executes a program gets all that is in it (capabilities(7)).
    """
    for number in range(_CAPABILITIES):
        if number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                break
            _checked(-1, "drop capabilities")
    bits = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", bits, bits, 0, 0, 0, 0)  # effective, permitted, inheritable; then their upper halves
    _checked(_libc.capset(header, data), "capset")


def gain_nothing_by_exec() -> None:
    """No set-user-ID bit and no file capability counts any more (PR_SET_NO_NEW_PRIVS). Raises OSError."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def set_up(interface: str, address: str | None = None, netmask: str | None = None) -> None:
    """Bring an interface up in this network namespace, with an IPv4 address where one is given. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if address and netmask:
            fcntl.ioctl(control, _SIOCSIFADDR, _address_request(interface, address))
            fcntl.ioctl(control, _SIOCSIFNETMASK, _address_request(interface, netmask))
        (flags,) = struct.unpack(
            "16xh6x", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh6x", interface.encode(), 0))
        )
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh6x", interface.encode(), flags | _IFF_UP))


def _address_request(interface: str, address: str) -> bytes:
    return struct.pack("16sHH4s8x", interface.encode(), socket.AF_INET, 0, socket.inet_aton(address))
