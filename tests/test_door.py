"""The Python door: one call runs a scenario, and what comes back can be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import midsession
from midsession import door, rundir
from midsession.core.verdict import Status
from midsession.errors import ScenarioError
from midsession.faults.base import Ability
from midsession.testbeds.docker import CLIENTS_VARIABLE
from midsession.testbeds.registry import (
    CONTAINERS,
    HOSTS,
    TESTBEDS,
    choose,
    make,
    more_fleets,
    offering,
    replay_command,
)
from tests.test_cli import GOOD, stored
from tests.test_pytest_plugin import MATRIX


def test_the_public_door_is_the_list(tmp_path: Path) -> None:
    """Every name of `__all__` is there and is what it says; no other name is made up."""
    for name in midsession.__all__:
        assert getattr(midsession, name) is not None
    with pytest.raises(AttributeError):
        _ = midsession.walk


def test_importing_the_package_is_cheap() -> None:
    """Agents and fleets import it inside every host."""
    code = "import midsession, sys; print(*[m for m in sys.modules if m.startswith('midsession.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_scenario_with_several_plans_must_be_narrowed(tmp_path: Path) -> None:
    """The message names the combinations that there are."""
    path = tmp_path / "two.scenario.yaml"
    path.write_text(MATRIX)
    with pytest.raises(ScenarioError, match=r"\[n=1\], \[n=2\].*keyword"):
        midsession.run(path, testbed="netns", runs=tmp_path / "runs")


@pytest.mark.netns
def test_judging_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also by the checks of the run's own scenario, read as a file of checks: its places and variables are the same."""
    path = tmp_path / "good.scenario.yaml"
    path.write_text(
        MATRIX.replace("within: 5s", "within: ${{ matrix.patience }}").replace("n: [", "patience: [4s], n: [")
    )
    run = midsession.run(path, testbed="netns", seed=7, runs=tmp_path / "runs", keyword="n=2")
    stored_bytes = (run.directory / "verdict.json").read_bytes()
    assert rundir.encode_verdict(door.judged(run.directory).verdict) == stored_bytes
    assert rundir.encode_verdict(door.judged(run.directory, checks=path).verdict) == stored_bytes


@pytest.mark.netns
def test_a_run_can_be_asked_what_happened(tmp_path: Path) -> None:
    """Verdict, events by group, and the run directory; twice in one process."""
    path = tmp_path / "good.scenario.yaml"
    path.write_text(GOOD)
    for seed in (7, 8):
        run = midsession.run(path, testbed="netns", seed=seed, runs=tmp_path / "runs")
        assert run.verdict.status is Status.PASS
        assert run.exit_code == 0
        assert run.events("replied").of("talker").count == 1
        assert run.plan.seed == seed
        assert (run.directory / "report.html").exists()


def test_what_root_wrote_is_given_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    """In a container that runs as root, the files on the host are the user's; links are not followed."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    outside = tmp_path / "outside"
    outside.write_text("mine")
    run = stored(tmp_path / "runs" / "one")
    (run / "link").symlink_to(outside)
    os.chown(tmp_path / "runs", 1234, 2345)
    door.give_to_owner(run, tmp_path / "runs")
    everything = [run, *run.rglob("*")]
    assert len(everything) > 6
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in everything} == {(1234, 2345)}
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize("name", list(TESTBEDS))
def test_every_testbed_of_the_table_can_be_made(name: str) -> None:
    """Its class is where the table says, under its own name."""
    assert make(name).name == name
    assert choose(name) == name


def test_the_table_says_which_testbed_has_the_ability_that_a_fault_needs() -> None:
    """Every ability is somebody's; a testbed whose agents lack one names those that have it, and never itself."""
    abilities = get_args(Ability)
    assert {need for entry in TESTBEDS.values() for need in entry.offers} == {*abilities, HOSTS, CONTAINERS}
    lacking = [(name, need) for name, entry in TESTBEDS.items() for need in abilities if need not in entry.offers]
    assert len(lacking) >= 7
    for name, need in lacking:
        remedy = make(name).remedy_for(need)
        assert remedy is not None
        assert {other for other in TESTBEDS if other in remedy} == set(offering(need))


def test_a_user_is_told_how_to_get_more_hosts_where_there_may_be_too_few() -> None:
    """In the testbed's own words; nothing of one that always makes enough, or that nobody knows."""
    assert more_fleets("compose", 4) == "--scale client=4"
    assert more_fleets("docker", 4) == f"{CLIENTS_VARIABLE}=4"
    assert (more_fleets("netns", 4), more_fleets("moon", 4)) == ("", "")


def test_a_replay_command_names_all_that_the_run_depends_on() -> None:
    """Path, seed and combination, quoted for a shell; nothing for a testbed that nobody knows."""
    assert replay_command("netns", "a b.yaml", 7) == "midsession run 'a b.yaml' --testbed netns --seed 7"
    assert replay_command("netns", "a.yaml", 7, "[n=1]") == "midsession run a.yaml --testbed netns --seed 7 -k '[n=1]'"
    assert replay_command("compose", "a.yaml", 7, "[n=1]") == "SCENARIO=a.yaml SEED=7 VARIANT='[n=1]' make up"
    assert replay_command("compose", "a.yaml", 7, fleets=2) == "SCENARIO=a.yaml SEED=7 make up"
    assert replay_command("compose", "a.yaml", 7, fleets=8) == "SCENARIO=a.yaml SEED=7 CLIENTS=8 make up"
    assert replay_command("moon", "a.yaml", 7) == ""
