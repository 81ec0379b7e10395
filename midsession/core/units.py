"""Quantities with compulsory units, as text: `10s`, `100ms..300ms`, `64KiB`, `5%`.

For authors of faults and checks
--------------------------------
A fault or a check is a frozen dataclass; its fields are its YAML. Nothing has to be registered for units: the *name*
of a field says how its YAML is read, and its type stays a plain number.

    field                              in YAML          is read by          value
    `within_s: float`                  `within: 1s`     `duration`          1.0 (seconds)
    `grace_s: float | None = None`     `grace: 500ms`   `duration`          0.5, None when absent
    `slice_bytes: int`                 `slice: 64KiB`   `size`              65536
    `speed_bytes_per_s: int`           `speed: 10kB/s`  `rate`              10000
    `rate_share: float`                `rate: 5%`       `share`             0.05
    `matches: str`                     `matches: "a+"`  RE2's compiler      the text
    `from_: str`, `as_: str | None`    `from: …`        -                   a trailing underscore is dropped

`split_name` is that table. Any other field keeps its name and is read as what its type says: str, int, float, bool,
Literal[…], an enum (`Event`), list[…], dict[str, …], a nested frozen dataclass, each with `| None`. A field without a
default is compulsory. An explicit null is refused everywhere. Raise ValueError in `__post_init__` for what the types
cannot say; its text is shown with the place. A name that refers to something says so by its
type, one of `midsession.core.refers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from midsession.core.wrong import Wrong, quoted

_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_BYTES = {
    "B": Decimal(1),
    "kB": Decimal(10**3),
    "MB": Decimal(10**6),
    "GB": Decimal(10**9),
    "KiB": Decimal(2**10),
    "MiB": Decimal(2**20),
    "GiB": Decimal(2**30),
}
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_QUANTITY = re.compile(rf"({_NUMBER})\s?([A-Za-zµ%/]*)\Z")

DURATION_PATTERN = rf"^{_NUMBER} ?(ns|us|µs|ms|s|m|h)$"
SPAN_PATTERN = rf"^{_NUMBER} ?(ns|us|µs|ms|s|m|h)(\.\.{_NUMBER} ?(ns|us|µs|ms|s|m|h))?$"
SIZE_PATTERN = rf"^{_NUMBER} ?(B|kB|MB|GB|KiB|MiB|GiB)$"
RATE_PATTERN = rf"^{_NUMBER} ?(B|kB|MB|GB|KiB|MiB|GiB)/s$"
SHARE_PATTERN = rf"^{_NUMBER} ?%$"

MAX_DURATION_S = 24 * 3600.0
MAX_BYTES = 2**40


def duration(value: object) -> float:
    """`1.5s`, `100ms`, `2m` → seconds, at most a day. Raises Wrong."""
    seconds = float(_quantity(value, _SECONDS, "duration", "10s, 100ms, 2m, 1h"))
    if seconds > MAX_DURATION_S:
        raise Wrong("out-of-range", f"the duration {quoted(value)} is longer than a day")
    return seconds


def span(value: object) -> tuple[float, float]:
    """`10ms..30ms` → (low, high) in seconds; a single duration is both ends. Raises Wrong."""
    if not isinstance(value, str) or ".." not in value:
        single = duration(value)
        return single, single
    low_text, _, high_text = value.partition("..")
    low, high = duration(low_text), duration(high_text)
    if low > high:
        raise Wrong("out-of-range", f"the range {quoted(value)} runs backwards", f"write {high_text}..{low_text}")
    return low, high


def size(value: object) -> int:
    """`5B`, `10kB` (1000), `64KiB` (1024) → bytes, a whole number of them. Raises Wrong."""
    count = _quantity(value, _BYTES, "size", "5B, 10kB, 64KiB, 1MiB")
    if count != int(count):
        raise Wrong("bad-unit", f"{quoted(value)} is no whole number of bytes")
    if count > MAX_BYTES:
        raise Wrong("out-of-range", f"the size {quoted(value)} is more than 1024 GiB")
    return int(count)


def rate(value: object) -> int:
    """`10kB/s` → bytes per second. Raises Wrong."""
    if not isinstance(value, str) or not value.endswith("/s"):
        raise Wrong("missing-unit", f"{quoted(value)} is not a rate", "write bytes per second, like 10kB/s or 1MiB/s")
    return size(value.removesuffix("/s"))


def share(value: object) -> float:
    """`5%` → 0.05; 0% to 100%. Raises Wrong."""
    if isinstance(value, float) and 1e-4 <= value <= 1:
        remedy = f"write {100 * value:g}%, or {value:g}% if you mean that"
        raise Wrong("missing-unit", f"the percentage {quoted(value)} has no unit", remedy)
    part = float(_quantity(value, {"%": Decimal("0.01")}, "percentage", "5%, 0.5%"))
    if part > 1:
        raise Wrong("out-of-range", f"{quoted(value)} is more than 100%")
    return part


def _quantity(value: object, units: Mapping[str, Decimal], kind: str, examples: str) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool):
        first = examples.partition(",")[0].lstrip("0123456789.")
        raise Wrong(
            "missing-unit", f"the {kind} {quoted(value)} has no unit", f"write {value}{first}, or as in {examples}"
        )
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    if match is None:
        raise Wrong("bad-unit", f"{quoted(value)} is not a {kind}", f"write one like {examples}")
    number, unit = match.groups()
    if unit not in units:
        raise Wrong("bad-unit", f"{quoted(value)} is not a {kind}", f"the units are {', '.join(units)}")
    return Decimal(number) * units[unit]


SUFFIXES = {"_bytes_per_s": "rate", "_bytes": "size", "_share": "share", "_s": "duration"}
"""Field-name suffix → the reader of its YAML. The longest one that fits counts."""


def split_name(field: str) -> tuple[str, str | None]:
    """A dataclass field's name → its YAML key, and how its value is read: a word of `SUFFIXES`, or `regex`."""
    if field == "matches":
        return field, "regex"
    for suffix, reader in SUFFIXES.items():
        if field.endswith(suffix):
            return field.removesuffix(suffix), reader
    return field.removesuffix("_"), None
