"""The plan: everything a run will do, drawn and frozen before it starts.

A plan is plain data: printed by `midsession plan`, stored as `plan.json`, and named by its hash in every log header.
The same scenario and seed give the same bytes, on every machine and Python, and the same hash in every folder. Nothing
is drawn later than here: what a session needs without a known end (the waits of an endless `repeat`) is a function of
its client's `key`, see `draw`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

# --- what a session does -------------------------------------------------------------------------------------------


class _Instruction(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="verb"):
    """Base of one step of a session script."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A duration drawn evenly from [low_s, high_s], in seconds."""

    low_s: float
    high_s: float


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Bytes to send. Exactly one of `text` (with placeholders, encoded as UTF-8), `hex` and `random_bytes` is set.

    `line` says that one "\\n" is appended to `text`.
    """

    text: str | None = None
    hex: str | None = None
    random_bytes: int | None = None
    line: bool = False


class Connect(_Instruction, frozen=True, tag="connect"):
    """Open a (new) connection. Without `host` and `port`: to the group's own address."""

    host: str | None = None
    port: int | None = None
    timeout_s: float = 10.0
    source_port: int | None = None


class Send(_Instruction, frozen=True, tag="send"):
    """Write `payload`: in one write, or in slices of `slice_bytes` with `pause_s` between them.

    `as_` (`write`, `read`) stands in the `sent` record, for the checks that compare the two.
    """

    payload: Payload
    slice_bytes: int | None = None
    pause_s: float = 0.0
    as_: str | None = None


class Expect(_Instruction, frozen=True, tag="expect"):
    """Wait until the peer's next message matches; anything else is a `protocol_error`.

    Exactly one of the matchers is set. `line`, `contains`, `glob` and `regex` take the next line; `exact` and `hex`
    take exactly as many bytes as they hold; `bytes` takes that many bytes, whatever they are; `eof` and `reset` wait
    for the peer's FIN or RST, and with `drain` pass over all bytes before it; `nothing` holds when no byte arrives for
    `within_s`. Text may hold placeholders.
    """

    within_s: float
    line: str | None = None
    contains: str | None = None
    glob: str | None = None
    regex: str | None = None
    exact: str | None = None
    hex: str | None = None
    bytes: int | None = None
    eof: bool = False
    reset: bool = False
    nothing: bool = False
    drain: bool = False
    ok: str | None = None
    """`write`, `read`: stands in the `replied` record when it is met."""


class Wait(_Instruction, frozen=True, tag="wait"):
    """Let time pass (`span`), or wait until the timeline raises `signal`; the peer is heard meanwhile."""

    span: Span | None = None
    signal: str | None = None


class HalfClose(_Instruction, frozen=True, tag="half_close"):
    """Send FIN (shutdown of the write side) and go on hearing the peer."""


class End(_Instruction, frozen=True, tag="end"):
    """End gracefully: send FIN, hear the peer until its FIN, close; a FIN after `within_s` is a `protocol_error`."""

    within_s: float = 10.0


class Abort(_Instruction, frozen=True, tag="abort"):
    """Close with RST (SO_LINGER 0)."""


class Read(_Instruction, frozen=True, tag="read"):
    """How the client reads from here on: `normal`, `slow` at `bytes_per_s`, or `never` (until changed)."""

    policy: str
    bytes_per_s: int | None = None


class Barrier(_Instruction, frozen=True, tag="barrier"):
    """Wait until every client of the group has come to the barrier `name`."""

    name: str


class Mark(_Instruction, frozen=True, tag="mark"):
    """Write a `mark` record, for triggers and checks."""

    name: str


class Repeat(_Instruction, frozen=True, tag="repeat"):
    """Run `script` again and again, until the first of: `times` rounds, the signal `until`, `for_s` seconds."""

    script: list[Instruction]
    times: int | None = None
    until: str | None = None
    for_s: float | None = None


Instruction = Connect | Send | Expect | Wait | HalfClose | End | Abort | Read | Barrier | Mark | Repeat


def steps_of(script: Iterable[Instruction]) -> Iterator[Instruction]:
    """Every step of a script in its order, those inside a `repeat` after it."""
    for step in script:
        yield step
        if isinstance(step, Repeat):
            yield from steps_of(step.script)


class Reconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Backoff after a loss: the n-th delay is min(first_s * factor**(n-1), max_s), times 1 ± jitter (0..1).

    `attempts` in a row may fail before the client gives up; a connection that is made starts the count anew.
    """

    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 5.0
    jitter: float = 0.0
    attempts: int = 10


class ClientPlan(msgspec.Struct, frozen=True):
    """One client: its number in the group (from 1), when its session begins, and the key of its draws (hex)."""

    number: int
    arrive_s: float
    key: str


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The foreign program that each client of a group is: `argv` on a host of ours, or the container image `image`.

    `argv` None: the image's own command. `grace_s`: from SIGTERM to SIGKILL. `files` as for a `CommandService`.
    """

    argv: list[str] | None = None
    image: str | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    files: dict[str, str] = {}
    grace_s: float = 5.0


class GroupPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A client group. `on_loss` None: a lost session ends there. `begin` False: a `run` action starts the group.

    Its clients follow `script`, or each is a `program` on a host of its own, which bears the client's name. A program
    may be told no address: then `host` is empty and `port` 0.
    """

    name: str
    host: str
    port: int
    script: list[Instruction]
    clients: list[ClientPlan]
    on_loss: Reconnect | None = None
    connect_timeout_s: float = 10.0
    begin: bool = True
    program: Program | None = None

    @property
    def names(self) -> list[str]:
        """The names of its clients, in the order of their numbers."""
        return [f"{self.name}-{client.number}" for client in self.clients]

    @property
    def hosts(self) -> set[str]:
        """The services to which its clients connect: the group's own, and those that their script names."""
        return {self.host, *(step.host for step in steps_of(self.script) if isinstance(step, Connect) and step.host)}


# --- what runs on the hosts ----------------------------------------------------------------------------------------


class _Service(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"
):
    """Base of a service. `autostart` False: absent until the timeline starts it. `grace_s`: from SIGTERM to SIGKILL.

    Ready when a line of its output contains `ready_line`, else when its port listens.
    """

    name: str
    port: int
    autostart: bool = True
    grace_s: float = 5.0
    ready_within_s: float = 10.0
    ready_line: str | None = None


class ReferenceService(_Service, frozen=True, kw_only=True, tag="reference"):
    """The reference server (`python -m server`) with one of its behaviours."""

    behaviour: str = "reply"


class CommandService(_Service, frozen=True, kw_only=True, tag="command"):
    """A program of the user's.

    `files` are put on the host: name → text; a word of `argv` that is such a name becomes the file's path there.
    """

    argv: list[str]
    env: dict[str, str] = {}
    cwd: str | None = None
    files: dict[str, str] = {}


class ImageService(_Service, frozen=True, kw_only=True, tag="image"):
    """A container image of the user's. `files` as for a `CommandService`."""

    image: str
    argv: list[str] | None = None
    env: dict[str, str] = {}
    files: dict[str, str] = {}


class ComposeService(_Service, frozen=True, kw_only=True, tag="compose"):
    """A service of the user's own Compose file."""

    file: str
    service: str


Service = ReferenceService | CommandService | ImageService | ComposeService

# --- what the run does to them, and when ---------------------------------------------------------------------------


class _Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="on"):
    """Base of a trigger. `within_s`: the run stops waiting for it that long after the trigger was armed (at the
    start, or for a `since` once that step has fired) and goes on; the step then never fires, and the run says so."""

    within_s: float | None = None


class At(_Trigger, frozen=True, kw_only=True, tag="at"):
    """That long after the start of the run."""

    at_s: float


class After(_Trigger, frozen=True, kw_only=True, tag="after"):
    """`wait_s` after the step `step` was effective (its witness was seen)."""

    step: str
    wait_s: float = 0.0


class OnEvent(_Trigger, frozen=True, kw_only=True, tag="event"):
    """The `count`-th record of `event` by any client of group `of`, or by service `of`, whose fields equal `where`."""

    event: str
    of: str | None = None
    count: int = 1
    where: dict[str, Any] = {}
    since: str | None = None


class Every(_Trigger, frozen=True, kw_only=True, tag="every"):
    """Every client of `group` has a record of `event` (since step `since`)."""

    group: str
    event: str
    since: str | None = None
    where: dict[str, Any] = {}


class OnLog(_Trigger, frozen=True, kw_only=True, tag="log"):
    """A stdout or stderr line of the service or of a client program of the group `of` contains `contains`, or matches
    `matches` (RE2)."""

    of: str
    contains: str | None = None
    matches: str | None = None


class AllOf(_Trigger, frozen=True, kw_only=True, tag="all"):
    """All of these have fired."""

    triggers: list[Trigger]


class AnyOf(_Trigger, frozen=True, kw_only=True, tag="any"):
    """One of these has fired."""

    triggers: list[Trigger]


Trigger = At | After | OnEvent | Every | OnLog | AllOf | AnyOf


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step of the timeline: when `when` fires, do `verb` with `args`; heal it `for_s` later where that is set.

    `verb` names an action of the registry (`midsession.faults`) or one of the conductor's own: `signal`, `heal`,
    `run`, `note`. `args` are the validated fields of that action. `place` is `file:line:col`, for messages.
    """

    id: str
    when: Trigger
    verb: str
    args: dict[str, Any]
    for_s: float | None = None
    place: str = ""

    @property
    def targets(self) -> list[str]:
        """What it is aimed at, name by name: of a fault, services, client groups and clients."""
        named = self.args.get("between", self.args.get("target", []))
        return [named] if isinstance(named, str) else list(named)

    @property
    def sides(self) -> tuple[list[str], str | None]:
        """What it is aimed at, and the other end to which that is narrowed down; None: anybody."""
        if "between" in self.args:
            target, other = self.args["between"]
            return [target], other
        return self.targets, self.args.get("with_")


class CheckPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One check: its `kind` in the registry (`midsession.checks`), its validated fields, its source text and place."""

    kind: str
    args: dict[str, Any]
    text: str = ""
    place: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A whole run. `source` is the scenario's path as given; `matrix` holds the values of this combination."""

    name: str
    source: str
    seed: int
    timeout_s: float
    services: list[Service]
    groups: list[GroupPlan]
    timeline: list[Step]
    checks: list[CheckPlan]
    matrix: dict[str, Any] = {}
    about: str = ""
    tags: list[str] = []
    version: int = 1

    def to_json(self) -> bytes:
        """The plan's one byte form: keys in declaration order, mappings sorted."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of what is run: of `to_json` without the path of the scenario.

        So it is the same from wherever, and by whatever path, the scenario is called. What else begins with that path
        or its folder (places, a `cwd`) counts from there.
        """
        return hashlib.sha256(_without_path(self).to_json()).hexdigest()[:16]

    @staticmethod
    def from_json(data: bytes) -> Plan:
        """Read a stored plan. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(data, type=Plan)

    def group(self, name: str) -> GroupPlan:
        """The client group of that name; raises KeyError."""
        return {g.name: g for g in self.groups}[name]

    def group_of(self, name: str) -> GroupPlan:
        """The client group of that name, or that a client of that name belongs to; raises KeyError."""
        return {
            **{f"{g.name}-{c.number}": g for g in self.groups for c in g.clients},
            **{g.name: g for g in self.groups},
        }[name]

    @property
    def clients(self) -> list[str]:
        """The names of all clients, in plan order."""
        return [name for group in self.groups for name in group.names]

    @property
    def scripted(self) -> list[GroupPlan]:
        """The groups whose clients the fleet plays."""
        return [group for group in self.groups if group.program is None]

    @property
    def foreign(self) -> list[GroupPlan]:
        """The groups whose clients are programs on hosts of their own."""
        return [group for group in self.groups if group.program is not None]

    @property
    def foreign_clients(self) -> list[str]:
        """The names of the clients that are programs on hosts of their own, in plan order."""
        return [name for group in self.foreign for name in group.names]


def _without_path(plan: Plan) -> Plan:
    from pathlib import PurePosixPath  # programs in hosts read plans, and hash none

    replace = msgspec.structs.replace
    source, folder = plan.source, PurePosixPath(plan.source).parent

    def at_home(cwd: str | None) -> str | None:
        path = PurePosixPath(cwd or ".")
        return str(path.relative_to(folder)) if cwd and path.is_relative_to(folder) else cwd

    def at_home_too(group: GroupPlan) -> GroupPlan:
        program = group.program
        return group if program is None else replace(group, program=replace(program, cwd=at_home(program.cwd)))

    return replace(
        plan,
        source="",
        services=[replace(s, cwd=at_home(s.cwd)) if isinstance(s, CommandService) else s for s in plan.services],
        groups=[at_home_too(group) for group in plan.groups],
        timeline=[replace(step, place=step.place.removeprefix(source)) for step in plan.timeline],
        checks=[replace(check, place=check.place.removeprefix(source)) for check in plan.checks],
    )


def substream(seed: int, purpose: str, entity: str) -> str:
    """The key (hex) of an independent stream of draws: SHA-256 of seed, purpose and entity."""
    return hashlib.sha256(f"{seed}\x00{purpose}\x00{entity}".encode()).hexdigest()[:32]


def draw(key: str, index: int) -> float:
    """The `index`-th number of a stream, evenly from [0, 1), with 53 bits. A function, so nothing has to be stored."""
    digest = hashlib.sha256(f"{key}\x00{index}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
