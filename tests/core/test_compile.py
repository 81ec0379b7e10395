"""Compiling: the same scenario and seed give the same plan, and the plan says what the scenario said."""

from __future__ import annotations

import pytest

from midsession.core import plan
from midsession.core.compile import arrivals_of, flow
from midsession.core.loader import parse
from midsession.core.scenario import Arrive
from tests.core.spoken import DESIGN, SMALL, plan_of

BIG = DESIGN.replace("${{ matrix.clients }}", "50").replace("matrix: {clients: [1, 50]}\n", "")


def script_of(text: str) -> list[plan.Instruction]:
    return plan_of(text).groups[0].script


def test_a_command_runs_in_the_scenarios_folder() -> None:
    """`cwd` counts from where the scenario is, not from where Midsession was called; without it nothing is said."""
    named = SMALL.replace("reference: reply,", "command: [./it], cwd: bin,")
    assert named != SMALL
    service = plan_of(named, path="suite/x.yaml").services[0]
    assert isinstance(service, plan.CommandService)
    assert service.cwd == "suite/bin"
    silent = plan_of(named.replace(" cwd: bin,", ""), path="suite/x.yaml").services[0]
    assert isinstance(silent, plan.CommandService)
    assert silent.cwd is None


def test_a_group_of_programs_compiles() -> None:
    """To as many clients as are wanted, which arrive as others do, and one program for all."""
    head, _, rest = SMALL.partition("    count: 2\n")
    own = "    command: [driver, a.py]\n    env: {A: x}\n    cwd: bin\n    files: [a.py]\n    grace: 1s\n    count: 2\n"
    tail = rest[rest.index("timeline:") :]
    made = plan_of(f"{head}{own}    arrive: {{every: 1s}}\n{tail}", path="suite/x.yaml", files={"a.py": b"print()"})
    (group,) = made.foreign
    assert (made.scripted, made.foreign_clients) == ([], ["talkers-1", "talkers-2"])
    assert (group.host, group.port, group.script) == ("", 0, [])
    assert [client.arrive_s for client in group.clients] == [0.0, 1.0]
    assert group.program == plan.Program(
        argv=["driver", "a.py"], env={"A": "x"}, cwd="suite/bin", files={"a.py": "print()"}, grace_s=1.0
    )
    image = plan_of(f"{head}    image: my/driver\n    connect: server:4000\n{tail}").groups[0]
    assert (image.host, image.port, image.program) == ("server", 4000, plan.Program(image="my/driver"))


def test_the_design_compiles_as_it_is_printed() -> None:
    """The scenario of the design means what it says."""
    made = plan_of(BIG)
    assert (made.name, made.timeout_s, made.tags) == ("The server is killed mid-session", 60.0, ["kill", "recovery"])
    assert made.services == [plan.ReferenceService(name="server", port=4000, behaviour="reply")]
    (group,) = made.groups
    assert (group.name, group.host, group.port, len(group.clients), group.begin) == (
        "talkers",
        "server",
        4000,
        50,
        True,
    )
    assert group.on_loss == plan.Reconnect(0.1, 2.0, 1.0, 0.2, 20)
    hello = plan.Payload(text="Hi from client {client}, message {n} 👋", line=True)
    assert group.script == [
        plan.Repeat(
            [
                plan.Send(hello),
                plan.Expect(within_s=1.0, line="Got your message ✅"),
                plan.Wait(plan.Span(0.01, 0.03)),
            ],
            until="goodbye",
        ),
        plan.End(),
    ]
    when = [(s.id, s.when, s.verb, s.args) for s in made.timeline]
    assert when == [
        (
            "crash",
            plan.OnEvent(event="replied", of="talkers", count=500),
            "kill",
            {"target": "server", "signal": "KILL"},
        ),
        ("return", plan.After(step="crash", wait_s=2.0), "start", {"target": "server"}),
        ("step-3", plan.Every(group="talkers", event="replied", since="return"), "signal", {"target": "goodbye"}),
    ]
    assert [(c.kind, c.args) for c in made.checks] == [
        ("every", {"every": "talkers", "meets": "lost", "since": "crash", "within_s": 1.0}),
        ("every", {"every": "talkers", "meets": "connected", "since": "return", "within_s": 5.0}),
        ("never", {"never": {"event": "protocol_error", "where": {}}}),
    ]
    assert made.checks[0].text == "every: talkers, meets: lost, since: crash, within: 1s"
    assert made.checks[2].text == "never: {event: protocol_error}"
    assert BIG.splitlines()[int(made.checks[2].place.split(":")[1]) - 1] == "  - never: {event: protocol_error}"


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("connect", plan.Connect(timeout_s=10.0)),
        ("connect: server:4000", plan.Connect("server", 4000, 10.0)),
        ("connect: {timeout: 1s, source_port: 99}", plan.Connect(None, None, 1.0, 99)),
        ("send: {text: a}", plan.Send(plan.Payload(text="a"))),
        ("send: {hex: 'DE ad'}", plan.Send(plan.Payload(hex="dead"))),
        ("send: {base64: aGk=}", plan.Send(plan.Payload(hex="6869"))),
        (
            "send: {random: 1KiB, slices: 5B, pause: 1ms}",
            plan.Send(plan.Payload(random_bytes=1024), slice_bytes=5, pause_s=0.001),
        ),
        ("expect: eof", plan.Expect(10.0, eof=True)),
        ("expect: {eof: true, drain: true}", plan.Expect(10.0, eof=True, drain=True)),
        ("expect: {reset: true, within: 1s}", plan.Expect(1.0, reset=True)),
        ("expect: {nothing: true, within: 1s}", plan.Expect(1.0, nothing=True)),
        ("expect: {bytes: 3B}", plan.Expect(10.0, bytes=3)),
        ("expect: {glob: 'a*'}", plan.Expect(10.0, glob="a*")),
        ("wait: 2s", plan.Wait(plan.Span(2.0, 2.0))),
        ("half_close", plan.HalfClose()),
        ("end", plan.End(10.0)),
        ("abort", plan.Abort()),
        ("read: never", plan.Read("never")),
        ("read: {slow: 1kB/s}", plan.Read("slow", 1000)),
        ("barrier: b", plan.Barrier("b")),
        ("mark: m", plan.Mark("m")),
        ("repeat: {times: 2, for: 1m, script: [abort]}", plan.Repeat([plan.Abort()], 2, None, 60.0)),
    ],
)
def test_a_verb_becomes_its_instruction(verb: str, expected: plan.Instruction) -> None:
    """Each verb of the language has its instruction in the plan."""
    assert script_of(SMALL.replace("- end", f"- {verb}"))[-1] == expected


def test_every_instruction_of_the_plan_can_be_said() -> None:
    """The language's verbs and the plan's instructions are the same."""
    from midsession.core.scenario import Instruction

    tags = {kind.__struct_config__.tag for kind in plan.Instruction.__args__}  # type: ignore[attr-defined]
    assert tags == set(Instruction.one_of)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (
            "command: [redis-server, --save, ''], env: {B: x, A: y}, cwd: d, "
            "ready: {line: Ready, within: 2s}, autostart: false",
            plan.CommandService(
                name="server",
                port=4000,
                autostart=False,
                ready_within_s=2.0,
                argv=["redis-server", "--save", ""],
                env={"B": "x", "A": "y"},
                cwd="d",
                ready_line="Ready",
            ),
        ),
        ("image: 'redis:7', grace: 1s", plan.ImageService(name="server", port=4000, grace_s=1.0, image="redis:7")),
        ("image: r, command: [x]", plan.ImageService(name="server", port=4000, image="r", argv=["x"])),
        (
            "compose: {file: c.yml, service: db}, ready: {line: Ready}",
            plan.ComposeService(name="server", port=4000, file="c.yml", service="db", ready_line="Ready"),
        ),
        ("reference: echo", plan.ReferenceService(name="server", port=4000, behaviour="echo")),
    ],
)
def test_a_service_becomes_its_plan(service: str, expected: plan.Service) -> None:
    """Each kind of service has its plan."""
    assert plan_of(SMALL.replace("reference: reply", service)).services == [expected]


def test_triggers_may_hold_triggers() -> None:
    """`all` and `any` nest, and every one may have its `within`."""
    inner = "{any: [{log: {service: server, contains: x}}, {event: lost, where: {how: eof}}]}"
    text = f"when: {{all: [{{at: 1s}}, {inner}], within: 5s}}"
    (step,) = plan_of(SMALL.replace("when: {at: 1s}", text)).timeline
    either = plan.AnyOf(
        triggers=[plan.OnLog(of="server", contains="x"), plan.OnEvent(event="lost", where={"how": "eof"})]
    )
    assert step.when == plan.AllOf(triggers=[plan.At(at_s=1.0), either], within_s=5.0)


def test_a_fault_may_heal_itself_and_has_its_units_read() -> None:
    """Arguments stand under the names of the dataclass's fields, in seconds, bytes and shares."""
    text = SMALL.replace("kill: server", "loss: {target: server, rate: 5%, burst: 1KiB, after: 250ms}\n    for: 3s")
    (step,) = plan_of(text).timeline
    assert step.args == {"target": "server", "rate_share": 0.05, "burst_bytes": 1024, "after_s": 0.25}
    assert step.for_s == 3.0


def test_a_group_that_the_timeline_runs_does_not_begin_by_itself() -> None:
    """`run` is what begins such a group."""
    made = plan_of(SMALL.replace("kill: server", "run: talkers"))
    assert [g.begin for g in made.groups] == [False]
    assert made.timeline[0].args == {"target": "talkers"}


# --- arrivals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 50, 1000])
def test_arrivals_over_a_time_fill_each_slot_once(count: int) -> None:
    """Each client has a slot of its own, in a seeded order."""
    arrivals = arrivals_of(Arrive.model_validate({"over": "2s"}), count, plan.substream(7, "arrive", "g"))
    slots = sorted(int(a / (2.0 / count)) for a in arrivals)
    assert slots == list(range(count))
    assert count < 50 or arrivals != sorted(arrivals)


def test_other_arrivals_are_exact() -> None:
    """`every` is in the order of the numbers, `at` all at once, nothing at once at the start."""
    key = plan.substream(7, "arrive", "g")
    assert arrivals_of(Arrive.model_validate({"every": "100ms"}), 4, key) == [0.0, 0.1, 0.2, 0.3]
    assert arrivals_of(Arrive.model_validate({"at": "2s"}), 2, key) == [2.0, 2.0]
    assert arrivals_of(None, 2, key) == [0.0, 0.0]


# --- the same bytes ------------------------------------------------------------------------------------------------


def test_a_seed_is_a_plan() -> None:
    """The same seed gives the same bytes, another one other draws, and nothing else changes."""
    assert plan_of(BIG).to_json() == plan_of(BIG).to_json()
    one, other = plan_of(BIG, 1), plan_of(BIG, 2)
    assert one.hash != other.hash
    assert [c.key for c in one.groups[0].clients] != [c.key for c in other.groups[0].clients]
    assert one.timeline == other.timeline


@pytest.mark.parametrize("path", ["x.yaml", "suite/x.yaml", "../suite/x.yaml", "/home/me/suite/x.yaml", "renamed.yaml"])
def test_where_a_scenario_lies_is_not_what_is_run(path: str) -> None:
    """The hash is that of the same scenario anywhere else, though places and `cwd` are told as they can be found."""
    named = BIG.replace("reference: {behaviour: reply}", "command: [./it]\n    cwd: bin")
    assert named != BIG
    here, there = plan_of(named, path="here.yaml"), plan_of(named, path=path)
    assert here.checks
    assert here.timeline
    assert there.checks[0].place.startswith(f"{path}:")
    assert there.hash == here.hash
    elsewhere = plan_of(named.replace("cwd: bin", "cwd: lib"), path=path)
    assert elsewhere.hash != here.hash
    assert plan_of(f"# moved by a line\n{named}", path=path).hash != here.hash


def test_the_folder_of_a_program_counts_from_its_scenario() -> None:
    """Of a group of programs as of a service."""
    head, _, rest = SMALL.partition("    count: 2\n")
    own = "    command: [driver]\n    cwd: bin\n    count: 2\n"
    text = f"{head}{own}{rest[rest.index('timeline:') :]}"
    assert plan_of(text, path="suite/x.yaml").hash == plan_of(text, path="/home/x.yaml").hash
    assert plan_of(text).hash != plan_of(text.replace("cwd: bin", "cwd: lib")).hash


def test_another_group_changes_no_draws() -> None:
    """Draws belong to their group and client: adding one leaves the others as they were."""
    more = BIG.replace(
        "clients:\n  talkers:", "clients:\n  early:\n    connect: server:4000\n    script: [end]\n  talkers:"
    )
    assert plan_of(more).groups[1] == plan_of(BIG).groups[0]


def test_a_plan_survives_its_file() -> None:
    """plan.json read back is the same plan, with the same bytes and hash."""
    made = plan_of(BIG)
    again = plan.Plan.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()
    assert again.hash == made.hash


def test_a_node_on_one_line() -> None:
    """A check's text is its YAML in flow style; text that YAML would read otherwise is quoted."""
    node = parse('a: [1, "x y", {b: ~, c: "12: 3"}]\nd: "👋"\n'.encode(), "x.yaml")
    assert flow(node) == '{a: [1, "x y", {b: null, c: "12: 3"}], d: "👋"}'
