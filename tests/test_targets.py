"""Whom a fault may be aimed at: names, groups, clients by number, choices; what is refused, and where it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midsession.core.plan import Plan
from midsession.errors import ScenarioError
from midsession.language import plans

SCENARIO = """\
name: Aim
services:
  a: {{reference: reply, port: 4000}}
  b: {{reference: reply, port: 4000}}
  c: {{reference: reply, port: 4000}}
clients:
  talkers: {{count: 5, connect: a:4000, script: [end]}}
  loner: {{connect: b:4000, script: [end]}}
timeline:
  - id: hit
    when: {{at: 1s}}
    {fault}
checks:
  - never: {{event: protocol_error}}
"""
TALKERS = [f"talkers-{n}" for n in range(1, 6)]


def aimed(folder: Path, fault: str, seed: int = 1) -> Plan:
    path = folder / "aim.scenario.yaml"
    path.write_text(SCENARIO.format(fault=fault))
    (plan,) = plans(path, seed)
    return plan


def targets(folder: Path, fault: str, seed: int = 1) -> list[str]:
    return aimed(folder, fault, seed).timeline[0].targets


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("kill: a", ["a"]),
        ("kill: {target: talkers}", ["talkers"]),
        ("kill: {all: [a, c]}", ["a", "c"]),
        ("kill: {target: {all: [a, talkers]}, signal: TERM}", ["a", "talkers"]),
        ("reset: talkers-5", ["talkers-5"]),
        ("reset: {all: talkers}", TALKERS),
        ("reset: {target: loner-1, end: server}", ["loner-1"]),
        ("loss: {target: talkers-2, every: 10}", ["talkers-2"]),
        ("partition: {between: [a, talkers]}", ["a", "talkers"]),
        ("loss: {target: {all: [talkers-1, loner-1]}, packets: [3]}", ["talkers-1", "loner-1"]),
    ],
)
def test_what_can_be_aimed_at(tmp_path: Path, fault: str, names: list[str]) -> None:
    """The plan says it name by name."""
    assert targets(tmp_path, fault) == names


@pytest.mark.parametrize(
    ("fault", "among", "size"),
    [
        ("kill: {one: [a, b, c]}", ["a", "b", "c"], 1),
        ("partition: {target: {minority: [a, b, c]}}", ["a", "b", "c"], 1),
        ("partition: {target: {majority: [a, b, c]}}", ["a", "b", "c"], 2),
        ("partition: {target: {majority: [a, b, c]}, port: 4000, protocol: tcp}", ["a", "b", "c"], 2),
        ("partition: {target: {one: [a, talkers-1]}, protocol: tcp, state: established}", ["a", "talkers-1"], 1),
        ("reset: {one: talkers}", TALKERS, 1),
        ("reset: {target: {minority: talkers}, end: server}", TALKERS, 2),
    ],
)
def test_the_seed_chooses(tmp_path: Path, fault: str, among: list[str], size: int) -> None:
    """So many of those, the same for the same seed, others for others; the plan's hash tells them apart."""
    drawn = {seed: tuple(targets(tmp_path, fault, seed)) for seed in range(40)}
    assert {len(set(chosen)) for chosen in drawn.values()} == {size}
    assert {name for chosen in drawn.values() for name in chosen} == set(among)
    assert targets(tmp_path, fault, 7) == list(drawn[7])
    args: Any = aimed(tmp_path, fault, 7).timeline[0].args["target"]
    assert args == (drawn[7][0] if size == 1 else list(drawn[7]))


@pytest.mark.parametrize(
    ("fault", "slug", "said"),
    [
        ("kill: d", "unknown-subject", "there is no service or client group 'd'"),
        ("start: d", "unknown-service", "there is no service 'd'"),
        ("kill: {one: [a, d]}", "unknown-subject", "'d'"),
        ("kill: talkers-3", "wrong-target", "a group of its own"),
        ("kill: {one: talkers}", "wrong-target", "a group of its own"),
        ("refuse: talkers-3", "wrong-target", "it must be a service, like 'a'"),
        ("reset: talkers-6", "unknown-group", "'talkers-6'"),
        ("reset: talkers-0", "unknown-group", "'talkers-0'"),
        ("reset: a", "wrong-target", "cannot target the service 'a'"),
        ("partition: {target: {minority: [a, b]}}", "out-of-range", "a minority of 2 is nobody"),
        ("reset: {minority: loner}", "out-of-range", "a minority of 1 is nobody"),
        ("kill: {one: [a, a]}", "duplicate-id", "'a' is named twice"),
        ("kill: {one: 3}", "wrong-type", "expected a list, not 3"),
        ("kill: {one: []}", "out-of-range", "at least 1"),
        ("kill: {target: {some: [a, b]}}", "", "some"),
        ("kill: {one: [a], all: [b]}", "", "one"),
        ("partition: {between: [a, d]}", "unknown-subject", "'d'"),
        ("partition: {between: [a]}", "out-of-range", "2"),
        ("partition: {between: [a, b], target: c}", "bad-value", "either 'target' or 'between'"),
        ("partition: {state: new}", "bad-value", "either 'target' or 'between'"),
        ("partition: {target: {all: [a, b]}, with: b}", "bad-value", "'with' names the target itself"),
        ("partition: {target: {all: [talkers, talkers-1]}}", "wrong-target", "add a step for each"),
        ("loss: {target: {majority: [a, talkers-1]}, every: 2}", "wrong-target", "add a step for each"),
        ("reset: {all: [loner, talkers-1]}", "wrong-target", "add a step for each"),
        ("partition: {target: talkers-1, state: new}", "wrong-target", "leave 'state' out"),
        ("partition: {target: {one: [a, talkers-1]}, state: new}", "wrong-target", "leave 'state' out"),
        ("loss: {target: {one: talkers}, rate: 10%, burst: 3}", "wrong-target", "leave 'burst' out"),
        ("mtu: {target: talkers-1, size: 600B, protocol: udp}", "wrong-target", "leave 'protocol' out"),
        ("kill: {one: a}", "wrong-target", "write 'kill: a', or a list of names"),
        ("partition: {target: {all: a}}", "wrong-target", "write 'partition: a', or a list of names"),
        ("reset: {minority: talkers-3}", "wrong-target", "is a client"),
        ("kill: {one: d}", "unknown-subject", "there is no service or client group 'd'"),
        ("dns: {target: a, says: wrong, to: a}", "bad-value", "that would be the truth"),
        ("reorder: {target: a, every: 1}", "bad-value", "at least 2"),
        ("reorder: {target: a, rate: 100%}", "bad-value", "less than 100%"),
        ("refuse: {target: a, protocol: udp}", "bad-value", "UDP has no connections"),
        ("ignore: {target: a, port: 70000}", "bad-value", "'port'"),
    ],
)
def test_what_cannot_be_aimed_at(tmp_path: Path, fault: str, slug: str, said: str) -> None:
    """With the place, the value and a remedy; never a traceback."""
    with pytest.raises(ScenarioError) as caught:
        aimed(tmp_path, fault)
    problem = caught.value.problems[0]
    assert slug in problem.slug
    assert said in f"{problem.message}; {problem.remedy}"
    assert problem.place is not None
    assert problem.place.line == 12
