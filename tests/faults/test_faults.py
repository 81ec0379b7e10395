"""What each fault asks for, and what proves it."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from midsession.agent.network.impairment import Bursts, Corrupt, Delay, Duplicate, Hold, Impairment, Rate, Reorder
from midsession.agent.protocol import Destroy, Filter, Freeze, Impair, Kill, Link, Mislead, Relink, Renumber, Stop, Thaw
from midsession.core.plan import ClientPlan, Connect, GroupPlan, Instruction, Plan, Repeat
from midsession.core.record import Event, Record
from midsession.faults import FAULTS, build
from midsession.faults.base import Ability, Fault, Move, Rest, StartProgram, Unfit
from midsession.runner import FAULT_EVENTS
from midsession.testbeds.registry import TESTBEDS

OWN, TALKERS = "10.0.0.2", ["10.0.1.2", "10.0.1.3"]


class Stage:
    """A `Scene`: the server on 10.0.0.2, the talkers on 10.0.1.2 and 10.0.1.3, the first of them connected."""

    def __init__(self, address: str = "10.0.0.2") -> None:
        self.address, self.spare_address, self.peer = address, "10.0.9.2", "10.0.0.2:4000"

    @property
    def serves(self) -> bool:
        """Whether it is the server's."""
        return self.address == "10.0.0.2"

    def is_client(self, name: str) -> bool:
        """Two talkers there are."""
        return name in ("talkers-1", "talkers-2")

    def addresses(self, name: str) -> list[str]:
        """Of a service or group."""
        return {"server": ["10.0.0.2"], "spare": ["10.0.0.3"], "talkers": TALKERS}[name]

    def holds(self, address: str) -> bool:
        """Its own, and the spare one."""
        return address in (self.address, self.spare_address)

    def connections(self, name: str) -> list[tuple[str, str]]:
        """Of the one that is connected."""
        return [("10.0.1.2:40000", self.peer)] if name in ("talkers-1", "talkers") else []


def target_of(verb: str) -> str:
    """What the fault can target."""
    return "server" if "service" in FAULTS[verb].targets else "talkers"


def example(verb: str) -> Fault:
    """Any fault of that verb: the first of the table."""
    args = next(args for v, args, _ in INJECTIONS if v == verb)
    return build(verb, {"target": target_of(verb), **args})


EXITED: dict[str, Any] = {"code": None, "signal": "KILL", "by": "crash"}


def record(event: str, host: str = "server", **fields: Any) -> Record:
    return Record(event, 1, 1, None, None, fields, host, "agent", 1)


DOWN, UP = (Link(id=0, fault="crash", own=OWN, up=up) for up in (False, True))
RELINK = Relink(id=0, fault="crash")


def rule(**fields: Any) -> Filter:
    """A filter of the step."""
    return Filter(id=0, fault="crash", own=OWN, **fields)


def impair(how: Impairment, **fields: Any) -> Impair:
    """An impairment of the step."""
    return Impair(id=0, fault="crash", own=OWN, how=how, **fields)


INJECTIONS: list[tuple[str, dict[str, Any], list[Move]]] = [
    ("kill", {}, [Kill(id=0, signal="KILL", fault="crash")]),
    ("kill", {"signal": "TERM"}, [Kill(id=0, signal="TERM", fault="crash")]),
    ("stop", {}, [Stop(id=0, grace_s=5.0, fault="crash")]),
    ("stop", {"grace_s": 0.5}, [Stop(id=0, grace_s=0.5, fault="crash")]),
    ("start", {}, [StartProgram(fault="crash")]),
    ("restart", {}, [Stop(id=0, grace_s=5.0, fault="crash"), Rest(0.0), StartProgram()]),
    ("restart", {"after_s": 2.0}, [Stop(id=0, grace_s=5.0, fault="crash"), Rest(2.0), StartProgram()]),
    ("restart", {"how": "kill"}, [Stop(id=0, grace_s=0.0, fault="crash"), Rest(0.0), StartProgram()]),
    ("pause", {}, [Freeze(id=0, fault="crash")]),
    ("resume", {}, [Thaw(id=0, fault="crash")]),
    ("power_off", {}, [rule(), Kill(id=0, fault="crash")]),
    ("vanish", {}, [Stop(id=0, grace_s=0.0, fault="crash"), DOWN]),
    ("readdress", {}, [Renumber(id=0, fault="crash", own=OWN, address="10.0.9.2")]),
    ("partition", {}, [rule()]),
    ("partition", {"direction": "to", "state": "new"}, [rule(direction="to", which="opening")]),
    ("partition", {"state": "established", "with_": "talkers"}, [rule(which="live", peers=TALKERS)]),
    ("partition", {"target": (), "between": ("server", "talkers")}, [rule(peers=TALKERS)]),
    ("partition", {"target": ("server", "spare")}, [rule(spared=["10.0.0.2", "10.0.0.3"])]),
    ("partition", {"port": 4000, "protocol": "tcp"}, [rule(own_port=4000, protocol="tcp")]),
    ("loss", {"every": 10}, [rule(direction="to", every=10)]),
    ("loss", {"rate_share": 0.05}, [rule(direction="to", share=0.05)]),
    ("loss", {"packets": [3, 7]}, [rule(direction="to", packets=[3, 7])]),
    ("loss", {"rate_share": 0.1, "burst": 4}, [impair(Bursts(share=0.1, length=4), direction="to")]),
    ("hold", {}, [impair(Hold())]),
    ("hold", {"direction": "to", "with_": "talkers"}, [impair(Hold(), direction="to", peers=TALKERS)]),
    ("delay", {"latency_s": 0.05}, [impair(Delay(latency_s=0.05))]),
    (
        "delay",
        {"latency_s": 0.05, "jitter_s": 0.1, "distribution": "pareto", "direction": "from"},
        [impair(Delay(latency_s=0.05, jitter_s=0.1, distribution="pareto"), direction="from")],
    ),
    ("rate", {"bandwidth_bytes_per_s": 10_000}, [impair(Rate(bytes_per_s=10_000, queue_s=0.2))]),
    ("reorder", {"every": 3}, [impair(Reorder(every=3, late_s=0.01))]),
    ("duplicate", {"rate_share": 0.1}, [impair(Duplicate(share=0.1))]),
    ("corrupt", {"every": 5}, [impair(Corrupt(every=5))]),
    ("mtu", {"size_bytes": 600}, [rule(direction="to", over_bytes=600)]),
    ("flap", {"down_s": 0.1, "up_s": 0.2}, [DOWN, Rest(0.1), RELINK]),
    (
        "flap",
        {"down_s": 0.1, "up_s": 0.2, "times": 2},
        [DOWN, Rest(0.1), UP, Rest(0.2), DOWN, Rest(0.1), RELINK],
    ),
    ("refuse", {}, [rule(direction="to", which="request", act="reset")]),
    ("refuse", {"with_": "talkers"}, [rule(direction="to", which="request", act="reset", peers=TALKERS)]),
    ("ignore", {}, [rule(direction="to", which="request")]),
    ("dns", {"says": "nxdomain"}, [Mislead(id=0, fault="crash", name="server")]),
    ("dns", {"says": "timeout"}, [Mislead(id=0, fault="crash", name="server", silent=True)]),
    ("dns", {"says": "wrong"}, [Mislead(id=0, fault="crash", name="server", address=OWN)]),
    ("dns", {"says": "wrong", "to": "spare"}, [Mislead(id=0, fault="crash", name="server", address="10.0.0.3")]),
    ("idle_expiry", {"after_s": 5.0}, [rule(idle_s=5.0)]),
    (
        "idle_expiry",
        {"after_s": 0.5, "how": "reset", "with_": "talkers"},
        [rule(idle_s=0.5, act="reset", peers=TALKERS)],
    ),
    ("reset", {"end": "server"}, [Destroy(id=0, peers=TALKERS, fault="crash")]),
    (
        "reset",
        {"target": ("talkers-1",), "end": "server"},
        [Destroy(id=0, own=OWN, peers=["10.0.1.2"], own_port=4000, peer_port=40000, fault="crash")],
    ),
]

WITNESSES: list[tuple[str, dict[str, Any], Record]] = [
    ("kill", {}, record("exited", **EXITED)),
    ("kill", {"signal": "TERM"}, record("exited", code=0, signal=None)),
    ("stop", {}, record("exited", code=0, signal=None)),
    ("start", {}, record("listening", port=4000)),
    ("restart", {}, record("listening", port=4000)),
    ("pause", {}, record("frozen", pids=1)),
    ("resume", {}, record("thawed", pids=1)),
    ("power_off", {}, record("exited", **EXITED)),
    ("power_off", {}, record("witnessed", by="counter")),
    ("vanish", {}, record("witnessed", by="link")),
    ("readdress", {}, record("witnessed", by="address")),
    ("partition", {}, record("witnessed", by="counter")),
    ("loss", {"every": 10}, record("witnessed", by="counter")),
    ("loss", {"rate_share": 0.1, "burst": 4}, record("witnessed", by="queue")),
    ("hold", {}, record("witnessed", by="queue")),
    ("delay", {"latency_s": 0.05}, record("witnessed", by="queue")),
    ("rate", {"bandwidth_bytes_per_s": 10_000}, record("witnessed", by="queue")),
    ("reorder", {"every": 3}, record("witnessed", by="queue")),
    ("duplicate", {"every": 3}, record("witnessed", by="queue")),
    ("corrupt", {"every": 3}, record("witnessed", by="queue")),
    ("mtu", {"size_bytes": 600}, record("witnessed", by="counter")),
    ("flap", {"down_s": 0.1, "up_s": 0.2}, record("witnessed", by="link")),
    ("refuse", {}, record("witnessed", by="counter")),
    ("ignore", {}, record("witnessed", by="counter")),
    ("dns", {"says": "nxdomain"}, record("witnessed", by="query")),
    ("idle_expiry", {"after_s": 1.0}, record("witnessed", by="counter")),
    ("reset", {}, record("witnessed", by="sockets")),
]


@pytest.mark.parametrize(("verb", "args", "moves"), INJECTIONS)
def test_what_a_fault_does(verb: str, args: dict[str, Any], moves: list[Move]) -> None:
    """Request by request, in order."""
    assert list(build(verb, {"target": target_of(verb), **args}).inject("crash", Stage())) == moves


@pytest.mark.parametrize("verb", FAULTS)
def test_every_fault_is_tested_here(verb: str) -> None:
    """A new fault needs its rows in both tables above."""
    assert verb in {v for v, _, _ in INJECTIONS}
    assert verb in {v for v, _, _ in WITNESSES}


@pytest.mark.parametrize(("verb", "args", "witness"), WITNESSES)
def test_only_its_own_witness_proves_a_fault(verb: str, args: dict[str, Any], witness: Record) -> None:
    """No other event does. (Whose record it is, and of which step, the runner looks at.)"""
    fault = build(verb, {"target": target_of(verb), **args})
    assert fault.is_witness(witness)
    assert witness.event in fault.watches | FAULT_EVENTS
    others = set(Event) - {w.event for v, _, w in WITNESSES if v == verb}
    assert len(others) > 20
    assert not any(fault.is_witness(record(e, **EXITED)) for e in others)


def test_a_power_off_needs_both_its_witnesses() -> None:
    """In any order; neither the exit nor a dropped packet alone, however often."""
    fault = build("power_off", {"target": "server"})
    exited, dropped = record("exited", **EXITED), record("witnessed", by="counter")
    assert fault.is_proven_by([exited, dropped])
    assert fault.is_proven_by([dropped, exited])
    assert not fault.is_proven_by([exited])
    assert not fault.is_proven_by([dropped, dropped])


@pytest.mark.parametrize("verb", FAULTS)
def test_the_first_request_bears_the_step(verb: str) -> None:
    """So that there is an `injected` record, whose instant is the fault's."""
    first, *_ = example(verb).inject("crash", Stage())
    assert getattr(first, "fault", "") == "crash"


@pytest.mark.parametrize("verb", FAULTS)
def test_what_can_be_healed_has_a_cure_and_nothing_else_has(verb: str) -> None:
    """The cure bears the step too."""
    fault = example(verb)
    assert [r.fault for r in fault.heal("crash", Stage())] == (["crash"] if fault.healable else [])  # type: ignore[union-attr]


@pytest.mark.parametrize("verb", FAULTS)
def test_a_fault_says_exactly_what_it_does(verb: str) -> None:
    """Its docstring is its entry in the docs; it is frozen, filed under its verb, and names its target."""
    kind = FAULTS[verb]
    fault = example(verb)
    assert kind.__module__ == f"midsession.faults.{verb}"
    assert "took effect when" in " ".join((kind.__doc__ or "").split())
    assert fault.describe().startswith(f"{verb} {fault.whom}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        fault.target = "other"  # type: ignore[misc]


def test_a_client_that_is_not_connected_cannot_be_reset() -> None:
    """The step fails, with the client's name."""
    with pytest.raises(Unfit, match="talkers-2 has no open connection"):
        build("reset", {"target": "talkers-2"}).inject("crash", Stage())


ONE_CLIENT: list[tuple[str, dict[str, Any], Move]] = [
    ("reset", {"target": "talkers"}, Destroy(id=0, own="10.0.1.2", fault="crash")),
    (
        "reset",
        {"target": "talkers-1"},
        Destroy(id=0, own="10.0.1.2", peers=["10.0.0.2"], own_port=40000, peer_port=4000, fault="crash"),
    ),
    (
        "loss",
        {"target": "talkers-1", "every": 10},
        Filter(id=0, fault="crash", own="10.0.1.2", connections=[("10.0.0.2", 4000, 40000)], direction="to", every=10),
    ),
    (
        "partition",
        {"target": "talkers", "port": 4000},
        Filter(id=0, fault="crash", own="10.0.1.2", peer_port=4000),
    ),
]


@pytest.mark.parametrize(("verb", "args", "move"), ONE_CLIENT)
def test_a_fault_on_the_host_of_clients(verb: str, args: dict[str, Any], move: Move) -> None:
    """A client is its connection, and nothing else of its host; a port is that of the service."""
    assert list(build(verb, args).inject("crash", Stage("10.0.1.2"))) == [move]


def test_a_client_of_another_host_is_left_to_that_host() -> None:
    """No request for a connection that does not end here."""
    assert list(build("reset", {"target": "talkers-1"}).inject("crash", Stage("10.0.1.3"))) == []


@pytest.mark.parametrize("name", ["talkers", "talkers-1"])
def test_a_reset_at_the_server_happens_where_the_clients_are_connected(name: str) -> None:
    """At another service, or at the spare address of one that has moved; not at the one they might be connected to."""
    fault = build("reset", {"target": name, "end": "server"})
    peers = {"talkers": TALKERS, "talkers-1": ["10.0.1.2"]}[name]
    for at, peer in (("10.0.0.3", "10.0.0.3:4000"), ("10.0.0.3", "10.0.9.2:4000")):
        there, elsewhere = Stage(at), Stage("10.0.0.2")
        there.peer = elsewhere.peer = peer
        elsewhere.spare_address = "10.0.9.3"
        (destroy,) = fault.inject("crash", there)
        assert isinstance(destroy, Destroy)
        assert destroy.peers == peers
        assert list(fault.inject("crash", elsewhere)) == []


def test_a_reset_of_two_groups_destroys_the_sockets_of_each_on_its_own_hosts() -> None:
    """No host is asked for the sockets of a group that it does not play."""
    fault = build("reset", {"target": ["talkers", "spare"]})
    assert [list(fault.inject("crash", Stage(at))) for at in ("10.0.1.2", "10.0.0.3")] == [
        [Destroy(id=0, own="10.0.1.2", fault="crash")],
        [Destroy(id=0, own="10.0.0.3", fault="crash")],
    ]


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("partition", {"with_": "server"}),
        ("refuse", {"with_": "server"}),
        ("ignore", {"with_": "server"}),
        ("loss", {}),
        ("loss", {"every": 2, "rate_share": 0.1}),
        ("loss", {"every": 0}),
        ("loss", {"every": 2, "packets": [3]}),
        ("loss", {"packets": []}),
        ("loss", {"packets": [0]}),
        ("loss", {"every": 2, "burst": 4}),
        ("loss", {"rate_share": 1.0, "burst": 4}),
        ("loss", {"rate_share": 0.9, "burst": 4}),
        ("loss", {"rate_share": 0.1, "burst": 0.5}),
        ("hold", {"with_": "server"}),
        ("delay", {"latency_s": 0.0}),
        ("delay", {"latency_s": 0.01, "jitter_s": 0.02}),
        ("delay", {"latency_s": 0.01, "distribution": "normal"}),
        ("rate", {"bandwidth_bytes_per_s": 10}),
        ("rate", {"bandwidth_bytes_per_s": 1000, "queue_s": 0.0}),
        ("reorder", {}),
        ("reorder", {"every": 2, "late_s": 0.0}),
        ("reorder", {"every": 1}),
        ("reorder", {"rate_share": 1.0}),
        ("duplicate", {"every": 2, "rate_share": 0.5}),
        ("corrupt", {"rate_share": 0.0}),
        ("loss", {"rate_share": 0.0}),
        ("mtu", {"size_bytes": 40}),
        ("flap", {"down_s": 1.0, "up_s": 1.0, "times": 0}),
        ("partition", {"between": ("server", "talkers")}),
        ("partition", {"target": "", "between": ("server", "talkers"), "with_": "talkers"}),
        ("partition", {"target": ""}),
        ("refuse", {"port": 0}),
        ("dns", {"says": "timeout", "to": "spare"}),
        ("dns", {"says": "wrong", "target": ("server", "spare")}),
        ("dns", {"says": "wrong", "to": "server"}),
        ("idle_expiry", {"after_s": 0.0}),
        ("idle_expiry", {"after_s": 1.0, "protocol": "udp"}),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_run(verb: str, args: dict[str, Any]) -> None:
    """ValueError, which the language shows with its place."""
    with pytest.raises(ValueError, match=r"'\w+'"):
        build(verb, {"target": "server", **args})


@pytest.mark.parametrize("name", ["talkers", "talkers-2"])
def test_a_reset_happens_on_the_host_of_its_end(name: str) -> None:
    """The clients' fleets, or every service that they may connect to."""
    script: list[Instruction] = [Repeat([Connect("spare", 4000)], times=2)]
    group = GroupPlan("talkers", "server", 4000, script, [ClientPlan(2, 0.0, "")])
    plan = Plan("p", "p.yaml", 1, 1.0, [], [group], [], [])
    assert list(build("reset", {"target": name}).places(plan)) == [name]
    assert list(build("reset", {"target": name, "end": "server"}).places(plan)) == ["server", "spare"]


def test_a_name_is_lied_about_wherever_a_client_may_ask_for_it() -> None:
    """Also where only the script says that it connects there."""
    script: list[Instruction] = [Connect("spare", 4000)]
    groups = [GroupPlan("talkers", "server", 4000, script, []), GroupPlan("others", "server", 4000, [], [])]
    plan = Plan("p", "p.yaml", 1, 1.0, [], groups, [], [])
    asked = {
        name: list(build("dns", {"target": name, "says": "nxdomain"}).places(plan)) for name in ("server", "spare")
    }
    assert asked == {"server": ["talkers", "others"], "spare": ["talkers"]}


def test_what_a_fault_may_need_is_to_be_had_somewhere() -> None:
    """Each ability is offered by a testbed of the table: else the fault could be injected nowhere."""
    offered = frozenset[str]().union(*(entry.offers for entry in TESTBEDS.values()))
    assert len(get_args(Ability)) >= 8
    assert set(get_args(Ability)) <= offered
