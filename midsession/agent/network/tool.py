"""The one way in which an agent runs a tool of the system's: nft, iptables, ip, tc.

The agent does nothing else meanwhile, so that every tool is bounded.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from midsession.agent import privilege
from midsession.agent.answer import Refused
from midsession.agent.tools import which

WITHIN_S = 5.0


def run(argv: list[str], text: str = "", more: Mapping[str, str] | None = None) -> str:
    """What it prints, given `text` on its standard input and `more` in its environment; it has our capabilities.

    Raises Refused when there is no such tool, when it does not end in time, and with its own first line when it fails;
    OSError when it cannot be started.
    """
    name, *arguments = argv
    path = which(name)
    if path is None:
        raise Refused(f"there is no {name} on this host")
    try:
        with privilege.lent():
            done = subprocess.run(
                [path, *arguments],
                input=text.encode(),
                env={**os.environ, **(more or {})},
                capture_output=True,
                timeout=WITHIN_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise Refused(f"{name} has not ended: not within {WITHIN_S:g} s") from None
    if done.returncode:
        raise Refused(f"{name}: {first_line(done.stderr)}")
    return done.stdout.decode()


def first_line(said: bytes) -> str:
    """What an error says, in its first line."""
    return (said.decode(errors="replace").strip().splitlines() or ["it says nothing"])[0]
