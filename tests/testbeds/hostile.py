"""A program that tries to break out of its host: prints a JSON object, attack → `done`, or the name of the refusal.

    python hostile.py '{"write": […], "pid": …, "abstract": "…"}'

`write` are paths that it tries to create, `pid` a process outside, `abstract` the name of a socket outside. It uses the
standard library alone, so that any Python of any machine or container can run it as a service.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

MS_REMOUNT_BIND = 0x20 | 0x1000
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: object) -> None:
    """A function of the C library that says 0 when it is done. Raises OSError."""
    if getattr(_libc, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), function)


def create(path: str) -> None:
    Path(path).write_text("written")


def overwrite(path: str, text: str) -> None:
    with open(path, "r+") as file:
        file.write(text)


def remount_root() -> None:
    call("mount", b"none", b"/", None, MS_REMOUNT_BIND, None)


def remount_from_a_namespace_of_its_own() -> None:
    """Root of a new user namespace has all privileges, over what belongs to it."""
    child = os.fork()
    if child == 0:
        try:
            call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
            remount_root()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "in the child")


def connect(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")


def find(wanted: Callable[[int], bool], *places: str) -> None:
    """Find a file of a kind; FileNotFoundError when there is none."""
    for place in places:
        for parent, _, files in os.walk(place):
            for name in files:
                if wanted(os.lstat(os.path.join(parent, name)).st_mode):
                    return
    raise FileNotFoundError(errno.ENOENT, "none")


def attacks(write: list[str], pid: int, abstract: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each with its name."""
    yield from ((f"create {path}", partial(create, path)) for path in write)
    yield "kill", partial(os.kill, pid, signal.SIGKILL)
    yield "abstract socket", partial(connect, abstract)
    yield "socket in /run", partial(find, stat.S_ISSOCK, "/run")
    yield "disk", partial(find, stat.S_ISBLK, "/dev")
    yield "sysctl", partial(overwrite, "/proc/sys/vm/swappiness", "1")
    yield "sysctl of the network", partial(overwrite, "/proc/sys/net/ipv4/ip_forward", "1")
    yield "hosts", partial(overwrite, "/etc/hosts", "127.0.0.1 everything")
    yield "mount", lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
    yield "unmount", lambda: call("umount", b"/run")
    yield "remount", remount_root
    yield "remount from a namespace of its own", remount_from_a_namespace_of_its_own
    yield "node", lambda: os.mknod("/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))
    yield "host name", lambda: socket.sethostname("mine")
    yield "the agent's memory", lambda: open("/proc/1/mem", "rb").close()
    yield "the agent's descriptors", lambda: os.readlink("/proc/1/fd/0")
    yield "the agent's namespaces", lambda: os.open("/proc/1/ns/mnt", os.O_RDONLY)


def outcome(attack: Callable[[], object]) -> str:
    try:
        attack()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def main() -> None:
    done = {name: outcome(attack) for name, attack in attacks(**json.loads(sys.argv[1]))}
    print(json.dumps(done), flush=True)  # noqa: T201 - a program of its own


if __name__ == "__main__":
    main()
