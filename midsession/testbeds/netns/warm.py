"""Start our own programs from a warm process: the agent forks, and the fork becomes the program.

A fresh Python needs 150 ms to import what the server and the fleet need. The template has imported all of it but the
programs themselves, and every agent is a fork of the template; so `python -m server` becomes a fork of the agent that
runs the module `server` as `__main__`. To the kernel, the peer and the supervisor it is a process like any other: its
own session, descriptors, signals and environment. Anything else is executed as usual.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from midsession.agent.network import nft
from midsession.agent.spawn import Child, execute
from midsession.testbeds.netns.confinement import confine

PROGRAMS = frozenset({"server", "client"})
_PRELOAD = (
    "argparse", "asyncio", "resource", "tempfile", "traceback", "uvloop",
    "encodings.idna", "encodings.unicode_escape",  # the first name that is looked up, the first text that is shown
    "midsession.core.job", "midsession.core.match", "midsession.core.reconnect", "midsession.core.session",
    "midsession.core.sockets", "midsession.core.template", "midsession.core.wire", "midsession.hostside",
)  # fmt: skip


def preload() -> None:
    """Import what the programs import, but not the programs. To be called once, in the template."""
    for name in _PRELOAD:
        with suppress(ImportError):  # the programs do without uvloop too
            importlib.import_module(name)
    nft.preload()


def spawn(argv: Sequence[str], environment: Mapping[str, str], cwd: str | None) -> Child:
    """A `Spawn` (see `midsession.agent.spawn`) that forks for our own programs. All are confined."""
    if cwd is None or len(argv) < 3 or argv[0] != sys.executable or argv[1] != "-m" or argv[2] not in PROGRAMS:
        return execute(argv, environment, cwd, confine)
    pipes = [os.pipe() for _ in range(3)]
    (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = pipes
    pid = os.fork()
    if pid == 0:
        _become(argv, environment, cwd, (stdin, stdout, stderr))
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    return Child(pid, io.FileIO(our_stdin, "w"), io.FileIO(our_stdout, "r"), io.FileIO(our_stderr, "r"))


def _become(argv: Sequence[str], environment: Mapping[str, str], cwd: str, streams: Sequence[int]) -> NoReturn:
    """Turn this fork into the program. Never returns: the agent's frames below must not run on in it."""
    code = 1
    try:
        gc.freeze()  # the agent's objects must not be collected here: they would close descriptors that are ours by now
        _leave_the_agent(streams)
        confine()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        sys.argv = list(argv[2:])
        sys.path[0] = cwd
        code = _run(argv[2])
    except BaseException:  # noqa: BLE001 - the top of a process: told on its standard error and by its exit code
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _leave_the_agent(streams: Sequence[int]) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for at, fd in enumerate(streams):
        os.dup2(fd, at)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)


def _run(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
