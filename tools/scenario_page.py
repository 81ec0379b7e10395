"""Fill the tables of docs/scenario.md from the language itself, so that the page cannot say what the code does not.

The page is prose with places: `<!-- keys: Send -->` … `<!-- end -->` holds the table of the model `Send` of
`midsession.core.scenario`, `<!-- values -->`, `<!-- actions -->` and `<!-- checks -->` the other tables. What stands
between two marks is replaced; the rest is left alone. A test compares, and sees that no model is forgotten.

    python tools/scenario_page.py [docs/scenario.md]
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from midsession.core import scenario, shape, texts
from midsession.core.refers import Refers
from midsession.core.scenario import parties, script, timeline, values
from midsession.core.shape import Model, model_of
from midsession.core.units import split_name
from midsession.docstrings import describe
from midsession.language import language

PARTS = (values, script, parties, timeline, scenario)
PAGE = Path(__file__).parents[1] / "docs" / "scenario.md"

VALUES: tuple[tuple[Any, str, str, str], ...] = (
    (shape.Duration, "duration", "`250us` `100ms` `1.5s` `2m` `1h`", "At most a day."),
    (shape.SpanText, "range", "`10ms..30ms` `50ms`", "A duration, or two: each use draws evenly between them."),
    (shape.Size, "size", "`5B` `10kB` `64KiB` `1MiB`", "`kB` is 1000 bytes, `KiB` is 1024."),
    (shape.Rate, "rate", "`10kB/s` `1MiB/s`", "A size per second."),
    (shape.Share, "share", "`20%` `0.5%`", "0% to 100%."),
    (texts.Name, "name", "`talkers` `crash` `step_2`", "A lower-case letter, then at most 39 of `a-z0-9_-`."),
    (texts.Address, "address", "`server:4000`", "A service of this scenario, and a port."),
    (texts.Line, "line", '`"Hi {client} 👋"`', "Text without a line feed; [placeholders](#placeholders)."),
    (texts.Text, "text with placeholders", '`"Hi {client}\\n"`', "May hold line feeds; [placeholders](#placeholders)."),
    (texts.Regex, "regular expression", '`"^ERR [0-9]+$"`', "RE2: linear time, no look-around, no back-references."),
    (texts.Hex, "hex", '`0a0d` `"00 ff"`', "Pairs of digits; blanks may stand between them."),
    (texts.Base64, "base64", "`aGVsbG8=`", "RFC 4648, with its padding."),
    (
        texts.InnerPath,
        "path",
        "`greeting.bin`",
        "In the scenario's folder or below it: no `..`, no link that leads out.",
    ),
    (shape.EventName, "event", "`connected` `lost`", "One of [records.md](records.md)."),
)
"""The kinds of values that have more to say than their YAML type: type, name, examples, what they mean."""

REFERENCES = {
    "heal": "id of a step",
    "run": "client group",
    "timeline": "list of [steps](#the-timeline)",
    "checks": "list of [checks](#checks)",
}
"""Keys whose type says too little."""

PLACES = {
    "Scenario": ("scenario", "a-scenario"),
    "Service": ("service", "services"),
    "Clients": ("client group", "clients"),
    "Instruction": ("steps", "the-session-script"),
    "Action": ("step", "the-timeline"),
    "When": ("trigger", "triggers"),
    "LogLine": ("mapping", "log"),
    "OnLoss": ("mapping", "on_loss"),
}
"""Models that the page calls otherwise than by their key: word, heading."""

SHORT = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Any: "anything"}
UNITS: dict[str, Callable[[float], str]] = {
    "duration": lambda s: f"{s:g}s" if s >= 1 or not s else f"{s * 1000:g}ms",
    "share": lambda p: f"{p * 100:g}%",
}


def main() -> None:
    """Fill the page in place."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """The page with every table made anew. Raises KeyError for a mark that names nothing."""
    describe(Model)
    return re.sub(
        r"(<!-- (keys: (?P<model>\w+)|(?P<table>\w+)) -->\n).*?(<!-- end -->)",
        lambda m: m[1] + "\n".join(_keys(models()[m["model"]]) if m["model"] else TABLES[m["table"]]()) + "\n" + m[5],
        text,
        flags=re.DOTALL,
    )


def models() -> dict[str, type[Model]]:
    """Every mapping of the language by its name on the page; the faults' and checks' own are in the other tables."""
    spoken = {name: kind for part in PARTS for name, kind in vars(part).items()}
    own = {name: kind for name, kind in spoken.items() if isinstance(kind, type) and issubclass(kind, Model)}
    bases = {base for kind in own.values() for base in kind.__mro__[1:]}
    return {name: kind for name, kind in own.items() if kind not in bases | {scenario.Nothing}}


# --- tables --------------------------------------------------------------------------------------------------------


def _keys(model: type[Model]) -> Iterator[str]:
    """How the mapping may be written, and its keys."""
    yield from _forms(model)
    yield from _table("key", "value", "default", "meaning")
    inherited = model.__mro__[1].model_fields if issubclass(model.__mro__[1], Model) else {}
    for key, name in sorted(model.yaml_keys().items(), key=lambda pair: pair[1] in inherited):
        yield _row(f"`{key}`", _value(model, key, name), _default(model, name), _meaning(model, name))


def _forms(model: type[Model]) -> Iterator[str]:
    said = []
    if model.one_of:
        said.append(f"Exactly one of {_listed(model.one_of)}.")
    if model.words:
        said.append(
            f"Without more to say: the bare {'word' if len(model.words) == 1 else 'words'} {_listed(model.words)}."
        )
    if model.scalar is not None:
        said.append(f"A single value in place of the mapping is its `{model.scalar}`.")
    if model.empty:
        said.append("May be left empty.")
    if said:
        yield from (" ".join(said), "")


def _values() -> Iterator[str]:
    yield from _table("value", "written", "meaning")
    for _, name, examples, meaning in VALUES:
        yield _row(name, examples, meaning)


def _actions() -> Iterator[str]:
    """The conductor's own actions, then every fault of the registry."""
    yield from _table("action", "its keys", "`for`", "meaning")
    for verb, kind in scenario.OWN_VERBS.items():
        about = next(m.description for m in get_args(kind) if isinstance(m, FieldInfo) and m.description)
        yield _row(f"`{verb}`", f"a single value: {REFERENCES.get(verb, _kind(kind))}", "", about)
    for verb, fault in language().faults.items():
        heals = "heals" if verb in language().healable else ""
        signature = _signature(language().fault_model(verb), {"target": _targets(fault)})
        yield _row(f"[`{verb}`](faults.md#{verb})", signature, heals, _first_sentence(fault.__doc__))


def _checks() -> Iterator[str]:
    yield from _table("check", "its keys", "meaning")
    for kind, check in language().checks.items():
        yield _row(f"[`{kind}`](checks.md#{kind})", _signature(model_of(check)), _first_sentence(check.__doc__))


TABLES: dict[str, Callable[[], Iterator[str]]] = {"values": _values, "actions": _actions, "checks": _checks}


def _table(*heads: str) -> Iterator[str]:
    yield _row(*heads)
    yield "|" + "---|" * len(heads)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _targets(fault: type[Any]) -> str:
    """What a fault can hit, or a choice among such."""
    kinds = [kind for kind in ("service", "client group", "client") if kind in fault.targets]
    return f"{', '.join(kinds)}, or a [choice](#choice)"


def _signature(model: type[Model], known: Mapping[str, str] = MappingProxyType({})) -> str:
    """A mapping's keys in one cell, the compulsory ones first in bold. `known` are values that need no looking up."""
    parts = []
    for key, name in model.yaml_keys().items():
        default = _default(model, name)
        shown = f"**`{key}`**" if default == "required" else f"`{key}`"
        value = known.get(key) or _value(model, key, name)
        parts.append(f"{shown}: {value}{f' ({default})' if default.startswith('`') else ''}")
    return "<br>".join(parts)


# --- what a field is -----------------------------------------------------------------------------------------------


def _hints(model: type[Model]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


def _value(model: type[Model], key: str, name: str) -> str:
    kind = _kind(_hints(model)[name])
    return REFERENCES.get(key, kind) if kind in ("text", "list of anything") else kind


def _kind(annotation: Any) -> str:
    """A type as a reader of the page knows it."""
    for alias, name, *_ in VALUES:
        if (rest := _beyond(annotation, alias)) is not None:
            return name + _bounds(rest)
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return _mapping(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if late := next((arg for arg in args if isinstance(arg, shape.Late)), None):
        return _kind(late.schema_of())
    if refers := next((arg for arg in args if isinstance(arg, Refers)), None):
        return "id of a step" if refers.kind == "step" else refers.kind
    if origin is Annotated:
        return _kind(args[0]) + _bounds(args[1:])
    if origin in (Union, types.UnionType):
        return _either([arg for arg in args if arg is not type(None)])
    if origin is Literal:
        return " ".join(f"`{str(arg).lower() if isinstance(arg, bool) else arg}`" for arg in args)
    if origin is list:
        return f"list of {_kind(args[0])}"
    if origin is dict:
        return f"mapping of {_kind(args[0])} to {_kind(args[1])}"
    return SHORT[annotation]


def _mapping(model: type[Model]) -> str:
    """A link to the mapping's own table, or its keys where it has none."""
    if model is scenario.Nothing:
        return "nothing"
    if model not in models().values():
        return f"mapping of {_listed(tuple(model.yaml_keys()))}"
    word, place = PLACES.get(model.__name__, ("mapping", model.__name__.lower()))
    return f"[{word}](#{place})"


def _either(kinds: list[Any]) -> str:
    if {str, int, float, bool} <= {*kinds}:
        return "text, number or boolean"
    return " or ".join(dict.fromkeys(map(_kind, kinds)))


def _beyond(annotation: Any, alias: Any) -> tuple[Any, ...] | None:
    """What an annotation says beyond the alias that it is made of; None for another one."""
    if get_origin(annotation) is not Annotated:
        return None
    (kind, *notes), (base, *known) = get_args(annotation), get_args(alias)
    return tuple(notes[len(known) :]) if kind is base and notes[: len(known)] == known else None


def _bounds(notes: tuple[Any, ...]) -> str:
    limits = [limit for note in notes if isinstance(note, FieldInfo) for limit in note.metadata]
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    high = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    if low is not None and high is not None:
        return f", {low:,} to {high:,}"
    return f", at least {low:,}" if low is not None and low > 1 else ""


def _default(model: type[Model], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, "", [], {}) or isinstance(value, Model):
        return ""
    reader = split_name(name)[1] or ("share" if _kind(_hints(model)[name]) == "share" else None)
    shown = UNITS[reader](value) if reader in UNITS else _plain(value)
    return f"`{shown}`"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _meaning(model: type[Model], name: str) -> str:
    """The field's docstring, else that of the mapping that it holds."""
    said = model.model_fields[name].description
    inner = [kind for kind in _members(_hints(model)[name]) if isinstance(kind, type) and issubclass(kind, Model)]
    return said or (_first_sentence(inner[0].__doc__) if inner else "")


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _first_sentence(text: str | None) -> str:
    whole = " ".join((text or "").split())
    return re.split(r"(?<=[.])\s(?=[A-Z`])", whole, maxsplit=1)[0]


if __name__ == "__main__":
    main()
