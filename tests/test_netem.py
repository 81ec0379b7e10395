"""Links impaired by netem, on a kernel that has it: Debian's User-Mode Linux, booted by tools/uml.

There is no packet queue for us there, so the same words in a scenario are carried out by netem and tbf. One boot for
everything, since most of the time goes into it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIDSESSION = f"{sys.executable} -m midsession"
CALIBRATED = ("delay", "jitter", "bursts of loss", "rate")
SCENARIOS = ("delay", "rate")
PATIENCE_S = 300.0

pytestmark = pytest.mark.netem


@pytest.fixture(scope="module")
def account() -> str:
    """What a kernel with netem has to say: the calibration, two scenarios, and the records of what was injected."""
    cases = " ".join(f"--case '{case}'" for case in CALIBRATED)
    calibrate = f"{MIDSESSION} doctor --calibrate {cases}"
    paths = " ".join(f"scenarios/faults/{name}.scenario.yaml" for name in SCENARIOS)
    commands = (
        "uname --kernel-release",
        # Twice at most: what else a machine does for a moment delays packets too, but a wrong fault is wrong twice.
        f"{calibrate} || ( echo again; {calibrate} ); echo calibration exited with $?",
        f"{MIDSESSION} run {paths} --testbed netns --runs /run/runs; echo scenarios exited with $?",
        'grep --no-filename \'"event":"injected"\' /run/runs/*/events/*',
    )
    command = [str(ROOT / "tools/uml"), "sh", "-c", "; ".join(commands)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_another_kernel(account: str) -> None:
    """The rest would prove nothing about netem on the machine's own."""
    assert account.splitlines()[0] != Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_netem_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that netem can do, measured by a neutral probe, within the same tolerances as everywhere."""
    last = account.rpartition("\nagain\n")[2]
    assert re.findall(r"^(.) (\S.*?) +by (\S+)", last, re.MULTILINE) == [("✓", c, "netem") for c in CALIBRATED]
    assert "calibration exited with 0" in account


def test_scenarios_say_nothing_of_the_mechanism(account: str) -> None:
    """The same files as with a packet queue pass, and their records tell that it was netem."""
    assert "scenarios exited with 0" in account
    impaired = re.findall(r'"verb":"impair".*', account)
    assert len(impaired) == len(SCENARIOS)
    assert all('"mechanism":"netem"' in record for record in impaired)
