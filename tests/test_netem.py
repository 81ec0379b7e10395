"""Links impaired on another kernel, Debian's User-Mode Linux, booted by tools/uml: by netem, and then by a queue.

That kernel has netem, and a queue of packets only by the older tables of iptables, once their module is loaded. So one
boot shows both: netem where there is no queue, and, when the remedy that was told has been taken, the queue. It has no
nftables for IPv4 and no SOCK_DESTROY: what is not measured and not run there is named, with what the kernel lacks.
One boot for everything, and few commands, since most of the time goes into beginning them.
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
REMEDY = "modprobe ip_tables"
QUEUE, RULES, DESTROY = REMEDY, "CONFIG_NF_TABLES_IPV4", "CONFIG_INET_DIAG_DESTROY"
"""What the kernel there lacks, as the remedy says it."""

MEASURED = {"nothing": "-", "delay": "netem", "bursts of loss": "netem", "rate": "netem"}
"""The cases of the calibration that can be measured there without a queue, and by what they are carried out."""
MEASURED_LATER = dict.fromkeys(("jitter", "duplicate", "reorder", "corrupt", "hold"), "queue")
"""Those that can be with one."""
NOT_MEASURED = dict.fromkeys(
    ("each tenth lost", "two lost", "each tenth lost of a stream", "two lost of a stream", "mtu", "loss"), RULES
)
RUN = ("delay", "rate")
"""The scenarios of `scenarios/faults` that break a network and can be run there without a queue."""
RUN_LATER = ("corrupt", "duplicate", "hold", "jitter", "reorder", "flap", "readdress", "vanish")
"""Those that can be with one; the last three need none. Those that only break programs are the same on any kernel, and
are left out."""
NOT_RUN = {
    **dict.fromkeys(("dns", "idle_expiry", "ignore", "loss", "mtu", "partition", "power_off", "refuse"), RULES),
    "reset": DESTROY,
}
IMPAIRED_LATER = RUN_LATER[:5]
LACKING = {**dict.fromkeys(IMPAIRED_LATER, QUEUE), **NOT_RUN}
PATIENCE_S = 600.0

pytestmark = pytest.mark.netem


def twice(command: str, off: str, what: str) -> str:
    """A command that is given a second chance: what else a machine does for a moment delays packets, and programs, but
    a wrong fault is wrong twice. `off` are the exit codes that call for it."""
    again = f"case $code in {off}) echo again; {command}; code=$?;; esac"
    return f"echo; echo {what}; {command}; code=$?; {again}; echo {what} exited with $code"


def calibrate(*cases: str) -> str:
    """The command that measures these cases; all of them where none is named."""
    named = "".join(f" --case '{case}'" for case in cases)
    return f"{MIDSESSION} doctor --calibrate --for netns{named}"


def run(runs: str, *names: str) -> str:
    """The command that runs these scenarios."""
    paths = " ".join(f"scenarios/faults/{name}.scenario.yaml" for name in names)
    return f"{MIDSESSION} run {paths} --testbed netns --runs /run/{runs}"


def injected(runs: str) -> str:
    """The command that shows the records of what was injected in these runs."""
    shown = f'grep --no-filename \'"event":"injected"\' /run/{runs}/*/events/*'
    return f"echo; echo {runs}; {shown}; echo {runs} exited with $?"


@pytest.fixture(scope="module")
def account() -> str:
    """What that kernel has to say: the calibration, the scenarios, the cures, and the records of injections."""
    commands = (
        "uname --kernel-release",
        twice(calibrate(), "1", "calibration"),
        twice(run("by_netem", *RUN, *LACKING), "1|3|11", "scenarios"),
        f"{sys.executable} -m tests.agent.shaping",
        REMEDY,
        twice(calibrate(*MEASURED_LATER), "1", "later calibration"),
        twice(run("by_queue", *RUN_LATER), "1|3|11", "later scenarios"),
        injected("by_netem"),
        injected("by_queue"),
    )
    command = [str(ROOT / "tools/uml"), "sh", "-c", "; ".join(commands)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def last(account: str, what: str) -> str:
    """What was said by the last of the commands called `what`."""
    said = account.partition(f"\n{what}\n")[2].partition(f"\n{what} exited with ")[0]
    return said.rpartition("\nagain\n")[2]


def measured(account: str, what: str) -> list[tuple[str, str, str]]:
    """The sign, the name and the mechanism of each case that was measured."""
    return re.findall(r"^([✓✗]) (\S.*?) +by (\S+)", last(account, what), re.MULTILINE)


def words(account: str, what: str) -> dict[str, str]:
    """What came of each scenario."""
    lines = re.findall(r"^. (\w+) +scenarios/faults/(\w+)\.", last(account, what), re.MULTILINE)
    return {name: word for word, name in lines}


def impaired(account: str, runs: str) -> list[str]:
    """The records of the impairments that were injected."""
    return re.findall(r'"verb":"impair".*', last(account, runs))


def test_it_is_another_kernel(account: str) -> None:
    """The rest would prove nothing about netem on the machine's own."""
    assert account.splitlines()[0] != Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_netem_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that netem can do, measured by a neutral probe, within the same tolerances as everywhere."""
    assert measured(account, "calibration") == [("✓", case, by) for case, by in MEASURED.items()], account
    assert "\ncalibration exited with 10\n" in account


def test_the_queue_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that needs it, by rules in the older tables once they are loaded, within the same tolerances."""
    assert measured(account, "later calibration") == [("✓", case, by) for case, by in MEASURED_LATER.items()], account
    assert "\nlater calibration exited with 0\n" in account


def test_what_cannot_be_measured_is_named_with_what_is_missing(account: str) -> None:
    """All the other cases, each with the part of a kernel that it needs."""
    lacking = {**dict.fromkeys(MEASURED_LATER, QUEUE), **NOT_MEASURED}
    found = re.findall(r"^· (\S.*?) +by - +(.*)$", last(account, "calibration"), re.MULTILINE)
    assert {case for case, _ in found} == set(lacking)
    assert [case for case, why in found if lacking[case] not in why] == []
    assert {case.name for case in CASES} == {*MEASURED, *lacking}


def test_scenarios_say_nothing_of_the_mechanism(account: str) -> None:
    """The same files as everywhere pass by netem, and by a queue that older tables feed; their records tell which."""
    found = words(account, "scenarios")
    assert {name: found[name] for name in RUN} == dict.fromkeys(RUN, "pass"), account
    assert words(account, "later scenarios") == dict.fromkeys(RUN_LATER, "pass"), account
    assert "\nlater scenarios exited with 0\n" in account
    by_netem, by_queue = impaired(account, "by_netem"), impaired(account, "by_queue")
    assert len(by_netem) >= len(RUN)
    assert all('"mechanism":"netem"' in record for record in by_netem)
    assert len(by_queue) >= len(IMPAIRED_LATER)
    assert all('"mechanism":"queue","rules":"iptables-legacy"' in record for record in by_queue)


def test_every_scenario_that_breaks_a_network_is_run_or_named() -> None:
    """None is left out without a reason."""
    found = {path.name.partition(".")[0]: plans(path, 1)[0] for path in collect([ROOT / "scenarios" / "faults"])}
    assert {name for name, plan in found.items() if needed_abilities(plan)} == {*RUN, *RUN_LATER, *NOT_RUN}


def test_what_cannot_be_run_is_named_with_what_is_missing(account: str) -> None:
    """Before any host is made, with the part of a kernel that each needs."""
    found, said = words(account, "scenarios"), last(account, "scenarios")
    assert {name: word for name, word in found.items() if name not in RUN} == dict.fromkeys(LACKING, "lacks")
    assert "\nscenarios exited with 10\n" in account
    for name, missing in LACKING.items():
        begin = said.index(f"scenarios/faults/{name}.scenario.yaml")
        assert missing in said[begin : begin + 1000], name


def test_netem_is_looked_after_when_it_ends(account: str) -> None:
    """A cure that leaves packets where they are led is refused (T9); those of the scenarios, left alone, are not."""
    assert "\nsabotaged cure refused: slow was to be healed, and is not: packets are still led through it\n" in account
