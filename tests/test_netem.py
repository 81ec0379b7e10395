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
MIDSESSION = f"{sys.executable} -u -m midsession"
"""Unbuffered: what it says and what it complains of are in their order."""
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
LACKS = 10
"""The exit code where nothing is wrong but what the machine lacks."""
PATIENCE_S = 600.0

pytestmark = pytest.mark.netem


def twice(command: str, what: str, failed: str, again: str) -> str:
    """A command of which what failed is given a second chance: what else a machine does for a moment delays packets,
    and programs, but a wrong fault is wrong twice. `failed` is the sed(1) script that finds in what it says what the
    command `again` is to be given."""
    second = f"echo again; xargs -0 {again} </run/failed; code=$?"
    found = f"sed -n '{failed}' /run/said | tr '\\n' '\\0' >/run/failed"
    chance = f"{found}; [ ! -s /run/failed ] || {{ {second}; }}"
    return (
        f"echo; echo {what}; {command} >/run/said 2>&1; code=$?; cat /run/said; {chance}; echo {what} exited with $code"
    )


def calibrate(what: str, *cases: str) -> str:
    """The command that measures these cases; all of them where none is named."""
    command = f"{MIDSESSION} doctor --calibrate --for netns"
    named = "".join(f" --case '{case}'" for case in cases)
    return twice(command + named, what, r"s/^✗ \(.*[^ ]\) *by .*/--case=\1/p", command)


def run(what: str, runs: str, *names: str) -> str:
    """The command that runs these scenarios."""
    command = f"{MIDSESSION} run --testbed netns --runs /run/{runs}"
    paths = "".join(f" scenarios/faults/{name}.scenario.yaml" for name in names)
    bad = r"s/^. \(fail\|error\|inconclusive\) *\(scenarios[^ ]*\).*/\2/p"
    return twice(command + paths, what, bad, command)


def show(what: str, command: str) -> str:
    """A command whose output is told under that name."""
    return f"echo; echo {what}; {command}; echo {what} exited with $?"


def injected(runs: str) -> str:
    """The command that shows the records of what was injected in these runs."""
    return f'grep --no-filename \'"event":"injected"\' /run/{runs}/*/events/*'


@pytest.fixture(scope="module")
def account() -> str:
    """What that kernel has to say: the calibration, the scenarios, the cures, and the records of injections."""
    commands = (
        "uname --kernel-release",
        calibrate("calibration"),
        run("scenarios", "by_netem", *RUN, *LACKING),
        f"{sys.executable} -m tests.agent.shaping",
        REMEDY,
        calibrate("later calibration", *MEASURED_LATER),
        run("later scenarios", "by_queue", *RUN_LATER),
        show("by netem", injected("by_netem")),
        show("by queue", injected("by_queue")),
        show("rules of the machine", "iptables-legacy-save -t raw"),
    )
    command = [str(ROOT / "tools/uml"), "sh", "-c", "; ".join(commands)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def said(account: str, what: str) -> str:
    """What was said under that name, before any second chance."""
    return account.partition(f"\n{what}\n")[2].partition(f"\n{what} exited with ")[0].partition("\nagain\n")[0]


def came_to(account: str, what: str) -> int:
    """The exit code of that command: 0 too where what had failed at first did not at its second chance."""
    return int(account.partition(f"\n{what} exited with ")[2].partition("\n")[0])


def had_second_chance(account: str, what: str) -> bool:
    """Whether something had failed at first."""
    return "\nagain\n" in account.partition(f"\n{what}\n")[2].partition(f"\n{what} exited with ")[0]


def measured(account: str, what: str) -> dict[str, str]:
    """Each case that was measured, and the mechanism that it was carried out by."""
    return dict(re.findall(r"^[✓✗] (\S.*?) +by (\S+)", said(account, what), re.MULTILINE))


def words(account: str, what: str) -> dict[str, str]:
    """What came of each scenario at first."""
    lines = re.findall(r"^. (\w+) +scenarios/faults/(\w+)\.", said(account, what), re.MULTILINE)
    return {name: word for word, name in lines}


def impaired(account: str, what: str) -> list[str]:
    """The records of the impairments that were injected."""
    return re.findall(r'"verb":"impair".*', said(account, what))


def test_it_is_another_kernel(account: str) -> None:
    """The rest would prove nothing about netem on the machine's own."""
    assert account.splitlines()[0] != Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_netem_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that netem can do, measured by a neutral probe, within the same tolerances as everywhere."""
    assert measured(account, "calibration") == MEASURED
    assert came_to(account, "calibration") == (0 if had_second_chance(account, "calibration") else LACKS), account


def test_the_queue_does_what_was_asked_of_it(account: str) -> None:
    """Each fault that needs it, by rules in the older tables once they are loaded, within the same tolerances."""
    assert measured(account, "later calibration") == MEASURED_LATER
    assert came_to(account, "later calibration") == 0, account


def test_what_cannot_be_measured_is_named_with_what_is_missing(account: str) -> None:
    """All the other cases, each with the part of a kernel that it needs."""
    lacking = {**dict.fromkeys(MEASURED_LATER, QUEUE), **NOT_MEASURED}
    found = re.findall(r"^· (\S.*?) +by - +(.*)$", said(account, "calibration"), re.MULTILINE)
    assert {case for case, _ in found} == set(lacking)
    assert [case for case, why in found if lacking[case] not in why] == []
    assert {case.name for case in CASES} == {*MEASURED, *lacking}


def test_scenarios_say_nothing_of_the_mechanism(account: str) -> None:
    """The same files as everywhere pass by netem, and by a queue that older tables feed; their records tell which."""
    assert came_to(account, "scenarios") == (0 if had_second_chance(account, "scenarios") else LACKS), account
    assert came_to(account, "later scenarios") == 0, account
    assert {*words(account, "scenarios"), *words(account, "later scenarios")} == {*RUN, *RUN_LATER, *NOT_RUN}
    by_netem, by_queue = impaired(account, "by netem"), impaired(account, "by queue")
    assert len(by_netem) >= len(RUN)
    assert all('"mechanism":"netem"' in record for record in by_netem)
    assert len(by_queue) >= len(IMPAIRED_LATER)
    assert all('"mechanism":"queue","rules":"iptables-legacy"' in record for record in by_queue)


def test_the_older_tables_of_the_machine_itself_have_no_rule(account: str) -> None:
    """What fed the queue stood in the namespaces of the runs (L4)."""
    saved = said(account, "rules of the machine").splitlines()
    assert [line.partition(" ")[0] for line in saved if line.startswith((":", "-"))] == [":PREROUTING", ":OUTPUT"]


def test_every_scenario_that_breaks_a_network_is_run_or_named() -> None:
    """None is left out without a reason."""
    found = {path.name.partition(".")[0]: plans(path, 1)[0] for path in collect([ROOT / "scenarios" / "faults"])}
    assert {name for name, plan in found.items() if needed_abilities(plan)} == {*RUN, *RUN_LATER, *NOT_RUN}


def test_what_cannot_be_run_is_named_with_what_is_missing(account: str) -> None:
    """Before any host is made, with the part of a kernel that each needs."""
    found, told = words(account, "scenarios"), said(account, "scenarios")
    assert {name: word for name, word in found.items() if name not in RUN} == dict.fromkeys(LACKING, "lacks")
    for name, missing in LACKING.items():
        begin = told.index(f"scenarios/faults/{name}.scenario.yaml")
        assert missing in told[begin : begin + 1000], name


def test_netem_is_looked_after_when_it_ends(account: str) -> None:
    """A cure that leaves packets where they are led is refused (T9); those of the scenarios, left alone, are not."""
    assert "\nsabotaged cure refused: slow was to be healed, and is not: packets are still led through it\n" in account
