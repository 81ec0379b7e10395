"""Scenarios in which one value is empty: what each value of every shipped scenario becomes when nothing is there."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

from midsession.core.loader import parse
from tests.torture.corpus import GOOD

EMPTY = (None, {}, [], "")
BARE = """\
name: bare
services: {server: {reference: reply, port: 4000}}
clients:
  talkers:
    connect: server:4000
    on_loss: {reconnect: {}}
    script: [connect, half_close, end, connect, abort, connect, {expect: eof}, {read: never}, {barrier: b}, end]
timeline: [{when: {at: 1s}, kill: server}, {when: {at: 2s}, start: {target: server}}]
checks: [{never: {event: lost}}]
"""
"""What the shipped scenarios have no need of."""

At = tuple[str | int, ...]


def empties(folder: Path) -> Iterator[tuple[Path, At, Any]]:
    """The file, the place, and the scenario with one value (or the mapping that a bare word stands for) empty.

    Of places that differ only in their numbers and in the names of services and groups, one is tried.
    """
    tried: set[At] = set()
    texts = {folder / "good.yaml": GOOD.encode(), folder / "bare.yaml": BARE.encode()}
    texts |= {path: path.read_bytes() for path in sorted(folder.rglob("*.scenario.yaml"))}
    for path, text in texts.items():
        scenario = parse(text, str(path)).data
        for at, value in _values(scenario, ()):
            word = value if isinstance(value, str) and isinstance(at[-1], int) else ""
            shape = (*("*" if isinstance(key, int) or n == 1 else key for n, key in enumerate(at)), word)
            if shape not in tried:
                tried.add(shape)
                for empty in EMPTY:
                    yield path, at, _with(scenario, at, empty)
                    if word:
                        yield path, at, _with(scenario, at, {word: empty})


def _values(value: Any, at: At) -> Iterator[tuple[At, Any]]:
    if at:
        yield at, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _values(one, (*at, key))


def _with(value: Any, at: At, new: Any) -> Any:
    if not at:
        return new
    changed = copy(value)
    changed[at[0]] = _with(value[at[0]], at[1:], new)
    return changed
