"""The whole path with real agents, server and fleets as processes on loopback; only hosts of their own are missing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from midsession.core.logfile import LogState
from midsession.core.plan import Plan
from midsession.core.record import Record
from midsession.language import plans
from midsession.rundir import read_files, read_history
from midsession.runner import Listener, RunResult, run_plan
from tests.local import LocalTestbed, free_port

SCENARIOS = Path(__file__).parent.parent / "scenarios"
CLIENTS = 10
REPLIES = 300


def kill_plan(directory: Path) -> Plan:
    """The shipped kill scenario with ten clients on a free port."""
    text = (SCENARIOS / "kill" / "server-dies-mid-session.scenario.yaml").read_text()
    swaps = {"4000": str(free_port()), "count: 500": f"count: {REPLIES}", "count: 50\n": f"count: {CLIENTS}\n"}
    for old, new in swaps.items():
        assert old in text
        text = text.replace(old, new)
    path = directory / "kill.scenario.yaml"
    path.write_text(text)
    (plan,) = plans(path, 7)
    return plan


def run_it(
    plan: Plan, directory: Path, listener: Listener | None = None, fleets: int = 2
) -> tuple[RunResult, LocalTestbed]:
    async def main() -> tuple[RunResult, LocalTestbed]:
        testbed = LocalTestbed(fleets)
        return await run_plan(plan, testbed, directory / "runs", listener), testbed

    return asyncio.run(main())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One run of the kill scenario, with one fleet: so the order of arrival is that of its file."""
    directory = tmp_path_factory.mktemp("killed")
    result, _ = run_it(kill_plan(directory), directory, fleets=1)
    return result


def test_the_server_is_killed_and_everybody_comes_back(killed: RunResult) -> None:
    """The run ends by itself, every step fired, every client lost its server and ended well."""
    assert (killed.why_ended, killed.unfired, killed.problems) == ("done", [], [])
    history = read_history(killed.directory)
    assert [o.word for o in history.outcomes.values()] == ["ok"] * CLIENTS
    lost = {r.client for r in history.events("lost") if r.fields["how"] in {"eof", "reset"}}
    assert len(lost) == CLIENTS


def test_the_kill_names_exactly_the_reply_that_the_trigger_counts_to(killed: RunResult) -> None:
    """The record that is named is the 300th reply in its fleet's file, not the one before and not the one after."""
    history = read_history(killed.directory)
    story = history.steps["crash"]
    replies = [r for r in read_files(killed.directory)["client-1.program.1.jsonl"].records if r.event == "replied"]
    assert len(replies) > REPLIES
    assert history.find(story.cause) == replies[REPLIES - 1]
    assert history.find(story.witness).fields["signal"] == "KILL"  # type: ignore[union-attr]
    assert story.injected is not None
    assert 0 < story.injected.fields["began_ns"] - replies[REPLIES - 1].t_ns < 1_000_000_000


def test_every_log_is_whole_but_the_killed_servers(killed: RunResult) -> None:
    """Its file is cut, and as long as its agent saw it at its death: nothing of it is lost."""
    files = read_files(killed.directory)
    states = {name: log.state for name, log in files.items()}
    assert states.pop("server.program.1.jsonl") == LogState.CUT
    assert set(states.values()) == {LogState.COMPLETE}
    assert len(states) == 5  # conductor, two agents, the fleet, the second server
    exited = next(r for r in files["server.agent.1.jsonl"].records if r.event == "exited")
    assert exited.fields["event_bytes"] == files["server.program.1.jsonl"].whole_bytes


def test_a_second_run_is_another_run(killed: RunResult, tmp_path: Path) -> None:
    """Nothing of the first is in its way."""
    result, testbed = run_it(kill_plan(tmp_path), tmp_path)
    assert result.why_ended == "done"
    assert result.run != killed.run
    assert [agent.returncode for agent in testbed.agents] == [0, 0, 0]


class InterruptAt(Listener):
    """Sends SIGINT to ourselves when the first client is connected."""

    wants = frozenset({"connected"})

    def __init__(self) -> None:
        self.at_s = 0.0

    def on_record(self, record: Record) -> None:
        if record.event == "connected" and not self.at_s:
            self.at_s = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_leaves_the_logs_and_nothing_else(tmp_path: Path) -> None:
    """Everything is gone in seven seconds; every log is whole; every client has its outcome: stopped."""
    listener = InterruptAt()
    result, testbed = run_it(kill_plan(tmp_path), tmp_path, listener)
    assert time.monotonic() - listener.at_s < 7
    assert (result.why_ended, result.problems) == ("interrupted", [])
    assert [agent.returncode for agent in testbed.agents] == [0, 0, 0]
    states = {log.state for log in read_files(result.directory).values()}
    assert states == {LogState.COMPLETE}
    outcomes = read_history(result.directory).outcomes
    assert {o.reason for o in outcomes.values()} == {"stopped"}
