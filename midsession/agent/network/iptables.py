"""iptables(8): the pairs of tools that write and list the packet rules of this network namespace, and how they are run.

`iptables-restore` is what the distribution has chosen, by now mostly a way to write nftables. `iptables-legacy-restore`
writes the older tables (x_tables), which are the only ones of some kernels: Debian ships both. A kernel lets only root
of the whole machine load `ip_tables`, so that where it is a module, somebody must have: `modprobe ip_tables`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from midsession.agent.network import tool
from midsession.agent.tools import which

ENVIRONMENT = {"XTABLES_LOCKFILE": "/proc/self/ns/net"}
"""The older tables are locked by a file: by default the machine's own `/run/xtables.lock` (iptables(8), --wait), which
neither an ordinary user nor a read-only container can open. Rules are those of a network namespace, and so is this
lock: its file is the namespace itself."""


class Tools(NamedTuple):
    """What writes rules and what lists them, and the name that records call them by."""

    name: str
    restore: str
    save: str

    def write(self, lines: list[str]) -> None:
        """Change the table `raw` by some lines for iptables-restore(8), all or none. Raises Refused."""
        tool.run([self.restore, "--noflush"], raw(*lines), ENVIRONMENT)

    def list(self) -> list[str]:
        """The lines that iptables-save(8) has for the table `raw`. Raises Refused."""
        return tool.run([self.save, "-t", "raw"], more=ENVIRONMENT).splitlines()


ALL = (
    Tools("iptables", "iptables-restore", "iptables-save"),
    Tools("iptables-legacy", "iptables-legacy-restore", "iptables-legacy-save"),
)
"""In the order in which they are tried."""


def available() -> Iterator[Tools]:
    """Those of which this host has both."""
    return (tools for tools in ALL if which(tools.restore) and which(tools.save))


def raw(*lines: str) -> str:
    """The text of a change to the table `raw`."""
    return "\n".join(["*raw", *lines, "COMMIT", ""])
