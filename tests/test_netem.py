"""Links impaired by netem, on a kernel that has it: Debian's User-Mode Linux, booted by tools/uml.

There is no packet queue for us there, so the same words in a scenario are carried out by netem and tbf. Nor are there
nftables for IPv4, or SOCK_DESTROY: what is not measured and not run there is named here, with what the kernel lacks.
One boot for everything, since most of the time goes into it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from midsession.calibration import CASES
from midsession.faults import needed_abilities
from midsession.language import collect, plans

ROOT = Path(__file__).parents[1]
MIDSESSION = f"{sys.executable} -m midsession"
QUEUE, RULES, DESTROY = "nfnetlink_queue", "CONFIG_NF_TABLES_IPV4", "CONFIG_INET_DIAG_DESTROY"
"""What the kernel there lacks, as the remedy says it."""

MEASURED = {"nothing": "-", "delay": "netem", "bursts of loss": "netem", "rate": "netem"}
"""The cases of the calibration that can be measured there, and by what they are carried out."""
NOT_MEASURED = {
    **dict.fromkeys(("jitter", "duplicate", "reorder", "corrupt", "hold"), QUEUE),
    **dict.fromkeys(("each tenth lost", "each tenth lost of a stream", "two lost", "two lost of a stream"), RULES),
    **dict.fromkeys(("loss", "mtu"), RULES),
}
RUN = ("delay", "flap", "rate", "readdress", "vanish")
"""The scenarios of `scenarios/faults` that break a network and can be run there. Those that only break programs are the
same on any kernel, and are left out."""
NOT_RUN = {
    **dict.fromkeys(("corrupt", "duplicate", "hold", "jitter", "reorder"), QUEUE),
    **dict.fromkeys(("dns", "idle_expiry", "ignore", "loss", "mtu", "partition", "power_off", "refuse"), RULES),
    "reset": DESTROY,
}
PATIENCE_S = 600.0

pytestmark = pytest.mark.netem


def twice(command: str, off: str, what: str) -> str:
    """A command that is given a second chance: what else a machine does for a moment delays packets, and programs, but
    a wrong fault is wrong twice. `off` are the exit codes that call for it."""
    again = f"case $code in {off}) echo again; {command}; code=$?;; esac"
    return f"echo; echo {what}; {command}; code=$?; {again}; echo {what} exited with $code"


def run(*names: str) -> str:
    """The command that runs these scenarios."""
    paths = " ".join(f"scenarios/faults/{name}.scenario.yaml" for name in names)
    return f"{MIDSESSION} run {paths} --testbed netns --runs /run/runs"


@pytest.fixture(scope="module")
def account() -> str:
    """What a kernel with netem has to say: the calibration, the scenarios, the cures, and the records of injections."""
    commands = (
        "uname --kernel-release",
        twice(f"{MIDSESSION} doctor --calibrate --for netns", "1", "calibration"),
        twice(run(*RUN), "1|3|11", "scenarios"),
        twice(run(*NOT_RUN), "none", "others"),
        f"{sys.executable} -m tests.agent.shaping",
        'grep --no-filename \'"event":"injected"\' /run/runs/*/events/*',
    )
    command = [str(ROOT / "tools/uml"), "sh", "-c", "; ".join(commands)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def last(account: str, what: str) -> str:
    """What was said by the last of the commands called `what`."""
    said = account.partition(f"\n{what}\n")[2].partition(f"{what} exited with ")[0]
    return said.rpartition("\nagain\n")[2]


def test_it_is_another_kernel(account: str) -> None:
    """The rest would prove nothing about netem on the machine's own."""
    assert account.splitlines()[0] != Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_netem_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that netem can do, measured by a neutral probe, within the same tolerances as everywhere."""
    found = re.findall(r"^([✓✗]) (\S.*?) +by (\S+)", last(account, "calibration"), re.MULTILINE)
    assert found == [("✓", case, by) for case, by in MEASURED.items()], account
    assert "calibration exited with 10\n" in account


def test_what_cannot_be_measured_is_named_with_what_is_missing(account: str) -> None:
    """All the other cases, each with the part of a kernel that it needs."""
    found = re.findall(r"^· (\S.*?) +by - +(.*)$", last(account, "calibration"), re.MULTILINE)
    assert {case for case, _ in found} == set(NOT_MEASURED)
    assert [case for case, why in found if NOT_MEASURED[case] not in why] == []
    assert {case.name for case in CASES} == {*MEASURED, *NOT_MEASURED}


def test_scenarios_say_nothing_of_the_mechanism(account: str) -> None:
    """The same files as with a packet queue pass, and their records tell that it was netem."""
    assert words(account, "scenarios") == dict.fromkeys(RUN, "pass"), account
    assert "scenarios exited with 0\n" in account
    impaired = re.findall(r'"verb":"impair".*', account)
    assert len(impaired) >= 2
    assert all('"mechanism":"netem"' in record for record in impaired)


def words(account: str, what: str) -> dict[str, str]:
    """What came of each scenario."""
    lines = re.findall(r"^. (\w+) +scenarios/faults/(\w+)\.", last(account, what), re.MULTILINE)
    return {name: word for word, name in lines}


def test_every_scenario_that_breaks_a_network_is_run_or_named() -> None:
    """None is left out without a reason."""
    found = {path.name.partition(".")[0]: plans(path, 1)[0] for path in collect([ROOT / "scenarios" / "faults"])}
    assert {name for name, plan in found.items() if needed_abilities(plan)} == {*RUN, *NOT_RUN}


def test_what_cannot_be_run_is_named_with_what_is_missing(account: str) -> None:
    """Before any host is made, with the part of a kernel that each needs."""
    said = last(account, "others")
    assert words(account, "others") == dict.fromkeys(NOT_RUN, "lacks")
    assert "others exited with 10\n" in account
    for name, missing in NOT_RUN.items():
        begin = said.index(f"scenarios/faults/{name}.scenario.yaml")
        assert missing in said[begin : begin + 1000], name


def test_netem_is_looked_after_when_it_ends(account: str) -> None:
    """A cure that leaves packets where they are led is refused (T9); one that is left alone is not."""
    assert "\ncure healed: {" in account
    assert "\nsabotaged cure refused: slow was to be healed, and is not: packets are still led through it\n" in account
