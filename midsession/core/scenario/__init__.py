"""The scenario language: what may stand in a `*.scenario.yaml`, as pydantic models.

Field docstrings are shown by editors through the JSON Schema. Keys follow `units.split_name`: a field `within_s` is
`within: 1s` in YAML. What a single value or mapping can say about itself is checked here; what refers to something
elsewhere in the file is checked in `references`. Actions and checks come from registries that the caller passes in:
this module names none of them but the conductor's own.

The parts are modules: `values`, `script`, `parties`, `timeline`, and here the whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache, partial
from typing import Annotated, Any, Union

import msgspec
from pydantic import Field, create_model

from midsession.core.scenario.parties import Arrive, Clients, Compose, Program, Service
from midsession.core.scenario.script import Connect, End, Expect, Instruction, Read, Repeat, Send, Wait
from midsession.core.scenario.timeline import OWN_VERBS, Action, Choice, Target, When
from midsession.core.scenario.values import MAX_CLIENTS, Nothing
from midsession.core.shape import Duration, Late, Model, model_of, plain
from midsession.core.texts import Name
from midsession.core.wrong import Wrong, did_you_mean, quoted

__all__ = [
    "MAX_CLIENTS",
    "OWN_VERBS",
    "Action",
    "Arrive",
    "CheckEntry",
    "Choice",
    "Clients",
    "Compose",
    "Connect",
    "End",
    "Expect",
    "Instruction",
    "Language",
    "Nothing",
    "Program",
    "Read",
    "Repeat",
    "Scenario",
    "Send",
    "Service",
    "Wait",
    "When",
]


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
        if "target" in fields:
            model = model_of(self.faults[verb], "target", {"target": Target})
            model.bare = Choice.one_of
        else:
            model = model_of(self.faults[verb])
        model.around = frozenset(Action.yaml_keys())
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

    def fault(self, verb: str, data: object) -> Any:
        """A fault as its body says, aimed at everybody who may be chosen. Raises ValueError for what is wrong."""
        return self._tried(verb, self.fault_model(verb).model_validate(data))

    def _fault(self, verb: str, data: object) -> Model:
        """Read a fault, and try it out: what its `__post_init__` refuses is refused here."""
        model = self.fault_model(verb).model_validate(data)
        self._tried(verb, model)
        return model

    def _tried(self, verb: str, model: Model) -> Any:
        choice = getattr(model, "target", None)
        drawn = {"target": choice.names} if isinstance(choice, Choice) else {}
        return _built(self.faults[verb], plain(model) | drawn)

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
