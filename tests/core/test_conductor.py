"""The conductor as transcripts: (record in, commands out) on a clock of our own."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from midsession.core.conductor import (
    Act,
    Begin,
    Command,
    Conductor,
    Finish,
    Fired,
    Heal,
    Note,
    Release,
    Signal,
)
from midsession.core.plan import (
    After,
    AllOf,
    AnyOf,
    At,
    Barrier,
    ClientPlan,
    Every,
    GroupPlan,
    Instruction,
    OnEvent,
    OnLog,
    Plan,
    Program,
    ReferenceService,
    Repeat,
    Service,
    Step,
    Trigger,
)
from midsession.core.record import Record

SECOND = 1_000_000_000
START = 1000 * SECOND


def group(
    name: str = "talkers", count: int = 3, script: list[Instruction] | None = None, begin: bool = True
) -> GroupPlan:
    clients = [ClientPlan(number=n + 1, arrive_s=0.0, key="00") for n in range(count)]
    return GroupPlan(name=name, host="server", port=4000, script=script or [], clients=clients, begin=begin)


def programs(name: str = "drivers", count: int = 2, begin: bool = True) -> GroupPlan:
    return msgspec.structs.replace(group(name, count, begin=begin), program=Program(argv=["driver"]))


def step(id: str, when: Trigger, verb: str = "break", target: str = "server", **more: Any) -> Step:
    return Step(id=id, when=when, verb=verb, args={"target": target}, **more)


class Play:
    """A conductor and a clock: every method is one line of a transcript, and returns the commands without `Fired`."""

    def __init__(self, *timeline: Step, groups: list[GroupPlan] | None = None, timeout_s: float = 60.0) -> None:
        groups = [group()] if groups is None else groups
        services: list[Service] = [ReferenceService(name="server", port=4000)]
        plan = Plan("p", "p.yaml", 1, timeout_s, services, groups, list(timeline), [])
        self.conductor = Conductor(plan)
        self.now = START
        self.seq = 0
        self.fired: list[Fired] = []

    def begin(self) -> list[Command]:
        return self._note(self.conductor.begin(self.now))

    def wait(self, seconds: float) -> list[Command]:
        """Let time pass as the runner does: from deadline to deadline."""
        until, commands = self.now + round(seconds * SECOND), []
        while (deadline := self.conductor.next_deadline_ns()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            commands += self._note(self.conductor.tick(self.now))
        self.now = until
        return commands

    def client(self, client: str, event: str, /, ago_s: float = 0.0, **fields: Any) -> list[Command]:
        return self._record(Record(event, self._next(), self._ago(ago_s), client, 1, fields, "client-1", "program", 1))

    def program(self, client: str, event: str, /, **fields: Any) -> list[Command]:
        return self._record(Record(event, self._next(), self.now, client, None, fields, client, "agent", 1))

    def server(self, event: str, ago_s: float = 0.0, **fields: Any) -> list[Command]:
        return self._record(Record(event, self._next(), self._ago(ago_s), None, None, fields, "server", "agent", 1))

    def injected(self, step: str, ago_s: float = 0.0) -> list[Command]:
        return self.server("injected", fault=step, began_ns=self._ago(ago_s))

    def effective(self, step: str) -> list[Command]:
        return self._own("effective", step=step)

    def failed(self, step: str, text: str) -> list[Command]:
        return self._own("note", text=text, failed=step)

    def took_effect(self, step: str) -> list[Command]:
        return self.injected(step) + self.effective(step)

    def all_done(self, name: str = "talkers", count: int = 3) -> list[Command]:
        return [c for n in range(count) for c in self.client(f"{name}-{n + 1}", "done", outcome="ok")]

    @property
    def missing(self) -> dict[str, str]:
        return {m["step"]: m["missing"] for m in self.conductor.missing()}

    def _own(self, event: str, **fields: Any) -> list[Command]:
        record = Record(event, self._next(), self.now, None, None, fields, "conductor", "conductor", 1)
        return self._record(record)

    def _record(self, record: Record) -> list[Command]:
        return self._note(self.conductor.observe(self.now, record))

    def _note(self, commands: list[Command]) -> list[Command]:
        self.fired += [c for c in commands if isinstance(c, Fired)]
        return [c for c in commands if not isinstance(c, Fired)]

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _ago(self, seconds: float) -> int:
        return self.now - round(seconds * SECOND)


CRASH = Act("crash", "break", {"target": "server"})


# --- triggers ------------------------------------------------------------------------------------------------------


def test_the_kill_comes_after_exactly_the_record_that_the_trigger_names() -> None:
    """The 5th reply fires and is named; the 4th does not, the 6th fires nothing more."""
    play = Play(step("crash", OnEvent(event="replied", of="talkers", count=5)))
    play.begin()
    assert [play.client(f"talkers-{n % 3 + 1}", "replied") for n in range(4)] == [[], [], [], []]
    assert play.client("talkers-2", "replied") == [CRASH]
    (fired,) = play.fired
    assert fired.by is not None
    assert (fired.by.seq, fired.by.client, fired.due_ns) == (5, "talkers-2", fired.by.t_ns)
    assert play.client("talkers-2", "replied") == []


def test_only_records_of_whom_and_of_what_the_trigger_names_count() -> None:
    """Another group, another event, other fields, the server's own record of that name: none of them counts."""
    when = OnEvent(event="lost", of="talkers", count=1, where={"how": "eof"})
    play = Play(step("crash", when), groups=[group(), group("others")])
    play.begin()
    assert play.client("others-1", "lost", how="eof") == []
    assert play.client("talkers-1", "replied", how="eof") == []
    assert play.client("talkers-1", "lost", how="reset") == []
    assert play.server("lost", how="eof") == []
    assert play.client("talkers-1", "lost", how="eof") == [CRASH]


def test_one_client_and_one_service_can_be_named() -> None:
    """`of: talkers-3` hears that client alone, `of: server` that host alone."""
    play = Play(
        step("one", OnEvent(event="received", of="talkers-3")),
        step("two", OnEvent(event="received", of="server")),
    )
    play.begin()
    assert play.client("talkers-2", "received") == []
    assert [c.step for c in play.client("talkers-3", "received")] == ["one"]  # type: ignore[union-attr]
    assert [c.step for c in play.server("received")] == ["two"]  # type: ignore[union-attr]


def test_at_counts_from_the_start() -> None:
    """Two seconds after the start, not before, and due then even if the clock is looked at late."""
    play = Play(step("crash", At(at_s=2.0)))
    assert play.begin() == []
    assert play.wait(1.999) == []
    assert play.conductor.next_deadline_ns() == START + 2 * SECOND
    play.now += SECOND
    assert play._note(play.conductor.tick(play.now)) == [CRASH]
    assert play.fired[0].by is None
    assert play.fired[0].due_ns == START + 2 * SECOND


def test_after_a_fault_waits_for_its_witness() -> None:
    """`after: crash, wait: 2s` counts from when the fault was seen to have taken effect, not from the order."""
    play = Play(step("crash", At(at_s=1.0)), step("return", After(step="crash", wait_s=2.0)))
    play.begin()
    assert play.wait(10) == [CRASH]
    assert play.missing == {"return": "crash was not effective: its witness was not seen"}
    play.took_effect("crash")
    assert play.wait(1.9) == []
    assert play.missing == {"return": "2 s after crash had not passed"}
    assert play.wait(0.1) == [Act("return", "break", {"target": "server"})]


def test_after_what_is_no_fault_counts_from_its_firing() -> None:
    """A signal has no witness: what comes right after it is in the same breath."""
    play = Play(step("bye", At(at_s=1.0), "signal", "goodbye"), step("word", After(step="bye"), "note", "said"))
    play.begin()
    assert play.wait(1) == [Signal("goodbye"), Note("said")]


def test_since_a_fault_counts_from_the_instant_of_its_injection() -> None:
    """Records that were stamped before the injection began do not count, though they come after it."""
    play = Play(
        step("crash", At(at_s=1.0)), step("bye", OnEvent(event="lost", count=2, since="crash"), "signal", "goodbye")
    )
    play.begin()
    play.client("talkers-1", "lost")
    play.wait(1)
    play.now += SECOND
    play.injected("crash", ago_s=0.5)
    assert play.client("talkers-1", "lost", ago_s=0.6) == []
    assert play.client("talkers-2", "lost", ago_s=0.5) == []
    assert play.missing == {"bye": "1 of 2 lost since crash"}
    assert play.client("talkers-3", "lost") == [Signal("goodbye")]


def test_what_comes_before_the_news_of_the_injection_is_not_forgotten() -> None:
    """A client's loss may reach us before the agent's `injected`: it is held, and counted if it was stamped later."""
    play = Play(
        step("crash", At(at_s=1.0)), step("bye", OnEvent(event="lost", count=2, since="crash"), "signal", "goodbye")
    )
    play.begin()
    play.wait(1)
    play.now += SECOND
    play.client("talkers-1", "lost", ago_s=0.9)
    play.client("talkers-2", "lost", ago_s=0.2)
    play.client("talkers-3", "lost", ago_s=0.1)
    assert play.injected("crash", ago_s=0.3) == [Signal("goodbye")]
    assert play.fired[-1].by is not None
    assert play.fired[-1].by.client == "talkers-3"


def test_every_waits_for_each_client_once() -> None:
    """Two replies of one client are no reply of another; the record that completes the group is named."""
    play = Play(step("bye", Every(group="talkers", event="replied"), "signal", "goodbye"))
    play.begin()
    for name in ("talkers-1", "talkers-1", "talkers-3"):
        assert play.client(name, "replied") == []
    assert play.missing == {"bye": "2 of 3 replied"}
    assert play.client("talkers-2", "replied") == [Signal("goodbye")]


def test_a_line_of_a_service_can_trigger() -> None:
    """By a text in it or by an expression; lines of others do not count."""
    play = Play(
        step("one", OnLog(of="server", contains="ready (really)")),
        step("two", OnLog(of="server", matches=r"took \d+ ms$")),
    )
    play.begin()
    assert play.client("talkers-1", "line", text="ready (really)") == []
    assert play.missing == {
        "one": "no line of server contained 'ready (really)'",
        "two": "no line of server matched 'took \\\\d+ ms$'",
    }
    assert len(play.server("line", text="now ready (really) ok")) == 1
    assert play.server("line", text="took 7 ms or so") == []
    assert len(play.server("line", text="took 7 ms")) == 1


def test_a_line_of_a_client_program_can_trigger() -> None:
    """Of any program of the group; once all have exited, it never will."""
    play = Play(step("one", OnLog(of="drivers", contains="ready")), groups=[programs()])
    assert play.conductor.client_watches == {"line", "exited"}
    play.begin()
    assert play.server("line", text="ready") == []
    assert len(play.program("drivers-2", "line", text="ready now")) == 1
    play = Play(step("one", OnLog(of="drivers", contains="ready")), groups=[programs()])
    play.begin()
    play.program("drivers-1", "exited", code=0)
    assert play.program("drivers-2", "exited", code=0) == [Finish("done")]
    assert play.missing == {"one": "no line of drivers contained 'ready'"}


def test_a_run_waits_until_its_client_programs_have_exited() -> None:
    """However they exit; a group that a step starts is waited for, too."""
    play = Play(
        step("go", At(at_s=1.0), "run", "later"),
        groups=[programs(), programs("later", 1, begin=False)],
    )
    play.begin()
    assert play.program("drivers-1", "exited", code=0) == []
    assert play.program("drivers-2", "exited", code=None, signal="KILL") == []
    assert play.wait(1.0) == [Begin("later")]
    assert play.program("later-1", "exited", code=127) == [Finish("done")]


def test_every_client_program_or_none() -> None:
    """One that exits without the event makes it hopeless; its exit itself can be the event."""
    said = step("said", Every(group="drivers", event="line", where={"text": "up"}), "note", "x")
    left = step("left", Every(group="drivers", event="exited"), "note", "y")
    play = Play(said, left, groups=[programs()])
    play.begin()
    play.program("drivers-1", "line", text="up")
    play.program("drivers-2", "exited", code=0)
    assert play.missing["said"] == "1 of 2 line (text: up); 1 are done without it"
    assert play.program("drivers-1", "exited", code=0) == [Note("y"), Finish("done")]


def test_all_and_any() -> None:
    """`all` fires with the last of its parts and names that one's record, `any` with the first."""
    parts: list[Trigger] = [OnEvent(event="connected", count=2), OnEvent(event="replied")]
    play = Play(step("any", AnyOf(triggers=parts), "note", "any"), step("all", AllOf(triggers=parts), "note", "all"))
    play.begin()
    assert play.client("talkers-1", "connected") == []
    assert play.client("talkers-1", "replied") == [Note("any")]
    assert play.missing == {"all": "1 of 2 connected"}
    assert play.client("talkers-2", "connected") == [Note("all")]
    assert [f.by and f.by.event for f in play.fired] == ["replied", "connected"]


def test_within_ends_the_wait_and_the_run_goes_on() -> None:
    """A trigger that did not fire within its time never fires, and says what was missing then."""
    play = Play(step("crash", Every(group="talkers", event="connected", within_s=2.0)))
    play.begin()
    play.client("talkers-1", "connected")
    assert play.wait(2) == []
    play.client("talkers-2", "connected")
    assert play.client("talkers-3", "connected") == []
    assert play.missing == {"crash": "not within 2 s: 1 of 3 connected"}


def test_within_counts_from_the_step_that_since_names() -> None:
    """`since: crash, within: 1s` is not over before the crash."""
    when = OnEvent(event="lost", since="crash", within_s=1.0)
    play = Play(step("crash", At(at_s=5.0)), step("bye", when, "signal", "goodbye"))
    play.begin()
    assert play.wait(5.5) == [CRASH]
    play.took_effect("crash")
    assert play.client("talkers-1", "lost") == [Signal("goodbye")]


def test_what_comes_before_the_start_counts_and_fires_at_the_start() -> None:
    """A service listens before the run begins; a trigger on that fires with the start, not before."""
    play = Play(step("crash", OnEvent(event="listening", of="server")))
    assert play.server("listening") == []
    assert play.begin() == [CRASH]


# --- verbs ---------------------------------------------------------------------------------------------------------


def test_a_fault_with_for_is_healed_by_itself() -> None:
    """`for: 3s` heals three seconds after the step fired."""
    play = Play(step("crash", At(at_s=1.0), for_s=3.0))
    play.begin()
    assert play.wait(3.9) == [CRASH]
    assert play.wait(0.1) == [Heal("crash")]


def test_what_was_healed_by_hand_is_not_healed_again() -> None:
    """`heal` before the `for` has run out takes its place."""
    play = Play(step("crash", At(at_s=1.0), for_s=3.0), step("cure", At(at_s=2.0), "heal", "crash"))
    play.begin()
    assert play.wait(10) == [CRASH, Heal("crash")]


def test_a_group_begins_when_its_run_step_fires() -> None:
    """And the run waits for it."""
    play = Play(step("late", At(at_s=1.0), "run", "late"), groups=[group(), group("late", begin=False)])
    play.begin()
    assert play.all_done() == []
    assert play.wait(1) == [Begin("late")]
    assert play.all_done("late") == [Finish("done")]


def test_a_barrier_opens_when_all_have_come() -> None:
    """Again and again; the clients of another group have nothing to do with it."""
    play = Play(groups=[group(script=[Barrier(name="here")]), group("others")])
    play.begin()
    for _ in range(2):
        assert play.client("talkers-1", "mark", name="here", barrier=True) == []
        assert play.client("others-1", "mark", name="here", barrier=True) == []
        assert play.client("talkers-3", "mark", name="here", barrier=True) == []
        assert play.client("talkers-3", "mark", name="here", barrier=True) == []
        assert play.client("talkers-2", "mark", name="here") == []
        assert play.client("talkers-2", "mark", name="here", barrier=True) == [Release("talkers", "here")]


def test_a_barrier_does_not_wait_for_who_is_done_but_for_who_was_lost() -> None:
    """A done client will not come; one whose connection was lost has left the barrier, and will."""
    play = Play(groups=[group(script=[Barrier(name="here")])])
    play.begin()
    play.client("talkers-1", "mark", name="here", barrier=True)
    play.client("talkers-2", "mark", name="here", barrier=True)
    play.client("talkers-2", "lost", how="eof")
    assert play.client("talkers-3", "done", outcome="lost") == []
    assert play.client("talkers-2", "mark", name="here", barrier=True) == [Release("talkers", "here")]


def test_the_last_one_to_be_done_opens_the_barrier() -> None:
    """Who waits at a barrier is let on when the only one missing ends elsewhere."""
    play = Play(groups=[group(script=[Barrier(name="here")])])
    play.begin()
    play.client("talkers-1", "mark", name="here", barrier=True)
    play.client("talkers-2", "mark", name="here", barrier=True)
    assert play.client("talkers-3", "done", outcome="lost") == [Release("talkers", "here")]


# --- the end -------------------------------------------------------------------------------------------------------


def test_the_run_ends_when_all_are_done_and_all_has_happened() -> None:
    """Clients done, steps fired, witnesses seen, cures made: only then, and only once."""
    play = Play(step("crash", At(at_s=1.0), for_s=3.0))
    play.begin()
    assert play.all_done() == []
    assert play.wait(1) == [CRASH]
    assert play.wait(3) == [Heal("crash")]
    assert play.injected("crash") == []
    assert play.effective("crash") == [Finish("done")]
    assert play.conductor.finished == "done"
    assert play.conductor.next_deadline_ns() is None
    assert play.wait(100) == []


def test_a_trigger_that_waits_for_clients_ends_with_them() -> None:
    """No client left: the step never fires, says so, and does not hold the run up to its timeout."""
    play = Play(
        step("crash", OnEvent(event="replied", of="talkers", count=500)),
        step("return", After(step="crash", wait_s=2.0)),
        step("bye", Every(group="talkers", event="replied", since="return"), "signal", "goodbye"),
    )
    play.begin()
    play.client("talkers-1", "replied")
    assert play.all_done() == [Finish("done")]
    assert play.missing == {
        "crash": "1 of 500 replied; no client is left",
        "return": "crash: 1 of 500 replied; no client is left",
        "bye": "return had not fired",
    }


def test_every_is_hopeless_once_a_client_is_done_without_it() -> None:
    """It is not waited for the others then."""
    play = Play(step("crash", Every(group="talkers", event="replied")))
    play.begin()
    play.client("talkers-1", "replied")
    play.client("talkers-2", "done", outcome="lost")
    assert play.missing == {"crash": "1 of 3 replied; 1 are done without it"}


def test_clients_that_nothing_can_begin_any_more_are_not_waited_for() -> None:
    """A group whose `run` step never fires holds nothing up."""
    play = Play(
        step("late", OnEvent(event="gave_up", of="talkers"), "run", "late"),
        groups=[group(), group("late", begin=False)],
    )
    play.begin()
    assert play.all_done() == [Finish("done")]
    assert play.missing == {"late": "0 of 1 gave_up; no client is left"}


def test_a_fault_that_failed_holds_nothing_up() -> None:
    """What waits for a fault that could not be injected never fires, and says why."""
    play = Play(step("crash", At(at_s=1.0)), step("return", After(step="crash")))
    play.begin()
    play.all_done()
    assert play.wait(1) == [CRASH]
    assert play.failed("crash", "crash failed: no program runs") == [Finish("done")]
    assert play.missing == {"return": "crash: crash failed: no program runs"}


def test_the_timeout_ends_the_run() -> None:
    """And what was missing is said."""
    play = Play(step("crash", OnLog(of="server", contains="x")), timeout_s=5.0)
    play.begin()
    assert play.wait(4.9) == []
    assert play.wait(0.1) == [Finish("timeout")]
    assert play.missing == {"crash": "no line of server contained 'x'"}


def test_a_run_without_clients_and_steps_is_over_at_once() -> None:
    """There is nothing to wait for."""
    assert Play(groups=[]).begin() == [Finish("done")]


# --- what must be heard --------------------------------------------------------------------------------------------


def test_only_what_is_needed_is_asked_for() -> None:
    """Clients are heard for the end of their sessions and what triggers name; marks and losses only with barriers."""
    assert Play().conductor.watches == {"done"}
    nested: list[Instruction] = [Repeat(script=[Barrier(name="here")], times=2)]
    assert Play(groups=[group(script=nested)]).conductor.client_watches == {"done", "mark", "lost"}
    when = AllOf(triggers=[OnEvent(event="replied", of="talkers"), OnLog(of="server", contains="x")])
    conductor = Play(step("crash", when)).conductor
    assert conductor.client_watches == {"done", "replied"}
    assert conductor.service_watches == {"injected", "line"}


# --- properties ----------------------------------------------------------------------------------------------------


@given(count=st.integers(1, 40), others=st.lists(st.sampled_from(["sent", "lost", "connected"]), max_size=40))
def test_the_count_is_exact_whatever_else_comes(count: int, others: list[str]) -> None:
    """Records of other events, in between or in front, shift nothing."""
    play = Play(step("crash", OnEvent(event="replied", of="talkers", count=count)))
    play.begin()
    seen = 0
    stream = others + ["replied", "sent"] * count
    for event in stream:
        commands = play.client("talkers-1", event)
        seen += event == "replied"
        assert commands == ([CRASH] if event == "replied" and seen == count else [])
    assert seen == count
    assert len(play.fired) == 1


INPUTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 3)),
        st.tuples(
            st.sampled_from(["replied", "lost", "done", "mark"]),
            st.sampled_from(["talkers-1", "talkers-2", "talkers-3"]),
        ),
        st.tuples(st.sampled_from(["injected", "effective", "failed"]), st.sampled_from(["crash", "return"])),
    ),
    max_size=60,
)


@given(INPUTS)
def test_any_history_ends_once_and_every_step_fires_at_most_once(inputs: list[tuple[str, Any]]) -> None:
    """Whatever comes in whatever order: no step twice, one end, nothing after it, none both fired and missing."""
    play = Play(
        step("crash", OnEvent(event="replied", of="talkers", count=2)),
        step("return", After(step="crash", wait_s=1.0), for_s=1.0),
        step("bye", Every(group="talkers", event="replied", since="return", within_s=5.0), "signal", "goodbye"),
        groups=[group(script=[Barrier(name="here")])],
        timeout_s=20.0,
    )
    commands = play.begin()
    for what, value in inputs:
        match what:
            case "wait":
                commands += play.wait(value)
            case "injected" | "effective":
                commands += getattr(play, what)(value)
            case "failed":
                commands += play.failed(value, "it failed")
            case event:
                commands += play.client(value, event, name="here", barrier=True)
    commands += play.wait(30)
    assert [c for c in commands if isinstance(c, Finish)] == commands[-1:]
    fired = [f.step for f in play.fired]
    assert len(fired) == len(set(fired))
    assert set(fired) | set(play.missing) == {"crash", "return", "bye"}
    assert not set(fired) & set(play.missing)
