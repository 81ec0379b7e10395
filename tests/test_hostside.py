"""What server and fleet do alike with the system under them."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHURN = """
import gc
from midsession.hostside import rarely_pause
held = [[n] for n in range(100_000)]
{rarely}
looks = []
gc.callbacks.append(lambda phase, info: looks.append(info["generation"]))
for n in range(150_000):
    held[n % 100_000] = [n]
    held.append([n])
print(len(looks))
"""


@pytest.mark.parametrize(("rarely", "looks"), [("rarely_pause()", False), ("", True)])
def test_a_crowd_of_sessions_is_not_held_up_by_a_look_for_garbage(rarely: str, looks: bool) -> None:
    """A program of ours makes as many objects as thousands of sessions without a pause; Python by itself has pauses."""
    done = subprocess.run(
        [sys.executable, "-c", CHURN.format(rarely=rarely)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (int(done.stdout) > 0) is looks
