"""The path of a kill: from the record that triggers it to the SIGKILL, and on to the first peer that sees EOF or RST.

    python -m benchmarks.netns --only kills [--rounds 7]

In each run one server is killed and started again many times, in the middle of its clients' sessions, so that the tail
can be seen. All instants are CLOCK_MONOTONIC of one machine: the triggering record's, as its client took it before it
wrote it; the agent's just before kill(2); the client's when its socket told it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figures
from midsession import rundir
from midsession.core.history import History
from midsession.language import plans
from midsession.runner import run_plan
from midsession.testbeds.netns.testbed import NetnsTestbed

CROWDS = (10, 100, 1000)
KILLS_EACH = 25

KILLS = """
name: {kills} kills under {n} clients
timeout: 10m
services:
  server: {{reference: {{behaviour: reply}}, port: 4000}}
clients:
  talkers:
    count: {n}
    connect: server:4000
    arrive: {{over: 500ms}}
    on_loss: {{reconnect: {{first: 100ms, factor: 1, jitter: 50%, attempts: 100}}}}
    script:
      - repeat:
          until: enough
          script:
            - send: {{line: "Hi"}}
            - expect: {{line: "Got your message ✅", within: 10s}}
            - wait: {wait}
timeline:
  - id: return-0
    when: {{every: talkers, event: replied}}
    note: all talk
{steps}
  - when: {{every: talkers, event: lost, since: kill-{kills}}}
    signal: enough
checks:
  - every: talkers
    meets: lost
    since: kill-{kills}
    within: 1s
"""

ONE_KILL = """
  - id: kill-{number}
    when: {{event: replied, of: talkers, count: {count}, since: return-{before}}}
    kill: server
  - id: return-{number}
    when: {{after: kill-{number}, wait: 50ms}}
    start: server
"""


def kills_scenario(clients: int, kills: int) -> str:
    """A server that is killed and started so many times, each time in the middle of its clients' sessions."""
    steps = [ONE_KILL.format(number=n, before=n - 1, count=max(20, clients)) for n in range(1, kills + 1)]
    last = steps[-1][: steps[-1].index("  - id: return-")]
    return KILLS.format(n=clients, kills=kills, wait=f"{clients}ms", steps="".join([*steps[:-1], last]))


async def kills(figures: Figures, folder: Path, rounds: int) -> None:
    """Kill servers under small and large crowds."""
    testbed = NetnsTestbed()
    path = folder / "kills.scenario.yaml"
    try:
        for _ in range(rounds):
            for clients in CROWDS:
                path.write_text(kills_scenario(clients, KILLS_EACH))
                result = await run_plan(plans(path, 1)[0], testbed, folder / "kill-runs")
                _add(figures, clients, rundir.read_history(result.directory))
    finally:
        await testbed.shut()


def _add(figures: Figures, clients: int, history: History) -> None:
    killed = [record for record in history.events("injected") if record.fields["verb"] == "kill"]
    assert len(killed) == KILLS_EACH, f"{len(killed)} kills"
    triggers = {record.fields["step"]: record.fields["by"] for record in history.events("triggered")}
    losses = [record.t_ns for record in history.events("lost") if record.fields["how"] in ("eof", "reset")]
    for record in killed:
        began_ns, by_ns = record.fields["began_ns"], triggers[record.fields["fault"]]["t_ns"]
        seen_ns = next(t_ns for t_ns in losses if t_ns >= began_ns)
        figures.add(f"{clients} clients: record to SIGKILL, ms", (began_ns - by_ns) / 1e6)
        figures.add(f"{clients} clients: SIGKILL to first EOF or RST, ms", (seen_ns - began_ns) / 1e6)
        figures.add(f"{clients} clients: record to first EOF or RST, ms", (seen_ns - by_ns) / 1e6)
