"""How soon a running client sees a fault: `python -m benchmarks.faults [ROUNDS [TESTBED]]`.

The goals: from the begin of the call that breaks something to its effect on running clients under 10 ms on netns, and
under 30 ms on docker. For each fault of the registry a scenario is made in which something happens every millisecond
or so that the fault would change at once, and is run ROUNDS times (7) on TESTBED (netns), all faults interleaved. Per
fault, in milliseconds:

    lag      from the record that fired the step to the begin of the call (median)
    call     how long that call took (median)
    proof    from the begin of the call to the agent's witness, without which the fault would not count (median)
    seen     from the begin of the call until all of its clients have seen it: median, p90 and the worst of the rounds
    how      what was seen

What is asked for is no time of the harness's: latencies are so long that a reply which meets one comes too late to be
one, and where that cannot be it is subtracted. Seen by `silence` is the last reply that any client still had in time;
by `end`, the EOF or RST that the last of the clients heard; by `no connect`, the last connect that still went well; by
`first`, the first message that was not answered, of whichever client, for a fault that spares packets; by `reply` and
`connect`, the first one, for what brings a program back; by `proof`, nothing but the agent's witness, for what no
program can see.

What remains in these numbers besides the harness's work: a packet or a reply that was under way, the gaps of the
traffic (for `first` and `idle_expiry` up to a millisecond), and for `start` the program's own start, which for a Python
is most of it. `restart` is seen by its end; its proof, by the listening of the program that was started. `readdress` is
seen by silence; its proof is that names lead there. `delay` and `rate` are proven when a packet has taken its time.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import percentile
from midsession.core.steps import StepStory
from midsession.door import Bench, Run
from midsession.faults import FAULTS
from midsession.language import plans
from midsession.testbeds.registry import make

ROUNDS = 7
LATE_NS = 150_000_000
GOALS_MS = {"netns": 10.0, "docker": 30.0}

SCENARIO = """
name: How soon {verb} is seen
timeout: 10s
services: {{server: {{reference: {{behaviour: reply}}, port: 4000{server}}}}}
clients:
  talkers:
    count: {clients}
    connect: server:4000
    connect_timeout: 300ms
    arrive: {{over: {arrive}}}
{script}
timeline:
{before}
  - {{id: fault, when: {when}, {step}}}
  - {{when: {{after: fault, wait: 350ms}}, signal: goodbye}}
{after}
checks: [{{count: {{event: triggered}}, at_least: 1}}]
"""
TALK = """
    script:
      - repeat:
          until: goodbye
          script: [send: {{line: {line}}}, expect: {{line: "Got your message ✅", within: 300ms}}, wait: {wait}]
"""
CONNECT = """
    on_loss: {reconnect: {first: 1ms, factor: 1, max: 1ms, attempts: 100000}}
    script: [repeat: {until: goodbye, script: [abort, wait: 1ms, connect]}]
"""
"""Connects are all that these clients do."""

HEAL = "  - {when: {after: fault, wait: 350ms}, heal: fault}"
"""So that who connects anew, again and again, can come to its end."""

Seen = Callable[[Run, StepStory, int], float | None]
"""When a fault was seen, in ns of its run; it began at the instant that is given. None: it was not."""


def _meanwhile(run: Run, story: StepStory, since_ns: int, event: str) -> list[list[int]]:
    """When it happened to each client while the fault was in force, late replies left out."""
    until_ns = story.healed.t_ns if story.healed else run.history.ended_ns
    found = run.events(event).of("talkers").since(since_ns).by_client().values()
    return [
        [record.t_ns for record in records if record.t_ns < until_ns and record.fields.get("rtt_ns", 0) < LATE_NS]
        for records in found
    ]


def last(event: str) -> Seen:
    """The last one; the begin itself where there was none."""

    def seen(run: Run, story: StepStory, since_ns: int) -> float | None:
        times = [max(each) for each in _meanwhile(run, story, since_ns, event) if each]
        return max(times, default=since_ns)

    return seen


def first(event: str) -> Seen:
    """The first one."""

    def seen(run: Run, story: StepStory, since_ns: int) -> float | None:
        return min((min(each) for each in _meanwhile(run, story, since_ns, event) if each), default=None)

    return seen


def every_end(run: Run, story: StepStory, since_ns: int) -> float | None:
    """When the last client lost its connection; all do."""
    times = [min(each) for each in _meanwhile(run, story, since_ns, "lost") if each]
    return max(times) if len(times) == len(run.plan.groups[0].clients) else None


def first_unanswered(run: Run, story: StepStory, since_ns: int) -> float | None:
    """The first message that was sent in vain, or was under way."""
    vain = [
        sent.t_ns
        for failed in run.events("protocol_error").of("talkers").since(since_ns)
        if (sent := run.events("sent").client(str(failed.client)).until(failed.t_ns).last)
    ]
    return max(since_ns, min(vain)) if vain else None


def proof(run: Run, story: StepStory, _since_ns: int) -> float | None:
    """The agent's witness."""
    witness = run.history.find(story.witness)
    return None if witness is None else witness.t_ns


SEEN = {
    "silence": last("replied"),
    "end": every_end,
    "no connect": last("connected"),
    "first": first_unanswered,
    "reply": first("replied"),
    "connect": first("connected"),
    "proof": proof,
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is done to a server, how it is seen, and what leads to it. `asked_ms` is subtracted from what is seen."""

    step: str
    how: str
    connects: bool = False
    clients: int = 6
    wait: str = "1ms"
    line: str = "hello"
    server: str = ""
    before: str = ""
    when: str = "{event: EVENT, of: talkers, count: 150}"
    asked_ms: float = 0.0

    def scenario(self, verb: str) -> str:
        """The scenario of it."""
        script = CONNECT if self.connects else TALK.format(line=self.line, wait=self.wait)
        when = self.when.replace("EVENT", "connected" if self.connects else "replied")
        return SCENARIO.format(
            verb=verb, server=self.server, clients=self.clients, arrive="20ms", script=script, before=self.before,
            when=when, step=self.step, after=HEAL if self.connects and FAULTS[verb].healable else "",
        )  # fmt: skip


PAUSE = "  - {id: before, when: {event: replied, of: talkers, count: 150}, pause: server}"
CASES = {
    "kill": Case("kill: server", "end"),
    "stop": Case("stop: {target: server, grace: 0s}", "end"),
    "start": Case("start: server", "connect", True, server=", autostart: false", when="{at: 200ms}"),
    "restart": Case("restart: {target: server, how: kill}", "end"),
    "pause": Case("pause: server", "silence"),
    "resume": Case("resume: server", "reply", before=PAUSE, when="{after: before, wait: 100ms}"),
    "power_off": Case("power_off: server", "silence"),
    "vanish": Case("vanish: server", "end"),
    "readdress": Case("readdress: server", "silence"),
    "partition": Case("partition: server", "silence"),
    "hold": Case("hold: server", "silence"),
    "loss": Case("loss: {target: server, rate: 100%}", "silence"),
    "delay": Case("delay: {target: server, direction: to, latency: 300ms}", "silence"),
    "rate": Case("rate: {target: server, direction: to, bandwidth: 200B/s, queue: 10s}", "silence"),
    "reorder": Case("reorder: {target: server, every: 2, late: 500ms}", "first"),
    "duplicate": Case("duplicate: {target: server, every: 1}", "proof"),
    "corrupt": Case("corrupt: {target: server, every: 1}", "silence"),
    "mtu": Case("mtu: {target: server, size: 300B}", "silence", line="x" * 600),
    "flap": Case("flap: {target: server, down: 500ms, up: 10ms}", "silence"),
    "refuse": Case("refuse: server", "no connect", True),
    "ignore": Case("ignore: server", "no connect", True),
    "reset": Case("reset: talkers", "end"),
    "idle_expiry": Case(
        "idle_expiry: {target: server, after: 10ms}", "silence", clients=20, wait="20ms", asked_ms=10.0
    ),
    "dns": Case("dns: {target: server, says: nxdomain}", "no connect", True),
}


def times(run: Run, verb: str) -> dict[str, float]:
    """One run's times, in ms. Raises SystemExit for a fault that had no effect."""
    story = next(s for s in run.history.steps.values() if s.id == "fault")
    witness = run.history.find(story.witness)
    if story.injected is None or witness is None:
        raise SystemExit(f"{verb} had no effect: see {run.directory}")
    began_ns = story.injected.fields["began_ns"]
    seen_ns = SEEN[CASES[verb].how](run, story, began_ns)
    if seen_ns is None:
        raise SystemExit(f"no client saw {verb}: see {run.directory}")
    found = {
        "call": (story.injected.t_ns - began_ns) / 1e6,
        "proof": (witness.t_ns - began_ns) / 1e6,
        "seen": max(0.0, (seen_ns - began_ns) / 1e6 - CASES[verb].asked_ms),
    }
    return found | ({"lag": (began_ns - story.cause["t_ns"]) / 1e6} if story.cause else {})


async def measure(rounds: int, testbed: str, runs: Path) -> dict[str, list[dict[str, float]]]:
    """All faults, interleaved, on one warm testbed; a first round of each is not counted."""
    found: dict[str, list[dict[str, float]]] = {verb: [] for verb in FAULTS}
    bench = Bench(make(testbed), runs)
    try:
        for seed in range(rounds + 1):
            for verb in FAULTS:
                path = runs / f"{verb}.scenario.yaml"
                path.write_text(CASES[verb].scenario(verb), encoding="utf-8")
                (plan,) = plans(path, seed)
                measured = times(await bench.perform(plan), verb)
                found[verb] += [measured] if seed else []
    finally:
        await bench.shut()
    return found


def table(found: dict[str, list[dict[str, float]]], testbed: str) -> str:
    """What was measured, and which faults meet the goal."""
    goal_ms = GOALS_MS[testbed]
    lines = [f"{'ms':12}{'lag':>8}{'call':>8}{'proof':>8}{'seen':>8}{'p90':>8}{'worst':>8}  how"]
    beyond = []
    for verb, runs in found.items():
        middle = [_median([run[key] for run in runs if key in run]) for key in ("lag", "call", "proof", "seen")]
        seen = [run["seen"] for run in runs]
        p90 = percentile(seen, 0.9)
        beyond += [verb] if p90 >= goal_ms else []
        lines.append(f"{verb:12}{''.join(middle)}{p90:8.2f}{max(seen):8.2f}  {CASES[verb].how}")
    met = f"p90 under {goal_ms:g} ms on {testbed}: {len(found) - len(beyond)} of {len(found)}"
    return "\n".join([*lines, met + (f"; not {', '.join(beyond)}" if beyond else "")])


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):8.2f}" if values else f"{'-':>8}"


def main() -> None:
    """Measure, and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    testbed = sys.argv[2] if len(sys.argv) > 2 else "netns"
    runs = Path(tempfile.mkdtemp(prefix="midsession-faults-"))  # stays where a run is to be looked at
    sys.stdout.write(table(asyncio.run(measure(rounds, testbed, runs)), testbed) + "\n")
    shutil.rmtree(runs)


if __name__ == "__main__":
    main()
