"""What the doctor looks with, and what it looks for on every machine. Each testbed has further probes of its own."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from midsession.agent.tools import which

_WITHIN_S = 20.0
_DESCRIPTORS = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """`look` returns what it saw, or raises Missing. `needed`: the testbed that has this probe cannot do without."""

    what: str
    look: Callable[[], str]
    remedy: str
    needed: bool = True


class Missing(Exception):
    """A probe found the thing missing; the text says what was seen instead. `remedy`: better than the probe's own."""

    def __init__(self, seen: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(seen)


def first_line(*argv: str) -> str:
    """The first line that a command prints; raises Missing when there is no such command or it fails."""
    path = which(argv[0])
    if path is None:
        raise Missing(f"there is no {argv[0]}")
    try:
        done = subprocess.run(
            [path, *argv[1:]], capture_output=True, text=True, timeout=_WITHIN_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{argv[0]}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(said[0] if said else f"{argv[0]} exited with code {done.returncode}")
    return (done.stdout.strip().splitlines() or ["yes"])[0]


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 - the doctor is asked on machines that are not right
        raise Missing(platform.python_version())
    return platform.python_version()


def _descriptors() -> str:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        raise Missing(f"{hard}")
    return f"{hard} at most in a process"


EVERYWHERE = (
    Probe("Python 3.11", _python, "install a newer Python"),
    Probe("open files", _descriptors, f"raise it: ulimit -Hn {_DESCRIPTORS} or more", needed=False),
)
