"""The promises in Python of `scenarios/lesson/`: kept, and broken in each way that they are there for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from midsession.core.history import History
from midsession.core.verdict import Finding, Status
from midsession.rundir import judge_history
from tests.build import World

SCENARIO = Path(__file__).parent.parent / "scenarios" / "lesson" / "x.scenario.yaml"


def judged(w: World, function: str) -> Finding:
    """What the lesson's check says of this world."""
    w.check("python", python=f"lesson.py::{function}")
    plan = msgspec.structs.replace(w.plan, source=str(SCENARIO))
    return judge_history(History.of(plan, w.files())).findings[len(w.checks) - 1]


def greeted(addresses: list[str], greetings: list[str], known: list[str]) -> Finding:
    """A crowd at these addresses, greeted by others, known to the server by yet others."""
    w = World(crowd=len(addresses))
    for n, (own, told, peer) in enumerate(zip(addresses, greetings, known, strict=True), 1):
        w.serves("accepted", 0.1, connection=n, peer=peer)
        client = w.client(f"crowd-{n}").says("connecting", 0.1, connection=1, to="server:4000")
        client.says("connected", 0.1, connection=1, local=own, peer="10.0.0.1:4000", took_ns=1)
        client.says("received", 0.2, connection=1, bytes=6, text="Hello ")
        client.says("received", 0.2, connection=1, bytes=1, text=f"{told}, I hear you 👋\n")
        client.says("closed", 0.3, connection=1, had_error=False, bytes_in=0, bytes_out=0).ends(0.3)
    return judged(w, "each_is_greeted_by_its_own_address")


A, B, C = "10.0.0.2:40001", "10.0.0.2:40002", "10.0.0.2:40003"


@pytest.mark.parametrize(
    ("addresses", "greetings", "known", "status"),
    [
        ([A, B], [A, B], [B, A], Status.PASS),
        ([A, B], ["a:1", "a:1"], [A, B], Status.FAIL),  # one greeting for all
        ([A, B], [B, A], [A, B], Status.FAIL),  # each that of another
        ([A, A], [A, A], [A, A], Status.FAIL),  # not told apart
        ([A, B], [A, B], [A, C], Status.FAIL),  # accepted from somewhere else
    ],
)
def test_a_hundred_addresses(addresses: list[str], greetings: list[str], known: list[str], status: Status) -> None:
    """Each client's own address, another for each, is the one that the server knows and says."""
    assert greeted(addresses, greetings, known).status is status


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ({1: 1.5, 2: 1.999, 3: 1.1}, Status.PASS),
        ({1: 1.5, 3: 1.1}, Status.FAIL),  # one victim unheard, though as many ended
        ({1: 1.5, 2: 2.1, 3: 1.1}, Status.FAIL),
        ({1: 1.5, 2: 0.9, 3: 1.1}, Status.FAIL),  # before the massacre: not by it
    ],
)
def test_the_ends_of_victims(ends: dict[int, float], status: Status) -> None:
    """Every victim's own connection is heard to end within a second; the ends of others count for nothing."""
    assert massacred(ends).status is status


def test_a_massacre_that_did_nothing_is_no_test_of_the_server() -> None:
    """Nobody was killed, so nobody had to be heard."""
    assert massacred({3: 1.1}, effective=False).status is Status.INCONCLUSIVE


def massacred(ends: dict[int, float], effective: bool = True) -> Finding:
    """Two victims and one that stays; the ends of their connections, by number, as the server hears them."""
    w = World(victims=2, stayers=1).step("massacre", at=1.0, verb="kill", target="victims", effective=effective)
    for n, name in enumerate(("victims-1", "victims-2", "stayers-1"), 1):
        address = f"10.0.0.2:5000{n}"
        w.serves("accepted", 0.1, connection=n, peer=address)
        client = w.client(name).says("connecting", 0.1, connection=1, to="server:4000")
        client.says("connected", 0.1, connection=1, local=address, peer="10.0.0.1:4000", took_ns=1)
    for n, at in ends.items():
        w.serves("end", at, connection=n)
    return judged(w, "each_victim_is_heard_to_end")
