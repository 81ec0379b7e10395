"""The reaper: a process that outlives the harness just long enough to clean up after it.

`python -m midsession.testbeds.docker.reaper ENGINE STATE_DIRECTORY` with a pipe as standard input, started by the
harness. The harness writes a line for each project it begins (`+NAME`), for each it has taken away (`-NAME`), and for
each Compose process that it starts (`@PID`). The pipe's other end is held by the harness and those processes alone.
When the harness dies, however it dies, the reaper kills the Compose processes, waits for the pipe's end, and removes
what is left of every project that was begun and not ended.

It must be cheap: nothing of Docker is imported unless there is something to do.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path

_PAUSE_S = 0.3
_SCANS = 16
"""Five seconds without anything new. Nobody waits for it, and a busy engine may take two to make a container."""
_WITHIN_S = 120.0
_END_OF_PIPE_S = 3.0
_READ_BYTES = 65536


class Watch:
    """What the pipe told."""

    def __init__(self) -> None:
        self.projects: set[str] = set()
        self.children: dict[int, int] = {}
        self._rest = b""

    def hear(self, data: bytes) -> None:
        """Take in the next bytes of the pipe."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word = line[1:].decode()
            match line[:1]:
                case b"+":
                    self.projects.add(word)
                case b"-":
                    self.projects.discard(word)
                case b"@":
                    self._follow(int(word))

    def _follow(self, pid: int) -> None:
        from midsession.testbeds.docker.owner import start_of

        start = start_of(pid)
        if start is not None:
            self.children[pid] = start

    def kill_children(self) -> None:
        """End every Compose process that still runs, with what it has started: each is a group of its own."""
        from midsession.testbeds.docker.owner import start_of

        for pid, start in self.children.items():
            if start_of(pid) == start:
                try:
                    os.killpg(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


def main(engine: str, state: str) -> None:
    """Watch, then clean up. Returns in the parent at once: the watcher is nobody's child and in no terminal's group."""
    harness = os.getppid()
    life = os.pidfd_open(harness)
    if os.getppid() != harness or os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watch = Watch()
    wait_until_harness_is_gone(0, life, watch)
    if watch.projects:
        clean_up(engine, state, watch.projects)


def wait_until_harness_is_gone(pipe: int, life: int, watch: Watch) -> None:
    """Until the pipe's end, but not long beyond the harness's death."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(life, select.POLLIN)
    deadline_s: float | None = None
    while deadline_s is None or time.monotonic() < deadline_s:
        ready = dict(poll.poll(None if deadline_s is None else 1000 * max(0.0, deadline_s - time.monotonic())))
        if pipe in ready:
            data = os.read(pipe, _READ_BYTES)
            if not data:
                return
            watch.hear(data)
            if deadline_s is not None:
                watch.kill_children()
        elif life in ready:
            poll.unregister(life)
            watch.kill_children()
            deadline_s = time.monotonic() + _END_OF_PIPE_S


def clean_up(engine: str, state: str, projects: set[str]) -> None:
    """Remove what is there and what is still to come, however often the engine fails meanwhile."""
    from midsession.testbeds.docker.engine import connect, errors
    from midsession.testbeds.docker.journal import Journal
    from midsession.testbeds.docker.sweep import remove_unsettled

    deadline_s = time.monotonic() + _WITHIN_S
    while (rest_s := deadline_s - time.monotonic()) > 0:
        try:
            api = connect(engine)
            left = remove_unsettled(api, projects, rest_s, _SCANS)
            api.close()
        except errors():
            time.sleep(_PAUSE_S)
            continue
        if not left:
            journal = Journal(Path(state))
            for project in projects:
                journal.end(project)
        return


if __name__ == "__main__":
    main(*sys.argv[1:3])
