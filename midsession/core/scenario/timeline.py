"""What happens, and when: triggers, the conductor's own actions, the targets of faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field

from midsession.core.refers import GroupName, Programs, ServiceName, StepId, Subject
from midsession.core.scenario.values import Candidates, Count, text_or
from midsession.core.shape import Duration, EventName, Late, Model
from midsession.core.texts import Name, Regex
from midsession.core.wrong import Wrong


class LogLine(Model):
    """A line on the stdout or stderr of a service, or of a client that is a program."""

    one_of: ClassVar[tuple[str, ...]] = ("contains", "matches")

    service: ServiceName | None = None
    """Whose output."""
    clients: Programs | None = None
    """Or that of any client of this group, or of one client."""
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
    after: StepId | None = None
    """The id of a step: when it has taken effect."""
    wait_s: Duration = 0.0
    """With `after`: so much later."""
    every: GroupName | None = None
    """A client group: when each of its clients has a record of `event`."""
    event: EventName | None = None
    """When there is such a record."""
    of: Subject | None = None
    """With `event`: only records of this client group, of this client (`talkers-3`), or of this service."""
    count: Count = 1
    """With `event`: not before the n-th record."""
    where: Annotated[dict[str, str | int | float | bool], Field(max_length=20)] = Field(default={})
    """Only records whose fields have these values."""
    since: StepId | None = None
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


Target = Annotated[Any, Late(partial(text_or, Choice), lambda: str | Choice)]
