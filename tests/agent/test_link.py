"""An interface that several faults have down: what the kernel says, in a network namespace of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from midsession.agent.protocol import Finish, Link, Relink, Renumber, Unrenumber
from tests.agent.conductor import Agent, Refusal, TestConductor
from tests.agent.test_cures import SERVE
from tests.agent.test_filter import NAMESPACE, OWN, inside

BEYOND = OWN.rpartition(".")[0] + ".254"
"""A gateway of its network."""
pytestmark = pytest.mark.netns


NOTHING_SWITCHES = """
from types import SimpleNamespace
from midsession.agent.network import link
link.fcntl = SimpleNamespace(ioctl=lambda *_: None)"""


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """An agent whose namespace has the interface `v0`; sabotaged by a parameter."""
    process = Agent(code=getattr(request, "param", "") + SERVE, prefix=NAMESPACE)
    yield process
    process.end()


@pytest.fixture
def conductor(agent: Agent, tmp_path: Path) -> TestConductor:
    """Its conductor, in a run that has begun."""
    conductor = agent.conductor(tmp_path)
    conductor.begin()
    inside(agent, "ip", "link", "add", "v0", "type", "veth", "peer", "v1")
    inside(agent, "ip", "address", "add", f"{OWN}/24", "dev", "v0")
    inside(agent, "ip", "link", "set", "v0", "up")
    return conductor


def is_up(agent: Agent) -> bool:
    """Whether somebody has switched it on."""
    (told,) = json.loads(inside(agent, "ip", "-j", "link", "show", "v0"))
    return "UP" in told["flags"]


def link(fault: str, up: bool) -> Link:
    return Link(id=0, fault=fault, own=OWN, up=up)


def events(conductor: TestConductor) -> list[tuple[str, str]]:
    return [(r.event, r.fields["fault"]) for r in conductor.book()]


def test_a_short_fault_that_is_healed_leaves_a_long_one_in_force(agent: Agent, conductor: TestConductor) -> None:
    """The interface comes up when the last of them is healed, in whatever order; each has its own records."""
    conductor.ask(link("long", up=False))
    conductor.ask(link("short", up=False))
    conductor.ask(Relink(id=0, fault="short"))
    assert not is_up(agent)
    conductor.ask(Relink(id=0, fault="long"))
    assert is_up(agent)
    assert events(conductor) == [
        ("injected", "long"),
        ("witnessed", "long"),
        ("injected", "short"),
        ("witnessed", "short"),
        ("healed", "short"),
        ("healed", "long"),
    ]


def test_the_gap_of_a_flap_does_not_lift_another_fault(agent: Agent, conductor: TestConductor) -> None:
    """Up in between is up as far as the flap goes; it is injected and healed once, and healed in its gap as well."""
    conductor.ask(link("flap", up=False))
    conductor.ask(link("flap", up=True))
    assert is_up(agent)
    conductor.ask(link("vanish", up=False))
    conductor.ask(link("flap", up=False))
    conductor.ask(link("flap", up=True))
    assert not is_up(agent)
    conductor.ask(Relink(id=0, fault="flap"))
    assert not is_up(agent)
    conductor.ask(Relink(id=0, fault="vanish"))
    assert is_up(agent)
    assert [fault for event, fault in events(conductor) if event == "injected"] == ["flap", "vanish"]
    assert [fault for event, fault in events(conductor) if event == "healed"] == ["flap", "vanish"]


def test_a_way_out_comes_back_with_the_interface(agent: Agent, conductor: TestConductor) -> None:
    """The kernel takes routes away with the link; also where the host has moved before, and is back meanwhile."""
    inside(agent, "ip", "route", "add", "default", "via", BEYOND, "dev", "v0")
    conductor.ask(link("flap", up=False))
    assert "via" not in inside(agent, "ip", "route")
    conductor.ask(link("flap", up=True))
    assert f"default via {BEYOND}" in inside(agent, "ip", "route")
    conductor.ask(Relink(id=0, fault="flap"))
    conductor.ask(Renumber(id=0, fault="move", own=OWN, address=BEYOND[:-1] + "3", update=False))
    conductor.ask(Link(id=0, fault="down", own=BEYOND[:-1] + "3", up=False))
    conductor.ask(Unrenumber(id=0, fault="move"))
    conductor.ask(Relink(id=0, fault="down"))
    assert f"default via {BEYOND}" in inside(agent, "ip", "route")


def test_a_way_out_comes_back_when_the_last_of_several_faults_lets_go(agent: Agent, conductor: TestConductor) -> None:
    """One that begins while the interface is down finds no routes, and must not take that for what there was."""
    inside(agent, "ip", "route", "add", "default", "via", BEYOND, "dev", "v0")
    for fault in ("long", "short"):
        conductor.ask(link(fault, up=False))
    for fault in ("short", "long"):
        conductor.ask(Relink(id=0, fault=fault))
    assert f"default via {BEYOND}" in inside(agent, "ip", "route")


@pytest.mark.parametrize("agent", [NOTHING_SWITCHES], indirect=True)
def test_a_link_that_stays_up_is_no_fault(agent: Agent, conductor: TestConductor) -> None:
    """The kernel is asked whether it has switched it: nothing is `injected` that has no effect."""
    with pytest.raises(Refusal, match="v0 did not go down"):
        conductor.ask(link("down", up=False))
    assert is_up(agent)
    assert events(conductor) == []


def test_a_host_that_nobody_reaches_moves_nowhere(agent: Agent, conductor: TestConductor) -> None:
    """Where no name service would hear of it, a move with the link down would be taken for one that was seen."""
    move = Renumber(id=0, fault="move", own=OWN, address=BEYOND[:-1] + "3", update=False)
    conductor.ask(link("down", up=False))
    with pytest.raises(Refusal, match="v0 is down"):
        conductor.ask(move)
    conductor.ask(Relink(id=0, fault="down"))
    conductor.ask(move)
    assert [fault for event, fault in events(conductor) if event == "injected"] == ["down", "move"]


def test_the_end_of_the_run_lifts_them_all(agent: Agent, conductor: TestConductor) -> None:
    """Whatever was not healed is, and says so."""
    for fault in ("a", "b"):
        conductor.ask(link(fault, up=False))
    conductor.ask(Finish(id=0))
    assert is_up(agent)
    assert [fault for event, fault in events(conductor) if event == "healed"] == ["a", "b"]
