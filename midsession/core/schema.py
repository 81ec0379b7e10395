"""The scenario language as a JSON Schema that editors understand (draft 7).

Pydantic speaks draft 2020-12; this puts its words into draft 7's, takes the nulls away that only mean "absent", and
allows a variable (`${{ … }}`) wherever a scalar stands.
"""

from __future__ import annotations

from typing import Any

from midsession.core.shape import Model

_VARIABLE = {"type": "string", "pattern": r"^\$\{\{\s*(matrix|env)\.[A-Za-z_][A-Za-z0-9_]*\s*\}\}$"}
_WORDS_ABOUT = frozenset({"title", "description", "default", "examples"})


def draft7(model: type[Model]) -> dict[str, Any]:
    """The model's JSON Schema, draft 7."""
    raw = model.model_json_schema()
    definitions = {name: _schema(schema) for name, schema in sorted(raw.pop("$defs", {}).items())}
    definitions["Variable"] = _VARIABLE
    schema = _schema(raw)
    assert isinstance(schema, dict)
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A Midsession scenario"}
    return {**head, **{k: v for k, v in schema.items() if k != "title"}, "definitions": definitions}


def _schema(schema: Any) -> Any:
    """One schema, and those in it."""
    if not isinstance(schema, dict):
        return schema
    made = {key: _keyword(key, value) for key, value in schema.items() if key != "title"}
    if made.get("default", ...) is None or (made.get("type") == "string" and isinstance(made.get("default"), float)):
        del made["default"]  # "absent", or seconds that the YAML writes as text
    if "patternProperties" in made:
        made["additionalProperties"] = False
    if "$ref" in made:
        about = {key: made.pop(key) for key in list(made) if key in _WORDS_ABOUT}
        return {**about, "allOf": [made]} if about else made
    if "anyOf" in made:
        return _any_of(made)
    return _with_variable(made)


def _keyword(key: str, value: Any) -> Any:
    if key in ("properties", "patternProperties"):
        return {name: _schema(inner) for name, inner in value.items()}
    if key in ("items", "additionalProperties"):
        return _schema(value)
    if key in ("anyOf", "allOf"):
        return [_schema(inner) for inner in value]
    if key == "$ref":
        return value.replace("#/$defs/", "#/definitions/")
    return value


def _any_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Without the null that means "absent", and flat where one form is left."""
    forms = [form for form in schema["anyOf"] if form != {"type": "null"}]
    if len(forms) > 1:
        return {**schema, "anyOf": forms}
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, "allOf": forms} if "$ref" in forms[0] and rest else {**forms[0], **rest}


def _with_variable(schema: dict[str, Any]) -> dict[str, Any]:
    narrow = {"const", "enum", "pattern"} & schema.keys() or schema.get("type") in ("integer", "number", "boolean")
    if not narrow:  # whatever takes any text takes a variable
        return schema
    about = {key: schema.pop(key) for key in list(schema) if key in _WORDS_ABOUT}
    return {**about, "anyOf": [schema, {"$ref": "#/definitions/Variable"}]}
