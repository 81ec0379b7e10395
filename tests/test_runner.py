"""The runner in a simulated world, on a clock that jumps: no process, no network, no waiting."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession.agent.protocol import (
    Destroy,
    Finish,
    Freeze,
    Kill,
    Link,
    Records,
    Reply,
    Request,
    Start,
    Stop,
    Subscribe,
    Tell,
    Thaw,
)
from midsession.core.logfile import LogState, read_log
from midsession.core.plan import (
    After,
    At,
    ClientPlan,
    CommandService,
    Every,
    GroupPlan,
    OnEvent,
    Plan,
    Program,
    ReferenceService,
    Service,
    Step,
    Trigger,
)
from midsession.core.record import Record
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.interrupts import heard
from midsession.report.text import reference
from midsession.rundir import read_history
from midsession.runner import Listener, RunResult, run_plan
from tests.fakes import FakeClock, FakeTestbed, finished, run_on

CRASH = OnEvent(event="replied", of="talkers", count=20)


def step(id: str, when: Trigger, verb: str, target: str = "server", for_s: float | None = None, **args: Any) -> Step:
    return Step(id=id, when=when, verb=verb, args={"target": target, **args}, for_s=for_s)


def goodbye(when: Trigger) -> Step:
    return step("bye", when, "signal", "goodbye")


def plan_of(*timeline: Step, clients: int = 4, timeout_s: float = 60.0, **service: Any) -> Plan:
    numbers = [ClientPlan(number=n + 1, arrive_s=0.0, key="00") for n in range(clients)]
    groups = [GroupPlan(name="talkers", host="server", port=4000, script=[], clients=numbers)] if clients else []
    services: list[Service] = [ReferenceService(name="server", port=4000, **service)]
    return Plan("The crash", "p.yaml", 1, timeout_s, services, groups, list(timeline), [])


KILL_AND_RETURN = plan_of(
    step("crash", CRASH, "kill"),
    step("return", After(step="crash", wait_s=2.0), "start"),
    goodbye(Every(group="talkers", event="replied", since="return")),
)


class Heard(Listener):
    """Keeps what it is told; `when` is called with each record."""

    def __init__(self, when: Callable[[Record], None] = lambda _: None) -> None:
        self.records: list[Record] = []
        self.phases: list[str] = []
        self.problems: list[str] = []
        self.results: list[RunResult] = []
        self._when = when

    def on_phase(self, phase: str) -> None:
        self.phases.append(phase)

    def on_record(self, record: Record) -> None:
        self.records.append(record)
        self._when(record)

    def on_problem(self, text: str) -> None:
        self.problems.append(text)

    def on_end(self, result: RunResult) -> None:
        self.results.append(result)


class Stage:
    """A plan run in a simulated world, and what is left of it."""

    def __init__(
        self,
        plan: Plan,
        runs: Path,
        prepare: Callable[[FakeTestbed], None] = lambda _: None,
        when: Callable[[Record], None] = lambda _: None,
        fleets: int = 1,
    ) -> None:
        self.clock = FakeClock()
        self.began_ns = self.clock()
        self.testbed = FakeTestbed(self.clock, fleets, prepare)
        self.listener = Heard(when)
        self.plan, self.runs = plan, runs

    def run(self) -> RunResult:
        return run_on(self.clock, run_plan(self.plan, self.testbed, self.runs, self.listener, clock=self.clock))

    @property
    def lasted_s(self) -> float:
        return (self.clock() - self.began_ns) / 1e9


def own_records(result: RunResult) -> list[Record]:
    """The conductor's own log, which must be whole."""
    log = read_log((result.directory / "events" / "conductor.conductor.1.jsonl").read_bytes())
    assert log.state == LogState.COMPLETE
    return log.records


def facts(result: RunResult) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((result.directory / "run.json").read_bytes())
    return found


# --- the whole story -----------------------------------------------------------------------------------------------


def test_a_kill_is_told_from_its_cause_to_its_witness(tmp_path: Path) -> None:
    """The conductor's log says which record fired the step, when, and which record proves that it took effect."""
    stage = Stage(KILL_AND_RETURN, tmp_path)
    result = stage.run()
    assert (result.why_ended, result.unfired, result.problems) == ("done", [], [])
    told = [(r.event, r.fields.get("step")) for r in own_records(result)]
    assert told == [
        ("begun", None),
        ("triggered", "crash"),
        ("effective", "crash"),
        ("triggered", "return"),
        ("effective", "return"),
        ("triggered", "bye"),
        ("ended", None),
    ]
    crash, seen = own_records(result)[1:3]
    replies = [r for r in stage.listener.records if r.event == "replied"]
    assert crash.fields["by"]["seq"] == replies[19].seq
    assert crash.fields["lag_ns"] == crash.t_ns - replies[19].t_ns
    assert seen.fields["witness"]["event"] == "exited"
    kills = [r for r in stage.testbed.services["server"].log if isinstance(r, Kill)]
    assert [k.fault for k in kills] == ["crash"]


def test_the_intent_is_on_disk_before_the_kill_is_asked_for(tmp_path: Path) -> None:
    """At the moment of the request the `triggered` record can be read from the file."""
    seen: list[bool] = []

    def prepare(testbed: FakeTestbed) -> None:
        host = testbed.host("server")
        ask = host.ask

        def looking(request: Any) -> Any:
            if isinstance(request, Kill):
                (directory,) = tmp_path.iterdir()
                log = read_log((directory / "events" / "conductor.conductor.1.jsonl").read_bytes())
                seen.append(log.records[-1].fields.get("step") == "crash")
            return ask(request)

        host.ask = looking  # type: ignore[method-assign]

    Stage(KILL_AND_RETURN, tmp_path, prepare).run()
    assert seen == [True]


def test_a_fault_is_asked_for_within_the_push_that_fired_it(tmp_path: Path) -> None:
    """No round of the event loop passes between the record and the request; telling of both comes after it."""
    stage = Stage(KILL_AND_RETURN, tmp_path)
    under_way: list[Records] = []
    at_kill: list[tuple[int, bool]] = []

    def prepare(testbed: FakeTestbed) -> None:
        host, hear = testbed.host("server"), testbed.inbox.records
        ask = host.ask

        def hearing(batch: Records) -> None:
            under_way.append(batch)
            hear(batch)
            under_way.pop()

        def looking(request: Any) -> Any:
            if isinstance(request, Kill):
                pushed = [msgspec.json.decode(line)["seq"] for batch in under_way for line in batch.records]
                at_kill.append((pushed[-1], any(r.event == "triggered" for r in stage.listener.records)))
            return ask(request)

        testbed.inbox.records = hearing  # type: ignore[method-assign]
        host.ask = looking  # type: ignore[method-assign]

    stage.testbed._prepare = prepare
    result = stage.run()
    crash = own_records(result)[1]
    assert at_kill == [(crash.fields["by"]["seq"], False)]


def test_a_listener_hears_of_the_cause_before_the_step(tmp_path: Path) -> None:
    """In the order in which it happened, though the fault was asked for before anything was told."""
    stage = Stage(KILL_AND_RETURN, tmp_path)
    stage.run()
    told = [r.event for r in stage.listener.records]
    assert told.index("triggered") > 0
    assert told[: told.index("triggered")].count("replied") == 20


def test_the_run_directory_is_whole(tmp_path: Path) -> None:
    """plan.json is the plan's own bytes; run.json tells the hosts, who played whom, and how it ended."""
    result = Stage(KILL_AND_RETURN, tmp_path, fleets=3).run()
    assert (result.directory / "plan.json").read_bytes() == KILL_AND_RETURN.to_json()
    assert result.directory.name.endswith(f"-the-crash-{result.run}")
    told = facts(result)
    assert told["placement"] == {
        "client-1": ["talkers-1", "talkers-4"],
        "client-2": ["talkers-2"],
        "client-3": ["talkers-3"],
    }
    assert set(told["hosts"]) == {"server", "client-1", "client-2", "client-3"}
    assert (told["why_ended"], told["problems"], told["plan"]) == ("done", [], KILL_AND_RETURN.hash)
    assert (result.directory / "logs").is_dir()


def test_what_waits_for_a_service_is_up_before_the_clients_begin(tmp_path: Path) -> None:
    """Whatever of the testbed needs it comes up once it is ready."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.after_takes_s = 5.0

    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path, prepare)
    assert stage.run().why_ended == "done"
    assert stage.testbed.attended == ["server"]
    assert stage.lasted_s >= 6


def test_what_waits_for_a_service_comes_up_when_a_step_has_started_it(tmp_path: Path) -> None:
    """Once, however often it is started again."""
    timeline = (
        step("begin", At(at_s=1.0), "start"),
        step("crash", CRASH, "kill"),
        step("return", After(step="crash", wait_s=2.0), "start"),
        goodbye(Every(group="talkers", event="replied", since="return")),
    )
    stage = Stage(plan_of(*timeline, autostart=False), tmp_path)
    assert stage.run().why_ended == "done"
    assert stage.testbed.attended == ["server"]


def test_a_testbed_that_takes_too_long_says_what_it_was_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how it is given longer; while it opens, and while it brings up what waits for a service."""
    monkeypatch.setenv("MIDSESSION_TESTBED_WITHIN", "10m")
    for slow, what in (("open", "testbed fake open"), ("after", "all that waits for server up")):
        stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path)
        setattr(stage.testbed, f"{slow}_takes_s", 1000.0)
        stage.testbed.doing = "building app"
        (problem,) = stage.run().problems
        assert problem.startswith(f"{what}: not within 600 s; it was building app; MIDSESSION_TESTBED_WITHIN=")
        assert 600 <= stage.lasted_s < 700


def test_how_long_a_testbed_may_take_is_a_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else is refused before anything is made."""
    monkeypatch.setenv("MIDSESSION_TESTBED_WITHIN", "600")
    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path)
    with pytest.raises(EnvironmentLacks, match="bad-wait"):
        stage.run()
    assert "open" not in stage.testbed.calls


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    """Though they begin in the same second."""
    results = [Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path).run() for _ in range(3)]
    assert len({r.directory for r in results}) == 3


def test_hosts_are_told_in_order_and_finished_last(tmp_path: Path) -> None:
    """Subscribed first, then started, then told when to go; stopped, then finished; no fleet without clients starts."""
    stage = Stage(plan_of(goodbye(At(at_s=1.0)), clients=1), tmp_path, fleets=2)
    stage.run()
    first, second = stage.testbed.fleets
    assert [type(r) for r in first.log] == [Subscribe, Start, Tell, Tell, Stop, Finish]
    assert [type(r) for r in second.log] == [Finish]
    assert [type(r) for r in stage.testbed.services["server"].log] == [Subscribe, Start, Subscribe, Stop, Finish]
    assert finished(first)
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert stage.listener.phases == ["open", "programs", "run", "end", "collect"]
    assert len(stage.listener.results) == 1


def test_only_what_is_needed_is_subscribed(tmp_path: Path) -> None:
    """A fleet ships no record that no trigger, barrier, witness or end needs."""
    stage = Stage(plan_of(goodbye(Every(group="talkers", event="connected"))), tmp_path)
    stage.run()
    (subscribed,) = [r for r in stage.testbed.fleets[0].log if isinstance(r, Subscribe)]
    assert subscribed.events == ["connected", "done", "exited", "listening", "started"]


def test_a_service_that_does_not_start_by_itself_is_left_alone(tmp_path: Path) -> None:
    """`autostart: false`: absent until the timeline starts it."""
    plan = plan_of(step("return", At(at_s=1.0), "start"), goodbye(At(at_s=3.0)), autostart=False)
    stage = Stage(plan, tmp_path)
    assert stage.run().why_ended == "done"
    starts = [r for r in stage.testbed.services["server"].log if isinstance(r, Start)]
    assert [s.fault for s in starts] == ["return"]


# --- faults --------------------------------------------------------------------------------------------------------


def test_a_restart_goes_down_rests_and_comes_back(tmp_path: Path) -> None:
    """Stop, the rest, start: in that order, the rest in between; its witness is the new program's `listening`."""
    plan = plan_of(step("again", At(at_s=1.0), "restart", after_s=3.0), goodbye(After(step="again", wait_s=1.0)))
    stage = Stage(plan, tmp_path)
    result = stage.run()
    (effective,) = [r for r in own_records(result) if r.event == "effective"]
    assert effective.fields["witness"]["event"] == "listening"
    down, up = [r.t_ns for r in stage.listener.records if r.host == "server" and r.event in {"exited", "listening"}][
        1:3
    ]
    assert 3.0 <= (up - down) / 1e9 < 3.5


def test_a_pause_with_for_is_healed_in_time_and_once(tmp_path: Path) -> None:
    """`for: 2s` thaws two seconds later; the end of the run finds nothing left to heal."""
    plan = plan_of(step("hang", At(at_s=1.0), "pause", for_s=2.0), goodbye(At(at_s=5.0)))
    stage = Stage(plan, tmp_path)
    stage.run()
    asked = [r for r in stage.testbed.services["server"].log if isinstance(r, Freeze | Thaw)]
    assert [(type(r), r.fault) for r in asked] == [(Freeze, "hang"), (Thaw, "hang")]
    at = {r.event: r.t_ns for r in stage.listener.records}
    assert (at["thawed"] - at["frozen"]) / 1e9 == pytest.approx(2.0, abs=0.01)


def test_a_pause_without_a_program_fails_and_the_run_goes_on(tmp_path: Path) -> None:
    """Also when its cure was asked for before it was refused: there is nothing to cure."""
    crash, hang = step("crash", At(at_s=1.0), "kill"), step("hang", At(at_s=2.0), "pause", for_s=1e-6)
    back = step("return", At(at_s=3.0), "start")
    result = Stage(plan_of(crash, hang, back, goodbye(After(step="return", wait_s=1.0))), tmp_path).run()
    assert (result.why_ended, result.problems) == ("done", [])
    (told,) = [str(r.fields["text"]) for r in own_records(result) if r.fields.get("failed") == "hang"]
    assert "no program runs" in told


@pytest.mark.parametrize("for_s", [2.0, None])
def test_a_fault_that_is_not_healed_is_an_error(tmp_path: Path, for_s: float | None) -> None:
    """The agent looks after each cure, and refuses: the run is an error, be it in the middle or at the end."""
    plan = plan_of(step("hang", At(at_s=1.0), "pause", for_s=for_s), goodbye(At(at_s=5.0)))
    stage = Stage(plan, tmp_path, lambda testbed: testbed.services["server"].sick.add(Thaw))
    result = stage.run()
    assert result.why_ended == "error"
    assert any("the agent on server refused: it does not work here" in problem for problem in result.problems)
    assert not [r for r in stage.listener.records if r.event == "healed"]


def test_whatever_is_still_broken_at_the_end_is_healed(tmp_path: Path) -> None:
    """A pause without `for` is thawed when the run is over, before anything is stopped."""
    stage = Stage(plan_of(step("hang", At(at_s=1.0), "pause"), goodbye(At(at_s=2.0))), tmp_path)
    stage.run()
    assert [type(r) for r in stage.testbed.services["server"].log][-3:] == [Thaw, Stop, Finish]


def two_groups(*timeline: Step) -> Plan:
    """Two clients each of `talkers` and of `others`."""
    plan = plan_of(*timeline, clients=2)
    others = msgspec.structs.replace(plan.groups[0], name="others")
    return msgspec.structs.replace(plan, groups=[plan.groups[0], others])


def test_a_group_is_killed_on_all_its_hosts_and_the_run_goes_on(tmp_path: Path) -> None:
    """Only the group's own hosts; a witness from each; nobody waits for its clients; no part of the harness failed."""
    kill = step("end-them", At(at_s=1.0), "kill", target="talkers")
    stage = Stage(two_groups(kill, goodbye(After(step="end-them", wait_s=1.0))), tmp_path, fleets=3)
    result = stage.run()
    assert (result.why_ended, result.problems, result.unfired) == ("done", [], [])
    killed = {h.name for h in stage.testbed.fleets if any(isinstance(r, Kill) for r in h.log)}
    assert killed == {"client-1", "client-2"}  # groups get their hosts in the order of the plan
    (effective,) = [r for r in own_records(result) if r.event == "effective"]
    assert {w["host"] for w in effective.fields["witnesses"]} == killed
    gone = [name for r in own_records(result) if r.event == "note" for name in r.fields.get("gone", ())]
    assert sorted(gone) == ["talkers-1", "talkers-2"]


def test_one_host_without_its_witness_leaves_a_fault_without_effect(tmp_path: Path) -> None:
    """All of a group's hosts, or the fault did not happen."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.fleets[1].idle.add(Freeze)

    plan = plan_of(step("hang", At(at_s=1.0), "pause", target="talkers"), timeout_s=5.0)
    result = Stage(plan, tmp_path, prepare, fleets=2).run()
    assert not [r for r in own_records(result) if r.event == "effective"]


@pytest.mark.parametrize("by", [None, "another"])
def test_a_program_that_ends_by_something_else_proves_no_step(tmp_path: Path, by: str | None) -> None:
    """It has survived the step's signal, and crashes a second later, or dies by another step."""

    def prepare(testbed: FakeTestbed) -> None:
        server = testbed.host("server")
        server.idle.add(Kill)
        asyncio.get_running_loop().call_later(2.0, lambda: server.exits(signal="SEGV", by=by))

    plan = plan_of(step("reload", At(at_s=1.0), "kill", signal="HUP"), step("late", After(step="reload"), "start"))
    stage = Stage(msgspec.structs.replace(plan, timeout_s=5.0), tmp_path, prepare)
    result = stage.run()
    assert [r.fields["signal"] for r in stage.listener.records if r.event == "exited"][:1] == ["SEGV"]
    assert not [r for r in own_records(result) if r.event == "effective"]
    assert [missing["step"] for missing in result.unfired] == ["late"]


def test_nobody_waits_for_the_end_of_a_program_that_has_ended_by_another_step(tmp_path: Path) -> None:
    """It was asked to end, and did not: when it is made to, the first step has failed, and the run goes on."""
    ask, make = step("ask", At(at_s=1.0), "kill", signal="TERM"), step("make", At(at_s=2.0), "kill")
    back = step("return", At(at_s=3.0), "start")

    def prepare(testbed: FakeTestbed) -> None:
        server = testbed.host("server")
        exits = server.exits
        server.exits = lambda **fields: fields["by"] == "ask" or exits(**fields)  # type: ignore[method-assign]

    stage = Stage(plan_of(ask, make, back, goodbye(At(at_s=4.0))), tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, stage.lasted_s < 6.0) == ("done", True)
    assert {r.fields["step"] for r in own_records(result) if r.event == "effective"} == {"make", "return"}
    (told,) = [str(r.fields["text"]) for r in own_records(result) if r.fields.get("failed") == "ask"]
    assert told.endswith("the program of server has ended, and nothing says by this step")


def test_what_is_healed_before_it_has_anything_to_heal_has_failed(tmp_path: Path) -> None:
    """The host would have vanished once its program was gone: no `healed` comes, and the run does not wait for one."""
    vanish = step("vanish", At(at_s=1.0), "vanish", for_s=0.001)
    plan = plan_of(vanish, step("return", At(at_s=2.0), "start"), goodbye(At(at_s=3.0)))
    stage = Stage(plan, tmp_path, lambda testbed: testbed.host("server").takes_s.update({Stop: 0.05}))
    result = stage.run()
    assert (result.why_ended, stage.lasted_s < 5.0) == ("done", True)
    assert not [r for r in stage.testbed.host("server").log if isinstance(r, Link)]
    (told,) = [str(r.fields["text"]) for r in own_records(result) if r.fields.get("failed") == "vanish"]
    assert told.endswith("it was healed before it had any effect on server")


def test_a_host_without_its_witness_is_named_when_the_fault_is_healed(tmp_path: Path) -> None:
    """Another one that has given its own is not said to have felt nothing."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.fleets[1].idle.add(Freeze)

    plan = plan_of(step("hang", At(at_s=1.0), "pause", target="talkers", for_s=1.0), goodbye(At(at_s=3.0)))
    result = Stage(plan, tmp_path, prepare, fleets=2).run()
    (told,) = [str(r.fields["text"]) for r in own_records(result) if r.fields.get("failed") == "hang"]
    assert told.endswith("it was healed before it had any effect on client-2")
    story = read_history(result.directory).steps["hang"]
    assert story.failed is not None
    assert story.failed.fields["text"] == told


def test_a_cut_between_hosts_that_say_nothing_is_told_as_that(tmp_path: Path) -> None:
    """A fault that counts packets knows why it had no effect."""
    plan = plan_of(step("cut", At(at_s=1.0), "partition", for_s=1.0), goodbye(At(at_s=3.0)))
    (told,) = [r.fields["text"] for r in own_records(Stage(plan, tmp_path).run()) if r.fields.get("failed") == "cut"]
    assert told == "cut failed: partition server: until it was healed, no packet passed that it hits on server"


def test_a_step_names_the_line_by_which_a_service_was_ready(tmp_path: Path) -> None:
    """It was not seen to listen."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").ready_by = "line"

    plan = plan_of(step("again", At(at_s=1.0), "restart"), goodbye(At(at_s=3.0)))
    (effective,) = [r for r in own_records(Stage(plan, tmp_path, prepare).run()) if r.event == "effective"]
    assert reference(effective.fields["witness"]) == "server said its ready line"


def test_a_group_that_shares_its_hosts_cannot_be_a_target(tmp_path: Path) -> None:
    """The other group's clients would be hit; the message says how many hosts it takes."""
    stage = Stage(two_groups(step("end-them", At(at_s=1.0), "kill", target="talkers")), tmp_path, fleets=1)
    with pytest.raises(EnvironmentLacks, match="plays others too; give the testbed 2 client hosts") as lacks:
        stage.run()
    assert lacks.value.slug == "shared-fleet"
    assert not [r for r in stage.testbed.fleets[0].log if isinstance(r, Start)]


def test_a_fault_whose_target_is_connected_elsewhere_fails(tmp_path: Path) -> None:
    """No host of the fault has that connection: a note says so, nothing is asked of any host, and the run goes on to
    its end."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.peer = "10.0.0.9:4001"

    plan = plan_of(step("snap", At(at_s=1.0), "reset", target="talkers-1", end="server"), goodbye(At(at_s=2.0)))
    stage = Stage(plan, tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("done", [])
    (note,) = [r for r in own_records(result) if r.fields.get("failed") == "snap"]
    assert "there is nothing that it breaks on any of its hosts" in note.fields["text"]
    assert not [
        r for h in (stage.testbed.host("server"), *stage.testbed.fleets) for r in h.log if isinstance(r, Destroy)
    ]


def test_a_fault_is_asked_for_only_where_there_is_something_to_break(tmp_path: Path) -> None:
    """Two clients on hosts of their own are connected to one server; the other server has nothing to give."""
    snap = step("snap", At(at_s=1.0), "reset", target=["talkers-1", "others-1"], end="server")
    plan = two_groups(snap, goodbye(At(at_s=2.0)))
    spare = msgspec.structs.replace(plan.services[0], name="spare")
    elsewhere = msgspec.structs.replace(plan.groups[1], host="spare")
    plan = msgspec.structs.replace(plan, services=[*plan.services, spare], groups=[plan.groups[0], elsewhere])
    stage = Stage(plan, tmp_path, fleets=2)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("done", [])
    asked = {h.name: sum(isinstance(r, Destroy) for r in h.log) for h in stage.testbed.services.values()}
    assert asked == {"server": 2, "spare": 0}
    (effective,) = [r for r in own_records(result) if r.event == "effective"]
    assert effective.fields["witness"]["host"] == "server"


def test_a_fault_that_cannot_be_injected_is_told_and_is_no_failure_of_the_harness(tmp_path: Path) -> None:
    """Killing what does not run: a note names the step; what waits for it never fires; the run goes on to its end."""
    plan = plan_of(
        step("crash", At(at_s=1.0), "kill"),
        step("twice", At(at_s=2.0), "kill"),
        step("return", After(step="twice"), "start"),
        goodbye(At(at_s=3.0)),
    )
    result = Stage(plan, tmp_path).run()
    assert (result.why_ended, result.problems) == ("done", [])
    (missing,) = result.unfired
    assert missing["step"] == "return"
    assert "no program runs" in missing["missing"]
    (note,) = [r for r in own_records(result) if r.event == "note"]
    assert note.fields["failed"] == "twice"


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_service_that_never_listens_is_named(tmp_path: Path) -> None:
    """The wait is bounded, names its condition, and nothing is left running."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").start_s = 100.0

    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path, prepare)
    result = stage.run()
    assert result.why_ended == "error"
    (problem,) = result.problems
    assert problem.startswith("server did not come up: it was not ready (ready: it listens on port 4000) within 10 s")
    assert "and listens on no port; " in problem
    assert problem.endswith("[service-not-up]")
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert not stage.testbed.services["server"].running
    assert facts(result)["problems"] == result.problems


def test_a_service_that_dies_before_it_listens_is_not_waited_for(tmp_path: Path) -> None:
    """It says how the program ended."""

    def prepare(testbed: FakeTestbed) -> None:
        server = testbed.host("server")
        server.start_s = 100.0

        def dies() -> None:
            for n in range(12):
                server.says("line", stream="stderr", text=f"word {n}", incarnation=1)
            server.exits(code=1)

        asyncio.get_running_loop().call_later(1.0, dies)

    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path, prepare)
    (problem,) = stage.run().problems
    assert "server did not come up: its program exited with code 1 before it was ready (ready: it listens" in problem
    assert "its last lines: word 2 ⏎ word 3" in problem
    assert "word 11; run its command by hand; all that it said is in logs/server.program.1.*.log" in problem
    assert problem.endswith("[service-not-up]")
    assert stage.lasted_s < 2


@pytest.mark.parametrize(("programs", "files"), [(None, {}), (None, {"server.py": ""}), ("/here", {})])
def test_a_file_that_was_left_beside_the_scenario_is_named(
    tmp_path: Path, programs: str | None, files: dict[str, str]
) -> None:
    """A host that has files of its own has not those of the scenario's folder; one that shares ours has them."""
    (tmp_path / "server.py").write_text("")
    argv = ["python3", "server.py", "x" * 5000, "../server.py"]
    service = CommandService(name="server", port=4000, argv=argv, files=files)
    plan = msgspec.structs.replace(KILL_AND_RETURN, source=str(tmp_path / "p.yaml"), services=[service])

    def prepare(testbed: FakeTestbed) -> None:
        server = testbed.host("server")
        server.programs, server.start_s = programs, 100.0
        asyncio.get_running_loop().call_later(1.0, server.exits, 2)

    (problem,) = Stage(plan, tmp_path / "runs", prepare).run().problems
    assert "run its command by hand" in problem
    assert ("(`files: [server.py]`), or run its" in problem) is (programs is None and not files)


@pytest.mark.parametrize(
    ("dies", "words"),
    [
        ({"signal": "KILL"}, "the client program of client-1 was killed by SIGKILL"),
        ({"code": 3}, "the client program of client-1 exited with code 3"),
        ({"code": 0}, "the client program of client-1 ended, and 4 of its 4 clients were not done"),
    ],
)
def test_a_fleet_that_dies_is_an_error(tmp_path: Path, dies: dict[str, Any], words: str) -> None:
    """However it went: its clients' stories have no end."""

    def prepare(testbed: FakeTestbed) -> None:
        asyncio.get_running_loop().call_later(2.0, lambda: testbed.host("client-1").exits(**dies))

    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("error", [words])
    assert stage.listener.problems == [words]
    assert stage.lasted_s < 5


def test_a_service_that_dies_by_itself_is_only_a_record(tmp_path: Path) -> None:
    """It is what the run is there to see."""

    def prepare(testbed: FakeTestbed) -> None:
        asyncio.get_running_loop().call_later(2.0, lambda: testbed.host("server").exits(signal="SEGV"))

    stage = Stage(plan_of(goodbye(At(at_s=5.0))), tmp_path, prepare)
    assert stage.run().why_ended == "done"
    assert [r.fields["signal"] for r in stage.listener.records if r.host == "server" and r.event == "exited"] == [
        "SEGV"
    ]


def test_an_agent_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    """Nothing can be known of its host any more."""

    def prepare(testbed: FakeTestbed) -> None:
        asyncio.get_running_loop().call_later(2.0, lambda: testbed.inbox.gone("server", "EOF"))

    result = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, prepare).run()
    assert (result.why_ended, result.problems) == ("error", ["the agent of server is gone: EOF"])


def test_an_agent_that_never_answers_is_named(tmp_path: Path) -> None:
    """Every wait is bounded: the kill that nobody confirms, and the finish as well."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").deaf = {Kill, Finish}

    stage = Stage(KILL_AND_RETURN, tmp_path, prepare)
    result = stage.run()
    assert result.problems == [
        "crash: kill server (SIGKILL): no answer within 10 s  [wait-ran-out]",
        "finish: not within 10 s",
    ]
    assert stage.testbed.calls == ["open", "collect", "close"]


@pytest.mark.parametrize(("request_", "ran"), [(Kill, True), (Start, False)])
def test_what_the_system_refuses_is_a_problem_of_the_run(tmp_path: Path, request_: type[Any], ran: bool) -> None:
    """An OSError of a host, in a step or before the first, is no mistake of ours: the run has a result all the same."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").failing = {request_: FileExistsError(17, "File exists", "a.log")}

    stage = Stage(KILL_AND_RETURN, tmp_path, prepare)
    result = stage.run()
    assert result.why_ended == "error"
    assert result.problems == ["the system refused: [Errno 17] File exists: 'a.log'  [harness-error]"]
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert any(record.event == "begun" for record in own_records(result)) is ran


def test_a_testbed_that_cannot_serve_the_plan_is_the_callers_to_tell(tmp_path: Path) -> None:
    """EnvironmentLacks comes out as it is, after what there was has been taken away."""
    stage = Stage(KILL_AND_RETURN, tmp_path)
    stage.testbed.lacks = EnvironmentLacks("no engine", "install one")
    with pytest.raises(EnvironmentLacks, match="no engine"):
        stage.run()
    assert stage.testbed.calls == ["open", "close"]


def test_a_failure_of_the_cleaning_up_fails_the_run(tmp_path: Path) -> None:
    """All was well until then."""
    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path)
    stage.testbed.close_error = HarnessError("a network is left")
    result = stage.run()
    assert (result.why_ended, result.problems) == ("error", ["close: a network is left  [harness-error]"])


def test_a_mistake_of_ours_comes_out_after_everything_was_taken_down(tmp_path: Path) -> None:
    """An exception in a callback is not swallowed, and not left to hang the run."""

    def breaks(record: Record) -> None:
        if record.event == "replied":
            raise ZeroDivisionError("ours")

    stage = Stage(KILL_AND_RETURN, tmp_path, when=breaks)
    with pytest.raises(ZeroDivisionError):
        stage.run()
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert stage.lasted_s < 5


def mistaken(*where: type[Any] | str) -> Callable[[FakeTestbed], None]:
    """A testbed whose hosts, or the testbed itself, make mistakes when they are asked for these."""

    def prepare(testbed: FakeTestbed) -> None:
        error = ZeroDivisionError("ours")
        testbed.collect_error = error if "collect" in where else None
        testbed.close_error = error if "close" in where else None
        for host in (*testbed.services.values(), *testbed.fleets):
            host.mistaken = {kind for kind in where if isinstance(kind, type)}

    return prepare


@pytest.mark.parametrize("where", [Thaw, Stop, Finish, "collect", "close"])
def test_a_mistake_in_one_stage_of_the_end_keeps_no_other_from_being_done(
    tmp_path: Path, where: type[Any] | str
) -> None:
    """It comes out when everything is down: the log has its trailer, and run.json says that it was an error."""
    plan = plan_of(step("hang", At(at_s=1.0), "pause"), goodbye(At(at_s=2.0)))
    stage = Stage(plan, tmp_path, mistaken(where))
    with pytest.raises(ZeroDivisionError, match="ours"):
        stage.run()
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert {type(stage.testbed.host(name).log[-1]) for name in ("server", "client-1")} == {Finish}
    (result,) = stage.listener.results
    assert own_records(result)[-1].event == "note"
    assert result.why_ended == "error"
    assert result.problems
    assert all("ZeroDivisionError('ours" in problem for problem in result.problems)
    assert facts(result)["ended"]
    assert facts(result)["problems"] == result.problems


def test_one_host_that_fails_keeps_no_other_from_finishing(tmp_path: Path) -> None:
    """Nothing is collected before every host has had its time to end its log."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").mistaken = {Finish}
        testbed.host("client-1").takes_s[Finish] = 5.0
        collect = testbed.collect

        async def noting(directory: Path) -> None:
            collected.append(testbed.clock())
            await collect(directory)

        testbed.collect = noting  # type: ignore[method-assign]

    collected: list[int] = []
    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path, prepare)
    with pytest.raises(ZeroDivisionError):
        stage.run()
    (ended,) = [r.t_ns for r in own_records(stage.listener.results[0]) if r.event == "ended"]
    assert collected[0] - ended >= 5e9


def test_a_listener_that_makes_a_mistake_at_the_end_leaves_no_host(tmp_path: Path) -> None:
    """The first of its mistakes comes out, after everything was taken down."""
    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path)

    def breaks(phase: str) -> None:
        stage.listener.phases.append(phase)
        if phase in ("end", "collect"):
            raise ZeroDivisionError(phase)

    stage.listener.on_phase = breaks  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError, match="end"):
        stage.run()
    assert stage.listener.phases[-2:] == ["end", "collect"]
    assert stage.testbed.calls == ["open", "collect", "close"]


@pytest.mark.parametrize(("needs_s", "problems"), [(33.0, []), (75.0, ["stop the services: not within 70 s"])])
def test_a_grace_is_not_cut_short(tmp_path: Path, needs_s: float, problems: list[str]) -> None:
    """A service that was promised a minute has that minute, and a stage of the end waits for it; not for ever."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").takes_s[Stop] = needs_s

    stage = Stage(plan_of(goodbye(At(at_s=1.0)), grace_s=60.0), tmp_path, prepare)
    assert stage.run().problems == problems
    assert stage.lasted_s > 33


def test_a_run_that_is_not_done_in_time_says_what_was_missing(tmp_path: Path) -> None:
    """`timeout`, and every step that never fired with what it waited for."""
    when = OnEvent(event="replied", of="talkers", count=10**6)
    result = Stage(plan_of(step("crash", when, "kill"), timeout_s=5.0), tmp_path).run()
    assert result.why_ended == "timeout"
    (missing,) = result.unfired
    assert missing["missing"].endswith("of 1000000 replied")
    ended = own_records(result)[-1]
    assert ended.fields == {"why": "timeout", "unfired": result.unfired}


# --- clients that are programs ---


def driven(*timeline: Step, arrive_s: tuple[float, ...] = (0.0, 0.0), begin: bool = True, **more: Any) -> Plan:
    clients = [ClientPlan(number=n, arrive_s=at_s, key="00") for n, at_s in enumerate(arrive_s, 1)]
    program = Program(argv=["driver"], env={"A": "b"}, grace_s=3.0)
    drivers = GroupPlan("drivers", "server", 4000, [], clients, begin=begin, program=program)
    return msgspec.structs.replace(plan_of(*timeline, clients=0, **more), groups=[drivers])


def living(seconds: dict[str, float]) -> Callable[[FakeTestbed], None]:
    """Each program exits with code 0 that long after its start; those that are not named live on."""

    def prepare(testbed: FakeTestbed) -> None:
        for name, life_s in seconds.items():
            host = testbed.host(name)
            host.life_s = life_s

    return prepare


def started(stage: Stage, name: str) -> list[Start]:
    return [request for request in stage.testbed.host(name).log if isinstance(request, Start)]


def test_each_client_program_starts_when_it_arrives_and_is_told_who_it_is(tmp_path: Path) -> None:
    """On its own host; the run ends when the last has exited."""
    stage = Stage(driven(arrive_s=(0.0, 2.0)), tmp_path, living({"drivers-1": 5.0, "drivers-2": 1.0}))
    result = stage.run()
    assert (result.why_ended, result.problems) == ("done", [])
    begun = next(r.t_ns for r in own_records(result) if r.event == "begun")
    starts = {r.host: r.t_ns - begun for r in stage.listener.records if r.event == "started" and r.client}
    assert {name: round(at / 1e9, 2) for name, at in starts.items()} == {"drivers-1": 0.0, "drivers-2": 2.0}
    (start,) = started(stage, "drivers-2")
    assert (start.argv, start.env["A"], start.env["MIDSESSION_NUMBER"]) == (["driver"], "b", "2")
    assert start.env["MIDSESSION_HOST"] == stage.testbed.host("server").address
    assert own_records(result)[-1].t_ns - begun == pytest.approx(5e9, rel=0.01)
    assert facts(result)["placement"] == {"drivers-1": ["drivers-1"], "drivers-2": ["drivers-2"]}


def test_a_group_of_programs_begins_when_a_step_says_so(tmp_path: Path) -> None:
    """And not before."""
    plan = driven(step("go", At(at_s=3.0), "run", "drivers"), arrive_s=(0.5,), begin=False)
    stage = Stage(plan, tmp_path, living({"drivers-1": 1.0}))
    result = stage.run()
    fired = next(r.t_ns for r in own_records(result) if r.event == "triggered")
    (at,) = (r.t_ns for r in stage.listener.records if r.event == "started" and r.client == "drivers-1")
    assert at - fired == pytest.approx(0.5e9, rel=0.01)


def test_a_fault_meets_the_client_programs_that_run(tmp_path: Path) -> None:
    """One has exited, one has not begun: only the third is killed, and that is its effect."""
    plan = driven(step("crash", At(at_s=2.0), "kill", "drivers"), arrive_s=(0.0, 0.0, 4.0))
    stage = Stage(plan, tmp_path, living({"drivers-1": 1.0, "drivers-3": 1.0}))
    result = stage.run()
    assert (result.why_ended, result.unfired, result.problems) == ("done", [], [])
    assert [name for name in plan.clients if any(isinstance(r, Kill) for r in stage.testbed.host(name).log)] == [
        "drivers-2"
    ]
    assert [r.fields["step"] for r in own_records(result) if r.event == "effective"] == ["crash"]
    assert len(started(stage, "drivers-3")) == 1


def test_a_fault_that_meets_no_client_program_fails(tmp_path: Path) -> None:
    """All have exited: nothing could be killed, and the conductor's log says why."""
    second = step("later", At(at_s=3.0), "note", "still here")
    plan = driven(step("crash", At(at_s=2.0), "kill", "drivers"), second)
    result = Stage(plan, tmp_path, living({"drivers-1": 1.0, "drivers-2": 1.0})).run()
    (note,) = [r for r in own_records(result) if r.fields.get("failed") == "crash"]
    assert note.fields["text"].endswith("none of its programs runs")
    assert (result.why_ended, result.problems) == ("done", [])


def test_a_fault_right_after_a_kill_leaves_out_who_was_killed(tmp_path: Path) -> None:
    """The record that fires it is the exit itself; what cannot be frozen is not thawed either."""
    hold = step("hold", After(step="crash"), "pause", "drivers", for_s=1.0)
    plan = driven(step("crash", At(at_s=1.0), "kill", "drivers-1"), hold)
    stage = Stage(plan, tmp_path, living({"drivers-2": 5.0}))
    result = stage.run()
    assert (result.why_ended, result.unfired, result.problems) == ("done", [], [])
    assert not [r for r in stage.testbed.host("drivers-1").log if isinstance(r, Freeze | Thaw)]
    assert [r.fields["step"] for r in own_records(result) if r.event == "effective"] == ["crash", "hold"]


def test_a_program_that_exits_before_the_fault_reaches_it_is_left_out(tmp_path: Path) -> None:
    """The agent refuses, and by then the exit is known: the fault's effect is that on the others."""

    def prepare(testbed: FakeTestbed) -> None:
        host = testbed.host("drivers-1")
        ask = host.ask

        def quicker(request: Request) -> Awaitable[Reply]:
            if isinstance(request, Kill):
                host.running = False
                asyncio.get_running_loop().call_soon(host.exits, 0)
            return ask(request)

        host.ask = quicker  # type: ignore[method-assign]

    stage = Stage(driven(step("crash", At(at_s=1.0), "kill", "drivers")), tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("done", [])
    (effective,) = [r for r in own_records(result) if r.event == "effective"]
    assert effective.fields["witness"]["host"] == "drivers-2"


def test_a_client_program_that_never_exits_is_stopped_at_the_end(tmp_path: Path) -> None:
    """With the grace that it was given; the run has then run into its timeout."""
    stage = Stage(driven(timeout_s=5.0), tmp_path, living({"drivers-1": 1.0}))
    assert stage.run().why_ended == "timeout"
    (stop,) = [r for r in stage.testbed.host("drivers-2").log if isinstance(r, Stop)]
    assert stop.grace_s == 3.0
    assert all(finished(stage.testbed.host(name)) for name in ("drivers-1", "drivers-2"))


# --- interrupts ----------------------------------------------------------------------------------------------------


def interrupting(seconds: float, times: int = 1, every_s: float = 0.5) -> Callable[[FakeTestbed], None]:
    def prepare(testbed: FakeTestbed) -> None:
        for n in range(times):
            asyncio.get_running_loop().call_later(seconds + n * every_s, signal.raise_signal, signal.SIGINT)

    return prepare


def test_an_interrupt_ends_the_run_in_order(tmp_path: Path) -> None:
    """Logs kept, everything gone, and the result says so."""
    before = signal.getsignal(signal.SIGINT)
    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, interrupting(5.0))
    result = stage.run()
    assert result.why_ended == "interrupted"
    assert own_records(result)[-1].fields["why"] == "interrupted"
    assert stage.testbed.calls == ["open", "collect", "close"]
    assert stage.lasted_s < 12
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_in_the_tear_down_makes_it_an_interrupted_run(tmp_path: Path) -> None:
    """What is collected then may be less than there was, and whoever pressed Ctrl-C wants no further run."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.collect_takes_s = 10.0
        interrupting(3.0)(testbed)

    stage = Stage(plan_of(goodbye(At(at_s=1.0))), tmp_path, prepare)
    result = stage.run()
    assert result.why_ended == facts(result)["why_ended"] == "interrupted"
    assert [r.fields["why"] for r in own_records(result) if r.event == "ended"] == ["done"]
    assert stage.lasted_s < 10


def test_an_interrupt_before_the_run_ends_it_at_once(tmp_path: Path) -> None:
    """Kept by the one around it, and heard by the run in its first moment."""
    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path)
    with heard():
        signal.raise_signal(signal.SIGINT)
        assert stage.run().why_ended == "interrupted"
    assert stage.lasted_s < 1
    assert stage.testbed.calls[-1] == "close"


def test_an_interrupt_is_heard_while_the_run_is_being_set_up(tmp_path: Path) -> None:
    """A service that never listens does not keep it waiting."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.host("server").start_s = 100.0
        interrupting(1.0)(testbed)

    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, prepare)
    assert stage.run().why_ended == "interrupted"
    assert stage.lasted_s < 4


@pytest.mark.parametrize(("times", "limit_s"), [(1, 7.0), (2, 0.5 + 2.0), (3, 0.5 + 2.0)])
def test_interrupts_are_obeyed_in_time_even_when_nobody_answers(tmp_path: Path, times: int, limit_s: float) -> None:
    """Seven seconds after one, two after a second, though every agent is deaf and collecting takes for ever."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.collect_takes_s = 1000.0
        for host in (*testbed.services.values(), *testbed.fleets):
            host.deaf = {Stop, Finish, Thaw}
        interrupting(5.0, times)(testbed)

    stage = Stage(plan_of(step("hang", At(at_s=1.0), "pause"), goodbye(At(at_s=30.0))), tmp_path, prepare)
    result = stage.run()
    assert result.why_ended == "interrupted"
    assert stage.lasted_s <= 5.0 + limit_s
    assert stage.testbed.calls[-1] == "close"
    assert own_records(result)


@pytest.mark.parametrize(("times", "takes_s"), [(1, 5.5), (2, 1.2)])
def test_an_interrupted_testbed_may_take_what_is_left_of_the_promise(
    tmp_path: Path, times: int, takes_s: float
) -> None:
    """Other stages were quick, so that the last has more than its own share: nothing is cut, and nothing is wrong."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.close_takes_s = takes_s
        interrupting(5.0, times)(testbed)

    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("interrupted", [])
    assert not [r for r in own_records(result) if r.event == "note"]


@pytest.mark.parametrize(("times", "limit_s"), [(1, 7.0), (2, 0.5 + 2.0)])
def test_what_an_interrupt_cuts_short_is_a_note_and_no_failure(tmp_path: Path, times: int, limit_s: float) -> None:
    """Who asked for it is told what was not waited for; the harness has not failed."""

    def prepare(testbed: FakeTestbed) -> None:
        testbed.collect_takes_s = testbed.close_takes_s = 1000.0
        interrupting(5.0, times)(testbed)

    stage = Stage(plan_of(goodbye(At(at_s=30.0))), tmp_path, prepare)
    result = stage.run()
    assert (result.why_ended, result.problems) == ("interrupted", [])
    cut = [r.fields["text"].split(",")[0] for r in own_records(result) if r.event == "note"]
    assert cut == ["collect: cut short by the interrupt", "close: cut short by the interrupt"]
    assert stage.lasted_s <= 5.0 + limit_s


def test_a_conductor_that_was_not_run_in_time_says_so(tmp_path: Path) -> None:
    """A machine that stood still for 1.3 s while a reply was told: a `stalled` record, and none in a run in time."""
    assert not [r for r in own_records(Stage(KILL_AND_RETURN, tmp_path).run()) if r.event == "stalled"]

    def stand_still(record: Record) -> None:
        if record.event == "effective" and record.fields["step"] == "crash":
            stage.clock.advance(1.3)

    stage = Stage(KILL_AND_RETURN, tmp_path, when=stand_still)
    (stall,) = (r for r in own_records(stage.run()) if r.event == "stalled")
    assert 1.2 <= stall.fields["for_ns"] / 1e9 <= 1.3
