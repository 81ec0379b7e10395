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
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))",
        "ctypes.CDLL(None).syscall({'x86_64': 251, 'aarch64': 30}[os.uname().machine], 1, 0, 3 << 13)",  # ioprio_set
        "open('/proc/self/coredump_filter', 'w').write('0')",
        "open('/proc/self/timerslack_ns', 'w').write('90000000')",
        pytest.param(
            "open('/proc/self/autogroup', 'w').write('5')",
            marks=pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups"),
        ),
        "ctypes.CDLL(None).shmget(0, 4096, 0o1600)",
    ],
)
def test_what_a_program_inherits_or_finds_is_counted(change: str) -> None:
    """In namespaces and a session of its own, in which nothing else changes."""
    code = f"import ctypes, os, resource\nfrom midsession.agent.census import census\nbefore = census([])\n{change}\n"
    code += "after = census([])\nprint(*{key for key in before if before[key] != after[key]} - {'processes'})"
    argv = ["unshare", "--map-root-user", "--net", "--ipc", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT, start_new_session=True)
    assert done.stdout.strip() in ("ipc", "inherited")
