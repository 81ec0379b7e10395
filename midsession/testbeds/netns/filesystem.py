"""What a host sees of the file system: ours, read-only but for the run directory, with covers over what is not its own.

Two halves: `cover_world` is done once for a run, by init; its hosts get copies of those mounts. `furnish` is each
host's own. A cover is safe from programs because they have no privilege to take it off (`confinement`).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from midsession.programs import programs_directory
from midsession.testbeds.netns import kernel

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_PRIVATE = "mode=1777,size=25%"
"""A host's own /tmp and /dev/shm. They are memory, and none may fill all of it."""
_SMALL = "mode=755,size=64k"
RESOLVER = "/etc/resolv.conf"


def needed_paths() -> list[str]:
    """What programs need of the file system even where a cover comes over it. Raises EnvironmentLacks."""
    package = str(Path(__file__).parents[3])
    return sorted({sys.prefix, sys.base_prefix, str(programs_directory()), package, os.getcwd()})


class Kept:
    """Paths that stay although a cover comes over them. Opened before, bound again after."""

    def __init__(self, paths: Sequence[str]) -> None:
        found = [path for path in map(os.path.realpath, paths) if os.path.exists(path)]
        self._fds = {path: os.open(path, os.O_PATH) for path in found}

    def bind_below(self, cover: str) -> None:
        """Bind those that lie under a directory that has just been covered. Raises OSError."""
        for path, fd in self._fds.items():
            if path.startswith(f"{cover}/"):
                os.makedirs(path, exist_ok=True)
                kernel.mount(f"/proc/self/fd/{fd}", path, flags=kernel.MS_BIND)

    def close(self) -> None:
        """Let go of them."""
        for fd in self._fds.values():
            os.close(fd)


def cover_world(keep: Sequence[str]) -> None:
    """Make all of this mount namespace read-only; /dev has no disk, and /run no daemon's socket. Raises OSError.

    A read-only mount does not keep root from writing to a device, nor anybody from connecting to a socket.
    """
    kept = Kept(keep)
    kernel.mount("proc", "/proc", "proc")  # iproute2 looks there for the network namespace of a PID
    kernel.make_read_only("/")
    _cover_devices()
    _cover_run()
    for cover in ("/dev", "/run"):
        kept.bind_below(cover)
        kernel.make_read_only(cover)
    kept.close()


def _cover_devices() -> None:
    found = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES if os.path.exists(f"/dev/{name}")}
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, _SMALL)
    for name, fd in found.items():
        _touch(f"/dev/{name}")
        kernel.mount(f"/proc/self/fd/{fd}", f"/dev/{name}", flags=kernel.MS_BIND)
        os.close(fd)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/shm")


def _cover_run() -> None:
    """/etc/resolv.conf may be a link to a file in /run; each host puts its own in that file's place."""
    resolver = os.path.realpath(RESOLVER)
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID, _SMALL)
    if resolver.startswith("/run/"):
        os.makedirs(os.path.dirname(resolver), exist_ok=True)
        _touch(resolver)


def furnish(name: str, directory: str, keep: Sequence[str], files: Mapping[str, str]) -> None:
    """Give a host its name, its own /tmp and /dev/shm, the run directory, and other contents for `files`.

    Its /proc, mounted before, becomes read-only. Raises OSError.
    """
    kernel.make_read_only("/proc")
    kept, run = Kept(keep), Kept([directory])
    for cover in ("/tmp", "/dev/shm"):
        kernel.mount("tmpfs", cover, "tmpfs", kernel.MS_NOSUID, _PRIVATE)
        kept.bind_below(cover)
    run.bind_below("")
    kernel.make_writable(os.path.realpath(directory))
    for held in (kept, run):
        held.close()
    for path, text in files.items():
        _replace(path, text)
    socket.sethostname(name)


def _replace(path: str, text: str) -> None:
    """Put another content over a file of the system; a system without the file goes without."""
    if not os.path.exists(path):
        return
    fresh = f"/tmp/.{os.path.basename(path)}"
    with open(fresh, "w") as file:
        file.write(text)
    target = os.path.realpath(path)
    kernel.mount(fresh, target, flags=kernel.MS_BIND)
    kernel.make_read_only(target)
    os.unlink(fresh)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
