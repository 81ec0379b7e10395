"""How pydantic is made to speak this language: strict mappings, shorthands, units by field name, places.

`Model` is the base of every mapping of the language. It refuses unknown keys with the nearest known one, nulls, and
several of what excludes each other; it reads a scalar or a bare word where the mapping has such a shorthand. All
complaints travel as `Wrong` in pydantic's errors; `problems_of` gives them their places.
`model_of` makes such a model from the frozen dataclass of a fault or check.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, core_schema

from midsession.core import units
from midsession.core.loader import Node
from midsession.core.record import Event
from midsession.core.texts import Regex
from midsession.core.wrong import Wrong, did_you_mean, quoted
from midsession.errors import Place, Problem

JsonSchema = dict[str, Any]


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Duration = Annotated[float, BeforeValidator(units.duration), _text_schema(units.DURATION_PATTERN, "10s")]
SpanText = Annotated[tuple[float, float], BeforeValidator(units.span), _text_schema(units.SPAN_PATTERN, "100ms..300ms")]
Size = Annotated[int, BeforeValidator(units.size), _text_schema(units.SIZE_PATTERN, "64KiB")]
Rate = Annotated[int, BeforeValidator(units.rate), _text_schema(units.RATE_PATTERN, "10kB/s")]
Share = Annotated[float, BeforeValidator(units.share), _text_schema(units.SHARE_PATTERN, "5%")]


def event(value: object) -> Event:
    """The event of that name. Raises Wrong."""
    names = [event.value for event in Event]
    if value not in names:
        raise Wrong("unknown-event", f"unknown event {quoted(value)}", did_you_mean(str(value), names))
    return Event(value)


EventName = Annotated[Event, BeforeValidator(event)]
"""A kind of record, by name."""

_READERS: dict[str, Any] = {"duration": Duration, "size": Size, "rate": Rate, "share": Share, "regex": Regex}


class Model(BaseModel):
    """Base of every mapping of the language."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # else each model is built by itself, and once more within every model that holds it
        alias_generator=lambda name: units.split_name(name)[0],
    )

    one_of: ClassVar[tuple[str, ...]] = ()
    """Keys of which exactly one must be there."""

    noun: ClassVar[str] = "key"
    """What a key is called in messages: `key`, `verb`, `action`."""

    words: ClassVar[tuple[str, ...]] = ()
    """Keys that may stand alone in place of the mapping: `eof` for `{eof: true}`."""

    scalar: ClassVar[str | None] = None
    """The key that a scalar in place of the mapping sets."""

    bare: ClassVar[tuple[str, ...]] = ()
    """Keys of a mapping that stands for what `scalar` sets: `{one: [a, b]}` for `{target: {one: [a, b]}}`."""

    around: ClassVar[frozenset[str]] = frozenset()
    """Keys of the mapping that holds this one, which somebody may have put too deep."""

    empty: ClassVar[bool] = False
    """True for a mapping that may be left empty: `- end:`."""

    @classmethod
    def yaml_keys(cls) -> dict[str, str]:
        """The mapping's keys → field names."""
        return {field.alias or name: name for name, field in cls.model_fields.items()}

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, cls):
            return data
        mapping = cls._as_mapping(data)
        wrongs = [_odd_key(loc, wrong) for loc, wrong in cls._odd(mapping)]
        wrong_keys = {str(error["loc"][-1]) for error in wrongs if error.get("loc")}
        try:
            made = handler({key: _filled(value) for key, value in mapping.items() if key not in wrong_keys})
        except ValidationError as error:
            wrongs += [details for details in _details(error) if not _hidden(details, wrong_keys)]
        else:
            if not wrongs:
                return made
        assert wrongs
        raise ValidationError.from_exception_data(cls.__name__, wrongs, hide_input=True)

    @classmethod
    def _as_mapping(cls, data: object) -> dict[str, object]:
        if isinstance(data, dict):
            return {str(cls.scalar): data} if data and data.keys() <= {*cls.bare} else data
        if data is None and cls.empty:
            return {}
        if cls.words and isinstance(data, str):
            if data in cls.words:
                return {data: cls.word_value(data)}
            if data in cls.yaml_keys():
                raise Wrong("missing-key", f"'{data}' needs more", f"write it as {{{data}: …}}")
            if cls.scalar is None:
                raise Wrong("unknown-word", f"unknown word {quoted(data)}", did_you_mean(data, cls.words))
        if cls.scalar is not None and data is not None and not isinstance(data, list):
            return {cls.scalar: data}
        raise Wrong("wrong-type", f"expected a mapping, not {quoted(data)}", f"its keys: {', '.join(cls.choices())}")

    @classmethod
    def choices(cls) -> tuple[str, ...]:
        """The keys that a message names to somebody who gave no mapping."""
        return cls.one_of or tuple(cls.yaml_keys())

    @classmethod
    def word_value(cls, word: str) -> object:
        """What a bare word stands for: `eof` is `{eof: true}`."""
        return True

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        """What is wrong with the mapping's set of keys, each with the key it is about (or none)."""
        known = cls.yaml_keys()
        unknown = [key for key in mapping if key not in known]
        for key in unknown:
            slug = f"unknown-{cls.noun}"
            remedy = "put it beside this mapping, not into it" if key in cls.around else did_you_mean(key, known)
            yield (key,), Wrong(slug, f"unknown {cls.noun} {quoted(key)}", remedy)
        for key, value in mapping.items():
            if key in known and value is None and not cls._may_be_null(known[key]):
                yield (key,), Wrong("empty-value", f"'{key}' has no value", "give it one, or remove the key")
        chosen = [key for key in cls.one_of if key in mapping]
        for key in chosen[1:]:
            yield (key,), Wrong("choose-one", f"'{chosen[0]}' and '{key}' exclude each other", "keep one of them")
        if cls.one_of and not chosen and not unknown:
            yield (), Wrong("choose-one", f"a {cls.noun} is missing", f"give exactly one of {', '.join(cls.one_of)}")

    @classmethod
    def _may_be_null(cls, field: str) -> bool:
        return any(
            isinstance(kind, type) and issubclass(kind, Model) and kind.empty
            for kind in _members(cls.model_fields[field].annotation)
        )

    @classmethod
    def alternative(cls, key: str) -> JsonSchema:
        """The JSON Schema of "this one of `one_of` was chosen"."""
        return {"required": [key]}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> JsonSchema:
        schema = handler.resolve_ref_schema(handler(core))
        for key, name in cls.yaml_keys().items():
            if said := cls.model_fields[name].description:
                schema["properties"][key]["description"] = said
        if cls.one_of:
            schema["oneOf"] = [cls.alternative(key) for key in cls.one_of]
        forms: list[JsonSchema] = []
        if cls.words:
            forms.append({"enum": sorted(cls.words)})
        if cls.scalar is not None and set(schema.get("required", ())) <= {cls.scalar}:
            forms.append(schema["properties"][cls.scalar])
        if cls.empty:
            forms.append({"type": ["null"]})  # a list, to tell it from the null of an absent key
        if not forms:
            return schema
        inner = dict(schema)
        schema.clear()
        schema.update({key: inner.pop(key) for key in ("title", "description") if key in inner})
        schema["anyOf"] = [*forms, inner]
        return schema


class Late:
    """Marks a field whose type is made when it is needed: one run uses few of the models that the language has.

    `read` turns a value into the field's, and raises as a validator does; `schema_of` gives the type that stands for
    the field in the JSON Schema.
    """

    def __init__(self, read: Callable[[object], object], schema_of: Callable[[], Any]) -> None:
        self._read, self.schema_of = read, schema_of

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, core: object, handler: GetJsonSchemaHandler) -> JsonSchema:
        adapter = TypeAdapter(self.schema_of())
        adapter.rebuild()
        return handler(core_schema.definitions_schema(adapter.core_schema, []))  # so that the type gets its own entry


def _filled(value: object) -> object:
    """A value; for none, where that is allowed, the empty mapping for which it stands (`Model | None` keeps None)."""
    return {} if value is None else value


def _odd_key(loc: tuple[str, ...], wrong: Wrong) -> InitErrorDetails:
    """A complaint about a key; `key` in its context says that the key's place is meant, not its value's."""
    return InitErrorDetails(type="value_error", loc=loc, input=None, ctx={"error": wrong, "key": bool(loc)})


def _hidden(details: InitErrorDetails, wrong_keys: set[str]) -> bool:
    """True for the complaint that a key is missing which is there, and was already called wrong."""
    loc = details.get("loc", ())
    return details["type"] == "missing" and len(loc) == 1 and loc[0] in wrong_keys


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """An error's parts in the form in which pydantic takes them back."""
    parts = []
    for part in error.errors(include_url=False):
        details = InitErrorDetails(type=part["type"], loc=part["loc"], input=part.get("input"))
        if "ctx" in part:
            details["ctx"] = part["ctx"]
        parts.append(details)
    return parts


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


# --- from pydantic's errors to problems ----------------------------------------------------------------------------

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_LENGTHS = {
    "too_short": ("at least", "min_length", "entries"),
    "too_long": ("at most", "max_length", "entries"),
    "string_too_short": ("at least", "min_length", "characters"),
    "string_too_long": ("at most", "max_length", "characters"),
}


def problems_of(error: ValidationError, tree: Node) -> list[Problem]:
    """A model's complaints as problems with their places in the tree it was made from."""
    found = []
    for part in error.errors(include_url=False):
        wrong = _wrong(part)
        found.append(Problem(wrong.message, wrong.slug, _place(tree, part), wrong.remedy))
    return found


def _place(tree: Node, part: Any) -> Place:
    """Where the value stands that an error is about, or its key."""
    loc = part["loc"]
    if loc and loc[-1] == "[key]":
        return tree.at(loc[:-2]).keys[loc[-2]]
    if part.get("ctx", {}).get("key"):
        return tree.at(loc[:-1]).keys.get(loc[-1], tree.at(loc).place)
    return tree.at(loc).place


def _wrong(part: Any) -> Wrong:
    """One of pydantic's errors in our words."""
    kind, ctx, value = part["type"], part.get("ctx", {}), part.get("input")
    if isinstance(ctx.get("error"), Wrong):
        wrong: Wrong = ctx["error"]
        return wrong
    if kind == "missing":
        return Wrong("missing-key", f"the key '{part['loc'][-1]}' is missing")
    if kind in _EXPECTED:
        remedy = _requoted(kind, value)
        return Wrong("wrong-type", f"expected {_EXPECTED[kind]}, not {quoted(value)}", remedy)
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return Wrong("out-of-range", f"{quoted(value)} must be {words} {ctx[key]}")
    if kind in _LENGTHS:
        words, key, what = _LENGTHS[kind]
        return Wrong("out-of-range", f"this must have {words} {ctx[key]} {what}")
    if kind in ("literal_error", "enum"):
        known = [word.strip("'") for word in str(ctx["expected"]).replace(" or ", ", ").split(", ")]
        return Wrong("unknown-word", f"unknown word {quoted(value)}", did_you_mean(str(value), known))
    return Wrong("bad-value", str(ctx.get("error", part["msg"])))


def _requoted(kind: str, value: object) -> str:
    """A number where text belongs, or the other way round: what to do about the quotes."""
    if kind == "string_type" and isinstance(value, int | float):
        return "quote it"
    if kind in ("int_type", "float_type") and isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return "drop the quotes"
    return ""


# --- from a dataclass to a model -----------------------------------------------------------------------------------


def model_of(
    cls: type[Any], scalar: str | None = None, written: Mapping[str, Any] = MappingProxyType({})
) -> type[Model]:
    """The model of a frozen dataclass: same fields, YAML keys and units by `units.split_name`.

    `scalar` is the key that a scalar in place of the mapping sets; `written` are the types of fields that are written
    in another way than they are in the dataclass.
    """
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        _, reader = units.split_name(field.name)
        kind = written.get(field.name) or _translate(hints[field.name], reader)
        fields[field.name] = (kind, _default(field))
    model = create_model(cls.__name__, __base__=Model, __doc__=cls.__doc__, **fields)
    model.scalar = scalar
    model.empty = not any(field.is_required() for field in model.model_fields.values())
    return model


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return ...


def _translate(annotation: Any, reader: str | None) -> Any:
    """A field's type, with units read where its name asks for them and nested dataclasses as models."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return model_of(annotation)
    if reader is not None and annotation in (int, float, str):
        return _READERS[reader]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_translate(args[0], reader), *args[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(_translate(arg, reader) for arg in args)]  # noqa: UP007 - built from values
    if origin in (list, dict):
        return origin[tuple(_translate(arg, reader) for arg in args)]
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return list.__class_getitem__(_translate(args[0], reader))
    if origin is tuple:  # of so many of one kind: JSON Schema's word for other tuples is younger than draft 7
        assert set(args) == {args[0]}
        size = Field(min_length=len(args), max_length=len(args))
        return Annotated[list.__class_getitem__(_translate(args[0], reader)), size]
    if annotation is Event:
        return EventName
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return Annotated[annotation, Strict(False)]
    return annotation


def plain(model: Model) -> dict[str, Any]:
    """A model's fields by dataclass name, as plain values; optional ones that are None are left out."""
    return model.model_dump(mode="json", exclude_none=True)
