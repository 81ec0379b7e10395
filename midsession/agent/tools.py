"""Where the system's tools are. On Debian, nft and iptables are in a folder that is on no ordinary user's PATH."""

from __future__ import annotations

import os
import shutil

BESIDES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def which(name: str) -> str | None:
    """The path of a tool: on PATH, else where tools for administrators are; None: there is none."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *BESIDES]))
