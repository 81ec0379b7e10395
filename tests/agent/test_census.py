"""What an agent counts on its host, so that one run cannot leave anything for the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "change",
    [
        "os.nice(3)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))",
        "open('/proc/self/oom_score_adj', 'w').write('500')",
        "ctypes.CDLL(None).shmget(0, 4096, 0o1600)",
    ],
)
def test_what_a_program_inherits_or_finds_is_counted(change: str) -> None:
    """In namespaces of its own, in which nothing else changes."""
    code = f"import ctypes, os, resource\nfrom midsession.agent.census import census\nbefore = census([])\n{change}\n"
    code += "after = census([])\nprint(*{key for key in before if before[key] != after[key]} - {'processes'})"
    argv = ["unshare", "--map-root-user", "--net", "--ipc", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() in ("ipc", "inherited")
