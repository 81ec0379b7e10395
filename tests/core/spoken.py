"""A small language for tests, with faults and checks of its own, and a scenario that uses most of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from midsession.core.compile import compile_plan
from midsession.core.loader import in_order, parse, replace_variables
from midsession.core.plan import Plan
from midsession.core.record import Event
from midsession.core.references import reference_problems
from midsession.core.refers import GroupName, StepId, Subject
from midsession.core.scenario import Language
from midsession.core.shape import problems_of
from midsession.errors import Problem, ScenarioError


@dataclass(frozen=True, slots=True)
class Kill:
    """Dies."""

    target: str
    signal: Literal["KILL", "TERM"] = "KILL"


@dataclass(frozen=True, slots=True)
class Pause:
    """Freezes."""

    healable: ClassVar[bool] = True
    target: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Loses packets."""

    healable: ClassVar[bool] = True
    target: str
    rate_share: float
    burst_bytes: int | None = None
    after_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rate_share == 0:
            raise ValueError("no loss is no fault")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which records."""

    event: Event
    of: Subject | None = None
    where: dict[str, Any] = field(default_factory=dict)
    since: StepId | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """Each client."""

    every: GroupName
    meets: Event
    since: StepId | None = None
    within_s: float | None = None
    as_: str | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """Nobody."""

    never: Pattern


@dataclass(frozen=True, slots=True)
class Count:
    """So many."""

    count: Pattern
    equals: int
    each: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One after the other."""

    order: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A line."""

    said: str
    matches: str


LANGUAGE = Language(
    {"kill": Kill, "start": Pause, "pause": Pause, "loss": Loss},
    {"every": Every, "never": Never, "count": Count, "order": Order, "said": Said},
)

DESIGN = (Path(__file__).parent / "design.yaml").read_text(encoding="utf-8")
"""The scenario of the design, as it is printed there."""

SMALL = textwrap.dedent("""\
    name: small
    services:
      server: {reference: reply, port: 4000}
    clients:
      talkers:
        count: 2
        connect: server:4000
        script:
          - send: {line: hello}
          - expect: {line: world, within: 1s}
          - end
    timeline:
      - id: crash
        when: {at: 1s}
        kill: server
    checks:
      - never: {event: protocol_error}
    """)
"""Line 9 is the first verb, line 13 the first step, line 17 the only check."""


def problems(text: str | bytes, env: dict[str, str] | None = None) -> list[Problem]:
    """Everything that is wrong with a scenario without a matrix, in order."""
    data = text.encode() if isinstance(text, str) else text
    try:
        tree = parse(data, "x.yaml")
    except ScenarioError as error:
        return error.problems
    tree, found = replace_variables(tree, {}, env or {})
    found += reference_problems(tree, LANGUAGE)
    try:
        LANGUAGE.scenario.model_validate(tree.data)
    except ValidationError as error:
        found += problems_of(error, tree)
    return in_order(found)


def plan_of(text: str, seed: int = 7, path: str = "x.yaml", files: Mapping[str, bytes] = MappingProxyType({})) -> Plan:
    """The plan of a good scenario without a matrix."""
    assert problems(text) == []
    tree = parse(text.encode(), path)
    scenario = LANGUAGE.scenario.model_validate(tree.data)
    return compile_plan(scenario, tree, path=path, seed=seed, matrix={}, files=files)
