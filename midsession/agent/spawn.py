"""How a program is born: `execute` starts a fresh one; a testbed may hand the agent another way of the same shape."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple, Protocol


class Child(NamedTuple):
    """A process just started, leader of its own session: its PID, and our ends of its three standard streams.

    Whoever holds it reaps it (`os.waitpid`); the streams are unbuffered.
    """

    pid: int
    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]


class Spawn(Protocol):
    """Start `argv` with exactly this environment, in `cwd` (None: ours). Raises OSError or ValueError."""

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str | None) -> Child: ...


def execute(
    argv: Sequence[str],
    environment: Mapping[str, str],
    cwd: str | None,
    prepare: Callable[[], None] | None = None,
) -> Child:
    """fork and exec, by the standard library. `prepare` is called in between; the caller must have no threads then."""
    popen = subprocess.Popen(
        argv,
        env=environment,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - unsafe where there are threads, and an agent has none
    )
    popen.returncode = 0  # the supervisor reaps it; Popen must neither wait for it nor warn of it
    assert popen.stdin
    assert popen.stdout
    assert popen.stderr
    return Child(popen.pid, popen.stdin, popen.stdout, popen.stderr)
