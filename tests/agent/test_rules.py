"""What a fault says about packets, as nftables' text: requests in, rules out, no kernel."""

from __future__ import annotations

from typing import Any

import pytest

from midsession.agent.answer import Refused
from midsession.agent.network.rules import rules
from midsession.agent.protocol import Filter

OPEN = [("10.0.1.3", 40001, 4000), ("10.0.1.2", 40000, 4000)]

IN, OUT = 'iifname != "lo" ip daddr 10.0.0.2', 'oifname != "lo" ip saddr 10.0.0.2'
TCP = "meta l4proto tcp"

CHAINS: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
    (
        {},
        {
            "input": [f"{IN} counter name seen_cut counter name hit_cut drop"],
            "output": [f"{OUT} counter name seen_cut counter name hit_cut drop"],
        },
    ),
    (
        {"peers": ["10.0.1.2", "10.0.1.3"], "direction": "to"},
        {"input": [f"{IN} ip saddr {{ 10.0.1.2, 10.0.1.3 }} counter name seen_cut counter name hit_cut drop"]},
    ),
    (
        {"protocol": "udp", "own_port": 53, "direction": "from"},
        {"output": [f"{OUT} meta l4proto udp th sport 53 counter name seen_cut counter name hit_cut drop"]},
    ),
    (
        {"own_port": 4000, "peer_port": 40000, "direction": "to"},
        {
            "input": [
                f"{IN} meta l4proto {{ tcp, udp }} th dport 4000 th sport 40000 "
                "counter name seen_cut counter name hit_cut drop"
            ]
        },
    ),
    (
        {"which": "request", "act": "reset", "direction": "to"},
        {
            "input": [
                f"{IN} {TCP} tcp flags & (syn | ack) == syn counter name seen_cut counter name hit_cut "
                "reject with tcp reset"
            ]
        },
    ),
    (
        {"which": "opening", "peer_port": 4000, "direction": "from"},
        {
            "output": [
                f"{OUT} {TCP} th dport 4000 tcp flags & syn == syn counter name seen_cut counter name hit_cut drop"
            ]
        },
    ),
    (
        {"which": "live", "direction": "from"},
        {
            "output": [
                f"{OUT} {TCP} ip daddr . tcp dport . tcp sport @live_cut counter name seen_cut "
                "counter name hit_cut drop"
            ]
        },
    ),
    (
        {"over_bytes": 600, "every": 10, "direction": "to"},
        {"prerouting": [f"{IN} ip length > 600 counter name seen_cut numgen inc mod 10 9 counter name hit_cut drop"]},
    ),
    (
        {"share": 0.05, "direction": "to"},
        {"prerouting": [f"{IN} counter name seen_cut numgen random mod 1000000 < 50000 counter name hit_cut drop"]},
    ),
    (
        {"share": 1.0, "direction": "to"},
        {"input": [f"{IN} counter name seen_cut counter name hit_cut drop"]},
    ),
    (
        {"idle_s": 5.0, "direction": "to", "act": "reset"},
        {
            "input": [
                f"{IN} {TCP} tcp flags & rst == rst return",
                f"{IN} {TCP} tcp flags & (syn | ack) == syn "
                "update @known_cut { ip saddr . tcp sport . tcp dport } return",
                f"{IN} {TCP} ip saddr . tcp sport . tcp dport @known_cut "
                "update @known_cut { ip saddr . tcp sport . tcp dport } return",
                f"{IN} {TCP} counter name seen_cut counter name hit_cut reject with tcp reset",
            ]
        },
    ),
]


@pytest.mark.parametrize(("asked", "chains"), CHAINS)
def test_a_request_is_these_rules(asked: dict[str, Any], chains: dict[str, list[str]]) -> None:
    """Word for word, in order; nothing is said of a way that was not asked for."""
    assert rules(Filter(id=0, fault="cut", own="10.0.0.2", **asked), OPEN).chains == chains


@pytest.mark.parametrize(
    ("asked", "name", "spec"),
    [
        (
            {"which": "live"},
            "live_cut",
            "{ type ipv4_addr . inet_service . inet_service;  "
            "elements = { 10.0.1.2 . 40000 . 4000, 10.0.1.3 . 40001 . 4000 }; }",
        ),
        (
            {"idle_s": 0.25},
            "known_cut",
            "{ type ipv4_addr . inet_service . inet_service; flags dynamic, timeout; timeout 250ms; size 65535; "
            "elements = { 10.0.1.2 . 40000 . 4000, 10.0.1.3 . 40001 . 4000 }; }",
        ),
    ],
)
def test_open_connections_are_a_set_of_its_own(asked: dict[str, Any], name: str, spec: str) -> None:
    """With the connections that are open at that moment, each once."""
    assert rules(Filter(id=0, fault="cut", own="10.0.0.2", **asked), [*OPEN, *OPEN]).sets == {name: spec}


@pytest.mark.parametrize(
    "asked",
    [
        {"fault": "a;b"},
        {"fault": ""},
        {"fault": "x" * 65},
        {"own": "10.0.0.2; drop"},
        {"own": "server"},
        {"peers": ["::1"]},
        {"own_port": 0},
        {"peer_port": 65536},
        {"over_bytes": -1},
        {"every": 0},
        {"share": 0.0},
        {"idle_s": 0.0},
        {"act": "reset"},
        {"act": "reset", "which": "live", "direction": "to"},
        {"act": "reset", "which": "request", "direction": "from"},
        {"every": 10},
        {"share": 0.5, "direction": "from"},
        {"over_bytes": 600, "direction": "to", "act": "reset", "which": "request"},
        {"packets": [3], "direction": "to", "idle_s": 1.0},
    ],
)
def test_what_can_be_no_rule_is_refused(asked: dict[str, Any]) -> None:
    """Before anything is said to the kernel: no text of a request gets into a rule unless it is a number or a name."""
    with pytest.raises((Refused, ValueError)):
        rules(Filter(**{"id": 0, "fault": "cut", "own": "10.0.0.2", **asked}), OPEN)
