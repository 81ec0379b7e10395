"""The harness's end of the reaper: starts it, and tells it what it will have to clean up."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from midsession.errors import HarnessError

_START_S = 10.0


class Guard:
    """A running reaper. `pipe` is to be inherited by every process that makes things in the engine."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    @staticmethod
    async def start(engine: str, state: Path) -> Guard:
        """Start a reaper; it is on watch when this returns. Raises HarnessError when it does not come up."""
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        module = f"{__package__}.reaper"
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, engine, str(state), stdin=theirs, start_new_session=True
            )
        finally:
            os.close(theirs)
        guard = Guard(ours)
        try:
            async with asyncio.timeout(_START_S):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            guard.dismiss()
            raise HarnessError(f"the reaper on watch: not within {_START_S:g} s", "no-reaper") from None
        if status:
            guard.dismiss()
            raise HarnessError(f"the reaper ended with status {status}", "no-reaper")
        return guard

    def begins(self, project: str) -> None:
        """This project is about to be made."""
        self._tell(f"+{project}")

    def ended(self, project: str) -> None:
        """Nothing is left of it."""
        self._tell(f"-{project}")

    def spawned(self, pid: int) -> None:
        """This process makes things in the engine, and leads a group of its own."""
        self._tell(f"@{pid}")

    def dismiss(self) -> None:
        """It cleans up what was not ended, and goes."""
        os.close(self.pipe)

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # somebody has killed it: the next start's sweep does its work
            os.write(self.pipe, line.encode() + b"\n")
