"""The scenario language: what may stand in a `*.scenario.yaml`, as pydantic models.

Field docstrings are shown by editors through the JSON Schema. Keys follow `units.split_name`: a field `within_s` is
`within: 1s` in YAML. What a single value or mapping can say about itself is checked here; what refers to something
elsewhere in the file is checked in `references`. Actions and checks come from registries that the caller passes in:
this module names none of them but the conductor's own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Annotated, Any, ClassVar, Literal, Union

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, create_model

from midsession.core.shape import Duration, EventName, Late, Model, Rate, Share, Size, SpanText, model_of, plain
from midsession.core.texts import Address, Argument, Base64, FileName, Hex, InnerPath, Line, Name, Regex, Text
from midsession.core.wrong import Wrong, did_you_mean, quoted

MAX_CLIENTS = 100_000
MAX_RANDOM_BYTES = 64 * 1024 * 1024


# --- small types ---------------------------------------------------------------------------------------------------

Argv = Annotated[list[Argument], Field(min_length=1, max_length=1000)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Payload = Annotated[Size, Field(ge=1, le=MAX_RANDOM_BYTES)]
Yes = Literal[True]
Operation = Literal["write", "read"]


def _no_twins(names: list[str]) -> list[str]:
    if twins := [name for at, name in enumerate(names) if name in names[:at]]:
        raise Wrong("duplicate-id", f"{quoted(twins[0])} is named twice", "name it once")
    return names


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _text_or(other: Any, value: object) -> object:
    """Text, or else the other type, whose complaints then are the only ones."""
    return _reader(str if isinstance(value, str) else other).validate_python(value, strict=True)


Names = Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(_no_twins)]
Candidates = Annotated[Any, Late(partial(_text_or, Names), lambda: str | Names)]


def _argv(value: object) -> object:
    if isinstance(value, str):
        remedy = "write it as a list: [program, argument, …]; nothing is given to a shell"
        raise Wrong("wrong-type", "a command is a list of words, not one text", remedy)
    return value


Command = Annotated[Argv, BeforeValidator(_argv)]


class Nothing(Model):
    """A verb that has no more to say."""

    empty: ClassVar[bool] = True


# --- the session script --------------------------------------------------------------------------------------------


class Connect(Model):
    """Open a connection: a new one, or one to another place than the group's."""

    scalar: ClassVar[str | None] = "to"
    empty: ClassVar[bool] = True

    to: Address | None = None
    """`service:port`; without it, the group's own."""
    timeout_s: Duration | None = None
    """How long the attempt may take; without it, the group's own."""
    source_port: Port | None = None
    """The own port; without it, one that the kernel picks."""


class Send(Model):
    """Write bytes: in one write, or in slices with a pause between them."""

    one_of: ClassVar[tuple[str, ...]] = ("line", "text", "hex", "base64", "random", "file")

    line: Line | None = None
    """Text with placeholders; one line feed is appended."""
    text: Text | None = None
    """Text with placeholders, as it is."""
    hex: Hex | None = None
    """These bytes."""
    base64: Base64 | None = None
    """These bytes."""
    random: Payload | None = None
    """That many random bytes, drawn from the seed."""
    file: InnerPath | None = None
    """The bytes of a file in the scenario's folder or below it."""
    slices: Annotated[Size, Field(ge=1)] | None = None
    """Cut the bytes into writes of this size."""
    pause_s: Duration = 0.0
    """The pause between slices."""
    as_: Operation | None = None
    """What this is to the checks that compare what was written with what is read back."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if "pause" in mapping and "slices" not in mapping:
            yield ("pause",), Wrong("choose-one", "a pause without slices never comes", "add 'slices: 5B'")


class Expect(Model):
    """Wait until the peer's next message matches; anything else is a `protocol_error`, and ends the session."""

    one_of: ClassVar[tuple[str, ...]] = (
        *("line", "contains", "glob", "regex", "exact", "hex", "bytes"),
        *("eof", "reset", "nothing"),
    )
    words: ClassVar[tuple[str, ...]] = ("eof", "reset")

    line: Line | None = None
    """The next line is exactly this (without its line feed)."""
    contains: Line | None = None
    """The next line contains this."""
    glob: Line | None = None
    """The next line matches this shell pattern (`*`, `?`, `[…]`)."""
    regex: Regex | None = None
    """The next line holds a match of this regular expression (RE2)."""
    exact: Annotated[Text, Field(min_length=1)] | None = None
    """The next bytes are exactly this text."""
    hex: Annotated[Hex, Field(min_length=2)] | None = None
    """The next bytes are exactly these."""
    bytes: Payload | None = None
    """That many bytes come, whatever they are."""
    eof: Yes | None = None
    """The peer ends its side (FIN)."""
    reset: Yes | None = None
    """The peer resets the connection (RST)."""
    nothing: Yes | None = None
    """No byte comes for `within`."""
    within_s: Duration = 10.0
    """How long it may take to be met; with `nothing`, how long nothing must come."""
    ok: Operation | None = None
    """When it is met, the `write` before it is acknowledged, or this is what the `read` before it has found."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if "nothing" in mapping and "within" not in mapping:
            yield (), Wrong("missing-key", "for how long must nothing come?", "write {nothing: true, within: 500ms}")


class Wait(Model):
    """Let time pass (a duration, or a range to draw from), or wait for a signal; the peer is heard meanwhile."""

    one_of: ClassVar[tuple[str, ...]] = ("for", "signal")
    scalar: ClassVar[str | None] = "for"

    for_s: SpanText | None = None
    """So long."""
    signal: Name | None = None
    """The name of a signal that the timeline raises."""


class End(Model):
    """End gracefully: send FIN, wait for the peer's FIN, close."""

    empty: ClassVar[bool] = True

    within_s: Duration = 10.0
    """How long the peer may take to end its side."""


class Read(Model):
    """How the client reads from here on."""

    one_of: ClassVar[tuple[str, ...]] = ("normal", "never", "slow")
    words: ClassVar[tuple[str, ...]] = ("normal", "never")

    normal: Yes | None = None
    """As fast as the peer writes."""
    never: Yes | None = None
    """Not at all: the peer's bytes fill the kernel's buffers, then its window closes."""
    slow: Annotated[Rate, Field(ge=1)] | None = None
    """At most so many bytes per second."""


class Repeat(Model):
    """Run a script again and again, until the first of its ends is reached."""

    times: Count | None = None
    """So many rounds."""
    until: Name | None = None
    """No further round once the timeline has raised this signal."""
    for_s: Duration | None = None
    """No further round after this time."""
    script: Script
    """One round."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if not {"times", "until", "for"} & mapping.keys():
            yield (), Wrong("missing-key", "this repeat has no end", "give one of times, until, for")


class Instruction(Model):
    """One step of a session's script: exactly one verb."""

    noun: ClassVar[str] = "verb"
    words: ClassVar[tuple[str, ...]] = ("connect", "half_close", "end", "abort")
    one_of: ClassVar[tuple[str, ...]] = (
        *("connect", "send", "expect", "wait", "half_close", "end"),
        *("abort", "read", "barrier", "mark", "repeat"),
    )

    connect: Connect | None = None
    send: Send | None = None
    expect: Expect | None = None
    wait: Wait | None = None
    half_close: Nothing | None = None
    """Send FIN and go on hearing the peer."""
    end: End | None = None
    abort: Nothing | None = None
    """Close with RST."""
    read: Read | None = None
    barrier: Name | None = None
    """Wait until every client of the group has come to this barrier."""
    mark: Name | None = None
    """Write a `mark` record, for triggers and checks."""
    repeat: Repeat | None = None

    @classmethod
    def word_value(cls, word: str) -> object:
        """A bare verb is one with nothing more to say."""
        return {}

    @classmethod
    def _as_mapping(cls, data: object) -> dict[str, object]:
        if isinstance(data, str) and data not in cls.words:
            if data in cls.one_of:
                raise Wrong("missing-key", f"the verb '{data}' needs more", f"write it as {data}: …")
            raise Wrong("unknown-verb", f"unknown verb {quoted(data)}", did_you_mean(data, cls.one_of))
        return super()._as_mapping(data)


Script = Annotated[list[Instruction], Field(min_length=1, max_length=1000)]


# --- clients and services ------------------------------------------------------------------------------------------


class Reconnect(Model):
    """Backoff after a loss: the n-th delay is min(first * factor^(n-1), max), times 1 ± jitter."""

    empty: ClassVar[bool] = True

    first_s: Duration = 0.1
    """The delay before the first attempt."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Each further delay is this many times the one before."""
    max_s: Duration = 5.0
    """No delay is longer than this, but for the jitter."""
    jitter: Share = 0.0
    """Each delay is up to this share shorter or longer, drawn from the seed."""
    attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """So many in a row may fail before the client gives up."""


class OnLoss(Model):
    """What a client does when its connection is lost. Without it, the session ends there."""

    reconnect: Reconnect


class Arrive(Model):
    """When the group's sessions begin. Without it, all at once at the start."""

    one_of: ClassVar[tuple[str, ...]] = ("over", "at", "every")

    over_s: Duration | None = None
    """Spread evenly over this time, in a seeded order, each somewhere in its own slot."""
    at_s: Duration | None = None
    """All at once, that long after the start."""
    every_s: Duration | None = None
    """One after the other, in the order of their numbers, that far apart."""


class Program(Model):
    """A program of the user's: a command on a host of ours, or a container image."""

    command: Command | None = None
    """A program and its arguments; with `image`, in place of the image's own command."""
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")] | None = None
    """A container image."""
    env: Annotated[dict[str, Argument], Field(max_length=1000)] = Field(default={})
    """Environment variables."""
    files: Annotated[list[FileName], Field(max_length=20)] = Field(default=[])
    """UTF-8 files beside the scenario that are copied to the host. A word of the command that names one becomes
    its path there."""
    cwd: InnerPath | None = None
    """The folder in which a command runs, in the scenario's folder or below it; without it, the testbed's choice: on
    netns, where Midsession was called."""
    grace_s: Duration = 5.0
    """From SIGTERM to SIGKILL."""

    @classmethod
    def alternative(cls, key: str) -> dict[str, Any]:
        """A command stands alone, or beside an image."""
        chosen = super().alternative(key)
        return {**chosen, "not": {"required": ["image"]}} if key == "command" else chosen

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        with_image = "image" in mapping and "command" in mapping
        yield from super()._odd({k: v for k, v in mapping.items() if k != "command"} if with_image else mapping)
        yield from cls._without_meaning(mapping)
        for key in mapping.get("env", {}) if isinstance(mapping.get("env"), dict) else ():  # type: ignore[attr-defined]
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key):
                yield ("env", key), Wrong("bad-name", f"{quoted(key)} is not the name of an environment variable")

    @classmethod
    def _without_meaning(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        """Keys that say something about a program where there is none."""
        owners = {key: "a command or an image" for key in ("env", "files") if not cls._is_program(mapping)}
        if "command" not in mapping or "image" in mapping:
            owners["cwd"] = "a command on a host of ours"
        yield from _meaningless(mapping, owners)

    @staticmethod
    def _is_program(mapping: Mapping[str, object]) -> bool:
        return "command" in mapping or "image" in mapping


def _meaningless(mapping: Mapping[str, object], owners: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
    """Complain of each of these keys that is there; `owners` says what they belong to."""
    for key, owner in owners.items():
        if key in mapping:
            yield (key,), Wrong("choose-one", f"'{key}' means nothing here", f"it belongs to {owner}")


class Clients(Program):
    """A group of clients: all run the same script, or each is a program of yours on a host of its own."""

    one_of: ClassVar[tuple[str, ...]] = ("script", "command", "image")

    count: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] = 1
    """How many; they are called `<group>-1`, `<group>-2`, and so on."""
    connect: Address | None = None
    """Where they connect to: `service:port`. A program may do without; it gets it as `MIDSESSION_HOST` and
    `MIDSESSION_PORT`."""
    arrive: Arrive | None = None
    on_loss: OnLoss | None = None
    connect_timeout_s: Duration = 10.0
    """How long an attempt to connect may take."""
    script: Script | None = None
    """What each of them does."""

    @classmethod
    def alternative(cls, key: str) -> dict[str, Any]:
        """A script has somewhere to connect to."""
        return {"required": ["script", "connect"]} if key == "script" else super().alternative(key)

    @classmethod
    def _without_meaning(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._without_meaning(mapping)
        if cls._is_program(mapping):
            yield from _meaningless(mapping, dict.fromkeys(("on_loss", "connect_timeout"), "a script"))
        elif "script" in mapping:
            yield from _meaningless(mapping, {"grace": "a command or an image"})
            if "connect" not in mapping:
                yield (), Wrong("missing-key", "the key 'connect' is missing", "write connect: service:port")


class Reference(Model):
    """Midsession's own server."""

    scalar: ClassVar[str | None] = "behaviour"

    behaviour: Literal["greet", "reply", "echo", "chat", "sink", "silent", "kv", "kv_volatile", "nonsense"] = "reply"
    """`greet` says hello and ends its side; `reply` answers each line; `echo` gives every byte back; `chat` passes each
    line to all others; `sink` hears and says nothing; `silent` neither; `nonsense` answers with nonsense. `kv` is a
    store (`SET key value`, `GET key`, `SCAN n` for the n-th entry) that has each entry on the disk before it says OK;
    `kv_volatile` forgets all when it dies."""


class Compose(Model):
    """A service of your own Compose file."""

    file: InnerPath
    """The Compose file."""
    service: Annotated[str, Field(min_length=1, max_length=200)]
    """The service's name in it."""


class Ready(Model):
    """When a service counts as up: once a line of its output contains `line`; without it, once its port listens."""

    line: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A part of a line on stdout or stderr."""
    within_s: Duration = 10.0
    """How long it may take; else the run is an error."""


class Service(Program):
    """A server under test, on a host of its own."""

    one_of: ClassVar[tuple[str, ...]] = ("reference", "command", "image", "compose")

    reference: Reference | None = None
    compose: Compose | None = None
    port: Port
    """The TCP port that it listens on."""
    autostart: bool = True
    """false: absent until the timeline starts it."""
    ready: Ready = Ready.model_construct()


# --- the timeline --------------------------------------------------------------------------------------------------


class LogLine(Model):
    """A line on the stdout or stderr of a service, or of a client that is a program."""

    one_of: ClassVar[tuple[str, ...]] = ("contains", "matches")

    service: str | None = None
    """Whose output."""
    clients: str | None = None
    """Or that of any client of this group."""
    contains: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The line holds this text."""
    matches: Regex | None = None
    """The line holds a match of this regular expression (RE2)."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if len({"service", "clients"} & mapping.keys()) != 1:
            yield (), Wrong("choose-one", "whose output is meant?", "give exactly one of service, clients")


class When(Model):
    """A trigger: exactly one of `at`, `after`, `event`, `every` (with `event`), `log`, `all`, `any`."""

    allowed: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "at": (),
        "after": ("wait",),
        "every": ("event", "since", "where"),
        "event": ("of", "count", "where", "since"),
        "log": (),
        "all": (),
        "any": (),
    }

    at_s: Duration | None = None
    """That long after the start of the run."""
    after: str | None = None
    """The id of a step: when it has taken effect."""
    wait_s: Duration = 0.0
    """With `after`: so much later."""
    every: str | None = None
    """A client group: when each of its clients has a record of `event`."""
    event: EventName | None = None
    """When there is such a record."""
    of: str | None = None
    """With `event`: only records of this client group, or of this service."""
    count: Count = 1
    """With `event`: not before the n-th record."""
    where: Annotated[dict[str, str | int | float | bool], Field(max_length=20)] = Field(default={})
    """Only records whose fields have these values."""
    since: str | None = None
    """Only records after this step of the timeline."""
    log: LogLine | None = None
    all: Annotated[list[When], Field(min_length=1, max_length=20)] | None = None
    """When the last of these triggers has come."""
    any: Annotated[list[When], Field(min_length=1, max_length=20)] | None = None
    """When the first of these triggers comes."""
    within_s: Duration | None = None
    """Stop waiting for it after so long; the step then never happens, and the run says so."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        kind = cls.kind_of(mapping)
        if kind is None:
            if mapping.keys() <= cls.yaml_keys().keys():
                yield (), Wrong("choose-one", "the trigger is missing", f"give exactly one of {', '.join(cls.allowed)}")
            return
        if kind == "every" and "event" not in mapping:
            yield (), Wrong("missing-key", "the key 'event' is missing", "what must every client have?")
        for key in mapping.keys() & cls.yaml_keys().keys() - {kind, "within", *cls.allowed[kind]}:
            yield (key,), Wrong("choose-one", f"'{key}' means nothing beside '{kind}'", "remove one of them")

    @classmethod
    def choices(cls) -> tuple[str, ...]:
        """The kinds of triggers."""
        return tuple(cls.allowed)

    @classmethod
    def kind_of(cls, mapping: Mapping[str, object]) -> str | None:
        """The trigger's kind: the first key of `allowed` that is there."""
        return next((kind for kind in cls.allowed if kind in mapping), None)


class Action(Model):
    """One step of the timeline: when it happens, and exactly one action."""

    noun: ClassVar[str] = "action"

    id: Name | None = None
    """For `after`, `since` and `heal`."""
    when: When
    for_s: Duration | None = None
    """Heal it so much later."""

    @property
    def verb(self) -> str:
        """The action's verb."""
        fields = self.yaml_keys()
        return next(key for key in self.one_of if fields[key] in self.model_fields_set)

    @property
    def body(self) -> Any:
        """The action's own model, or the scalar of one of the conductor's own verbs."""
        return getattr(self, self.yaml_keys()[self.verb])


OWN_VERBS: dict[str, Any] = {
    "signal": Annotated[Name, Field(description="Release what waits for this signal.")],
    "heal": Annotated[str, Field(description="Heal the fault of this step, or `all`.")],
    "run": Annotated[str, Field(description="Begin the sessions of this client group.")],
    "note": Annotated[str, Field(min_length=1, max_length=1000, description="Write this into the account.")],
}
"""The conductor's own actions; each has one value, which the plan calls `target`."""


class Choice(Model):
    """Whom a step hits, drawn from the seed before the run: among a list, or among the clients of a group."""

    noun: ClassVar[str] = "choice"
    one_of: ClassVar[tuple[str, ...]] = ("one", "minority", "majority", "all")

    one: Candidates | None = None
    """One of them."""
    minority: Candidates | None = None
    """As many as are less than half of them: one of three, two of five."""
    majority: Candidates | None = None
    """As many as are just more than half of them: two of three, three of five."""
    all: Candidates | None = None
    """All of them."""

    @property
    def names(self) -> list[str]:
        """Everybody who may be chosen."""
        (how,) = self.model_fields_set
        among = getattr(self, how)
        return [among] if isinstance(among, str) else list(among)


Target = Annotated[Any, Late(partial(_text_or, Choice), lambda: str | Choice)]


# --- the whole -----------------------------------------------------------------------------------------------------

Matrix = Annotated[
    dict[Name, Annotated[list[str | int | float | bool], Field(min_length=1, max_length=100)]], Field(max_length=10)
]


class Scenario(Model):
    """One scenario: services, client groups, a timeline, checks."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """What the run is called in its account and its reports."""
    about: Annotated[str, Field(max_length=10_000)] = ""
    """The story, and what must hold."""
    tags: Annotated[list[Name], Field(max_length=50)] = Field(default=[])
    """Words to choose scenarios by: `midsession run -t recovery`."""
    timeout_s: Duration = 60.0
    """The run ends after this time at the latest, and is then inconclusive."""
    matrix: Matrix = Field(default={})
    """Values by name: one run for each combination of them, as `${{ matrix.name }}`."""
    services: Annotated[dict[Name, Service], Field(min_length=1, max_length=100)]
    """The servers under test, by name."""
    clients: Annotated[dict[Name, Clients], Field(min_length=1, max_length=100)]
    """The groups of clients, by name."""
    timeline: Annotated[list[Any], Field(max_length=500)] = Field(default=[])
    """What happens to the services and their network, and when."""
    checks: Annotated[list[Any], Field(min_length=1, max_length=500)]
    """What must hold. A scenario without checks proves nothing."""


@dataclasses.dataclass(frozen=True)
class CheckEntry:
    """A check of a scenario: its kind, and its validated fields."""

    kind: str
    args: dict[str, Any]


class Language:
    """The language with the actions and checks of its registries (verb → dataclass, naming key → dataclass)."""

    def __init__(self, faults: Mapping[str, type[Any]], checks: Mapping[str, type[Any]]) -> None:
        self.faults, self.checks = faults, checks
        self.fault_model = cache(self._fault_model)
        self.check_model = cache(self._check_model)
        self.action = self._action_model()
        self.scenario = self._scenario_model()
        self.checks_file = create_model(
            "Checks", __base__=Model, checks=(self.scenario.model_fields["checks"].rebuild_annotation(), ...)
        )

    @property
    def healable(self) -> frozenset[str]:
        """The verbs of the faults that heal."""
        return frozenset(verb for verb, fault in self.faults.items() if getattr(fault, "healable", False))

    def _fault_model(self, verb: str) -> type[Model]:
        """The mapping below a fault's verb."""
        fields = {field.name for field in dataclasses.fields(self.faults[verb])}
        if "target" not in fields:
            return model_of(self.faults[verb])
        model = model_of(self.faults[verb], "target", {"target": Target})
        model.bare = Choice.one_of
        return model

    def _check_model(self, kind: str) -> type[Model]:
        """The mapping of a check."""
        return model_of(self.checks[kind])

    def _action_model(self) -> type[Action]:
        fields: dict[str, Any] = {verb: (kind | None, None) for verb, kind in OWN_VERBS.items()}
        for verb in sorted(self.faults):
            late = Late(partial(self._fault, verb), partial(self.fault_model, verb))
            fields[verb if verb.isidentifier() else f"{verb}_"] = (Annotated[Any, late] | None, None)
        model = create_model("Step", __base__=Action, __doc__=Action.__doc__, **fields)
        model.one_of = tuple(sorted({*OWN_VERBS, *self.faults}))
        return model

    def _scenario_model(self) -> type[Scenario]:
        check = Annotated[Any, Late(self._check, self._any_check)] if self.checks else Any
        steps: Any = Annotated[list.__class_getitem__(self.action), Field(max_length=500)]
        checks: Any = Annotated[list.__class_getitem__(check), Field(min_length=1, max_length=500)]
        return create_model(
            "Scenario", __base__=Scenario, __doc__=Scenario.__doc__, timeline=(steps, []), checks=(checks, ...)
        )

    def _fault(self, verb: str, data: object) -> Model:
        """Read a fault, and try it out: what its `__post_init__` refuses is refused here."""
        model = self.fault_model(verb).model_validate(data)
        choice = getattr(model, "target", None)
        drawn = {"target": choice.names} if isinstance(choice, Choice) else {}
        _built(self.faults[verb], plain(model) | drawn)
        return model

    def _any_check(self) -> Any:
        return Union[tuple(map(self.check_model, sorted(self.checks)))]  # noqa: UP007 - built from values

    def _check(self, data: object) -> CheckEntry:
        """Read one entry of `checks`: the kind is the check whose naming key it has."""
        if not isinstance(data, dict):
            raise Wrong("wrong-type", f"expected a mapping, not {quoted(data)}", "a check is a mapping like 'never: …'")
        kind = self.check_kind(data)
        if kind is None:
            first = next(iter(data), "")
            remedy = did_you_mean(first, self.checks)
            raise Wrong("unknown-check", f"unknown check {quoted(first)}", remedy)
        args = plain(self.check_model(kind).model_validate(data))
        _built(self.checks[kind], args)
        return CheckEntry(kind, args)

    def check_kind(self, data: Mapping[str, object]) -> str | None:
        """The kind of a check: the one that is named by a key of it and knows most of its keys."""
        named = [kind for kind in sorted(self.checks) if kind in data]
        return max(named, key=lambda kind: len(self.check_model(kind).yaml_keys().keys() & data.keys()), default=None)


def _built(cls: type[Any], args: dict[str, Any]) -> Any:
    """The dataclass itself, as `msgspec.convert(args, cls)` makes it from a plan. Raises ValueError."""
    try:
        return msgspec.convert(args, cls)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, Wrong):
            raise error.__cause__ from None
        raise ValueError(str(error.__cause__ or error).partition(" - at `")[0]) from None
