"""The warm process as the harness holds it: started once, then ordered to fork a world for each run.

It takes a moment to import what agents need, so whoever knows early that one will be wanted says so with `warm_up`, and
the next testbed takes that one.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from midsession.agent.tools import which
from midsession.errors import EnvironmentLacks

if TYPE_CHECKING:
    from midsession.testbeds.netns.world import WorldOrder

_spare: list[WarmProcess] = []


class WarmProcess:
    """A running template, see `midsession.testbeds.netns.world`. Raises EnvironmentLacks where it cannot serve."""

    def __init__(self) -> None:
        if which("ip") is None:
            raise EnvironmentLacks("the command `ip` is missing", "install iproute2", slug="no-iproute2")
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        module = f"{__package__}.template"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def order(self, world: WorldOrder, descriptors: Sequence[int]) -> None:
        """Have a world forked that holds `descriptors`: its `status`, then one per host."""
        import msgspec  # not at the top: the first of these processes is started ahead of everything else

        socket.send_fds(self._orders, [msgspec.json.encode(world)], list(descriptors))

    def end(self, within_s: float) -> None:
        """It ends with its orders; blocks until it has. Raises subprocess.TimeoutExpired."""
        self._orders.close()
        self._process.wait(within_s)


def warm_up() -> None:
    """Start one now, for the next testbed of this process."""
    if not _spare:
        _spare.append(WarmProcess())


def take() -> WarmProcess:
    """The one that was started early, or a fresh one."""
    return _spare.pop() if _spare else WarmProcess()
