"""Every shipped scenario that needs no image keeps its promises on netns: those of every testbed, see `shipped`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from midsession.core.fields import FIELDS, can_be, fields_of
from midsession.core.history import PROGRAM, History
from midsession.core.plan import Plan
from midsession.core.record import Event
from midsession.core.verdict import Verdict
from midsession.core.whose import Writer
from midsession.door import Bench
from midsession.testbeds.netns.testbed import NetnsTestbed
from midsession.testbeds.registry import has_containers
from tests.testbeds.shipped import PLANS, ROOT, assert_passes, name


def test_there_are_scenarios() -> None:
    """The suites below have something to run."""
    assert len(PLANS) >= 12


ON_NETNS = [plan for plan in PLANS if not has_containers(plan)]


class Performed(NamedTuple):
    """What is kept of a run: its verdict, and the fields of its records."""

    verdict: Verdict
    fields: frozenset[tuple[Event, str]]
    strange: list[str]


class Netns:
    """One warm testbed for all; each plan is run once, when its run is asked for first."""

    def __init__(self, loop: asyncio.Runner, bench: Bench) -> None:
        self._loop, self._bench = loop, bench
        self._performed: dict[str, Performed] = {}

    def run(self, plan: Plan) -> Performed:
        """The run of a plan."""
        if name(plan) not in self._performed:
            run = self._loop.run(self._bench.perform(plan))
            fields = frozenset((Event(r.event), key) for r in run.history for key in r.fields)
            self._performed[name(plan)] = Performed(run.verdict, fields, list(_strange(run.history)))
        return self._performed[name(plan)]


def _strange(history: History) -> Iterator[str]:
    """What stands in a record, and not in the table of what a check can ask for."""
    for r in history:
        player: Writer = "client" if r.host in history.fleets else "server"
        known = fields_of(Event(r.event), player if r.writer == PROGRAM else "agent")
        for key, value in r.fields.items():
            if key not in known or not (value is None or can_be(known[key], value)):
                yield f"{r.event} of {r.host}'s {r.writer}: {key} = {value!r}"


@pytest.fixture(scope="module")
def netns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Netns]:
    """The testbed of namespaces."""
    bench = Bench(NetnsTestbed(), tmp_path_factory.mktemp("runs"))
    with asyncio.Runner() as loop:
        yield Netns(loop, bench)
        loop.run(bench.shut())


@pytest.mark.netns
@pytest.mark.parametrize("plan", ON_NETNS, ids=name)
def test_on_netns(netns: Netns, plan: Plan) -> None:
    """No Docker, no root: the scenario passes in namespaces, and its records hold what the language knows of them."""
    performed = netns.run(plan)
    assert performed.strange == []
    assert_passes(performed.verdict)


UNSEEN = {
    "midsession/agent/network/filter.py": {(Event.INJECTED, "cut")},
    "midsession/agent/network/queueing.py": {(Event.HEALED, "overrun"), (Event.HEALED, "unsent")},
    "midsession/agent/network/stages.py": {(Event.WITNESSED, "bursts"), (Event.HEALED, "bursts")},
    "midsession/agent/blow.py": {(Event.EXITED, "maybe")},
    "midsession/agent/output.py": {(Event.LINE, "cut")},
    "midsession/agent/program.py": {(Event.EXITED, "left")},
    "midsession/core/pulse.py": {(Event.STALLED, "for_ns")},
    "midsession/core/session/expecting.py": {(Event.PROTOCOL_ERROR, key) for key in FIELDS[Event.PROTOCOL_ERROR]},
    "midsession/core/session/steps.py": {(Event.MARK, "barrier")},
    "midsession/runner/breaking.py": {(Event.NOTE, "failed")},
    "midsession/runner/life.py": {(Event.NOTE, "problem")},
}
"""The fields that a run has only when something goes wrong, or in containers, or that no shipped scenario asks for: who
writes them."""


@pytest.mark.netns
def test_every_field_that_a_check_can_ask_for_is_written(netns: Netns) -> None:
    """By a run of a shipped scenario, or by code that is named here: a check of another could not fail."""
    seen = frozenset(field for plan in ON_NETNS for field in netns.run(plan).fields)
    known = {(event, key) for event, fields in FIELDS.items() for key in fields}
    assert known - seen <= {field for fields in UNSEEN.values() for field in fields}
    assert len(seen) > 60
    for path, fields in UNSEEN.items():
        text = (ROOT / path).read_text()
        assert all(f'"{key}"' in text for _, key in fields), path
