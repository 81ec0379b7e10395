"""What a plain YAML scalar means: the YAML 1.2 core schema, and nothing besides.

`on`, `no`, `22:22`, `2026-01-01` and `1_000` are text. Numbers whose meaning differs between YAML 1.1 and 1.2 (a
leading zero) are refused instead of guessed. Source: YAML 1.2.2, §10.3.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from midsession.core.wrong import Wrong, did_you_mean, quoted

T = TypeVar("T")
Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_MAX_DIGITS = 30


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises Wrong for a number that is ambiguous or out of range."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return _number(text, int)
    if _BASED.match(text):
        return _number(text, lambda t: int(t, 0))
    if _FLOAT.match(text) or _SPECIAL.match(text):
        return _number(text, _finite)
    return text


def is_in_range(number: int | float) -> bool:
    """Whether YAML text could hold such a number."""
    return abs(number) < 10**_MAX_DIGITS if isinstance(number, int) else math.isfinite(number)


def _number(text: str, convert: Callable[[str], int | float]) -> int | float:
    if len(text) > _MAX_DIGITS:
        raise Wrong("number-range", f"the number {quoted(text, 30)} is too long", "quote it if it is text")
    if _LEADING_ZERO.match(text):
        raise Wrong(
            "ambiguous-number",
            f"{text} has a leading zero: an octal number to some, a decimal one to others",
            "drop the zero, or quote it if it is text",
        )
    return convert(text)


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise Wrong("number-range", f"{text} is not a finite number", "quote it if it is text")
    return value


_TAGS = {
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
}


def tagged(text: str, tag: str) -> Scalar:
    """The value of a scalar with an explicit tag of the core schema. Raises Wrong for other tags, or when it lies."""
    if tag in ("!", "tag:yaml.org,2002:str"):
        return text
    kind = _TAGS.get(tag)
    if kind is None:
        raise Wrong("tag", f"the tag {quoted(tag)} is not part of the language", "remove it")
    value = resolve(text)
    if type(value) is int and kind is float:
        return float(value)
    if type(value) is not kind:
        raise Wrong("tag", f"{quoted(text)} is not what its tag says", "remove the tag")
    return value


_VARIABLE = re.compile(r"\$\{\{\s*(matrix|env)\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}\Z")


def substitute(text: str, matrix: Mapping[str, Scalar], env: Mapping[str, str]) -> Scalar:
    """The value of `${{ matrix.x }}` or `${{ env.X }}`; any other text stays as it is.

    The variable must be the whole scalar. A value from the environment is read like a plain scalar: `50` is a number.
    Raises Wrong for an unknown variable and for one inside other text.
    """
    if "${{" not in text:
        return text
    match = _VARIABLE.match(text.strip())
    if match is None:
        raise Wrong(
            "variable",
            f"{quoted(text)} is not a whole '${{{{ matrix.x }}}}' or '${{{{ env.X }}}}'",
            "a variable stands alone in its value; there are no templates and no expressions",
        )
    space, name = match.groups()
    if space == "env":
        return resolve(_known(name, env, "the environment variable", f"set it: {name}=…"))
    return _known(name, matrix, "the matrix key", did_you_mean(name, matrix))


def _known(name: str, values: Mapping[str, T], what: str, remedy: str) -> T:
    if name not in values:
        raise Wrong("variable", f"{what} '{name}' is not set", remedy)
    return values[name]
