"""The kinds of text in a scenario: names, templates, lines, expressions, bytes, paths. Each says what is wrong."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import PurePosixPath
from typing import Annotated

import re2  # type: ignore[import-untyped]
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from midsession.core.template import Template
from midsession.core.wrong import Wrong, quoted

MAX_PAYLOAD_BYTES = 1024 * 1024
NAME_PATTERN = "^[a-z][a-z0-9_-]{0,39}$"
_FILE_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"


def name(value: str) -> str:
    """A name of the user's: lower case, at most 40 characters; it becomes a host name and a file name. Raises Wrong."""
    if re.fullmatch(NAME_PATTERN[1:-1], value) is None:
        remedy = "use a lower-case letter, then at most 39 of a-z, 0-9, '_' and '-'"
        raise Wrong("bad-name", f"{quoted(value)} is not a name", remedy)
    return value


def _template(value: str) -> str:
    try:
        Template(value)
    except ValueError as error:
        raise Wrong("placeholder", str(error)) from None
    return value


def _one_line(value: str) -> str:
    if "\n" in value:
        raise Wrong("bad-value", "a line cannot hold a line feed", "use 'text' or 'exact'")
    return value


def _regex(value: str) -> str:
    """A regular expression that RE2 takes: linear time, so no look-around and no back-references."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        re2.compile(value, options)
    except (re2.error, UnicodeError) as error:
        said = error.args[0] if error.args else error
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        remedy = "regular expressions are RE2's: no look-around, no back-references, no possessive quantifiers"
        raise Wrong("bad-regex", f"{quoted(value)} is not a regular expression: {text}", remedy) from None
    return value


def _hex(value: str) -> str:
    try:
        return bytes.fromhex(value).hex()
    except ValueError:
        raise Wrong("bad-value", f"{quoted(value)} is not hexadecimal", "write pairs of 0-9 and a-f") from None


def _base64(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).hex()
    except (ValueError, binascii.Error):
        raise Wrong("bad-value", f"{quoted(value)} is not base64") from None


def inner_path(value: str) -> str:
    """A path that, by its text, stays under the scenario's folder; symbolic links are the caller's. Raises Wrong."""
    path = PurePosixPath(value)
    if not value or "\0" in value or path.is_absolute() or ".." in path.parts or value.startswith("~"):
        remedy = "name a file in the scenario's folder or below it, without '..'"
        raise Wrong("outside", f"the path {quoted(value)} leaves the scenario's folder", remedy)
    return value


def compose_path(value: str) -> str:
    """An inner path of a Compose file; such a file may include others, wherever they are. Raises Wrong."""
    try:
        return inner_path(value)
    except Wrong as wrong:
        remedy = f"put a Compose file beside the scenario that says include: [{quoted(value)}], and name that"
        raise Wrong(wrong.slug, wrong.message, remedy) from None


def _file_name(value: str) -> str:
    if re.fullmatch(_FILE_NAME, value) is None:
        remedy = "put it beside the scenario under a name of letters, digits, '.', '_' and '-', a letter or digit first"
        raise Wrong("bad-value", f"{quoted(value)} cannot be copied to a host under that name", remedy)
    return value


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise Wrong("bad-value", f"{quoted(value)} is not 'host:port'", "write a service and its port: server:4000")
    name(host)
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise Wrong("bad-value", "this text cannot hold a NUL")
    return value


MAX_TEXT = Field(max_length=65536)
Name = Annotated[str, AfterValidator(name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
Text = Annotated[str, MAX_TEXT, AfterValidator(_template)]
Line = Annotated[str, MAX_TEXT, AfterValidator(_one_line), AfterValidator(_template)]
Regex = Annotated[str, Field(max_length=4096), AfterValidator(_regex)]
Hex = Annotated[str, Field(max_length=2 * MAX_PAYLOAD_BYTES), AfterValidator(_hex)]
Base64 = Annotated[str, Field(max_length=2 * MAX_PAYLOAD_BYTES), AfterValidator(_base64)]
FileName = Annotated[
    str,
    Field(max_length=100),
    AfterValidator(_file_name),
    WithJsonSchema({"type": "string", "maxLength": 100, "pattern": f"^{_FILE_NAME}$"}),
]
"""The name of a file beside the scenario."""

InnerPath = Annotated[str, Field(max_length=1024), AfterValidator(inner_path)]
ComposePath = Annotated[
    InnerPath, BeforeValidator(lambda value: compose_path(value) if isinstance(value, str) else value)
]
"""A path that leads out is told with its own remedy, before the general one."""
Address = Annotated[str, Field(max_length=256, examples=["server:4000"]), AfterValidator(_address)]
Argument = Annotated[str, MAX_TEXT, AfterValidator(_no_nul)]
