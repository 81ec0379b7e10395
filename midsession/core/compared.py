"""Events in the two forms that tests compare, a sequence and a multiset, and in words how they differ from another.

`difference` is for pytest's own report of a failed `==`: each event that is too many comes with its client and its
instant, so that it can be found in the logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from midsession.core.record import Record

Word = str | tuple[Any, ...]
AROUND = 2
MOST_LINES = 30


class EventSequence(Sequence[Word]):
    """What happened, in order: events, or tuples of an event and fields. Equal to a list or tuple of the same."""

    def __init__(self, records: Sequence[Record], fields: Sequence[str], begun_ns: int) -> None:
        self._records, self._begun_ns = records, begun_ns
        self._words = [(r.event, *map(r.fields.get, fields)) if fields else str(r.event) for r in records]

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: Any) -> Any:
        return self._words[index]

    def __iter__(self) -> Iterator[Word]:
        return iter(self._words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventSequence | list | tuple) and self._words == list(other)

    __hash__ = None  # type: ignore[assignment]  # compares like a list, so it hashes like one

    def __repr__(self) -> str:
        return repr(self._words)

    def difference(self, expected: object) -> list[str]:
        """How it differs: what was expected and is missing with `-`, what is there and was not expected with `+`."""
        if not isinstance(expected, EventSequence | list | tuple):
            return [f"{len(self)} events are not equal to a {type(expected).__name__}"]
        wanted = list(expected)
        head = f"{len(self)} events, where {len(wanted)} were expected (- missing, + not expected):"
        lines = [line for group in _groups(wanted, self._words) for line in self._told(group, wanted)]
        return [head, *_cut(lines)]

    def _told(self, group: list[tuple[str, int, int, int, int]], wanted: list[Word]) -> Iterator[str]:
        for kind, low, high, first, last in group:
            if kind != "equal":
                yield from (f"- {_shown(word)}" for word in wanted[low:high])
            sign = " " if kind == "equal" else "+"
            yield from (f"{sign} {_shown(self._words[n])}  {self._where(self._records[n])}" for n in range(first, last))

    def _where(self, record: Record) -> str:
        return _where(record, self._begun_ns)


class EventCounts(dict[Any, int]):
    """How many records of each kind: by event, or by a field. Equal to a dict of the same numbers."""

    def __init__(self, records: Sequence[Record], field: str, begun_ns: int) -> None:
        super().__init__()
        self._begun_ns = begun_ns
        self._first: dict[Any, Record] = {}
        for record in records:
            key = record.fields.get(field) if field else str(record.event)
            self[key] = self.get(key, 0) + 1
            self._first.setdefault(key, record)

    def difference(self, expected: object) -> list[str]:
        """How it differs, kind by kind; of what was not expected, where it was first."""
        if not isinstance(expected, Mapping):
            return [f"counts are not equal to a {type(expected).__name__}"]
        keys = [key for key in {**self, **expected} if self.get(key) != expected.get(key)]
        return ["the counts differ:", *_cut([self._told(key, expected) for key in keys])]

    def _told(self, key: Any, expected: Mapping[Any, int]) -> str:
        line = f"{_shown(key)}: {self.get(key, 0)}, expected {expected.get(key, 0)}"
        return f"{line}; the first: {_where(self._first[key], self._begun_ns)}" if key in self._first else line


def _groups(wanted: Sequence[Word], seen: Sequence[Word]) -> Iterator[list[tuple[str, int, int, int, int]]]:
    matcher = SequenceMatcher(None, list(map(repr, wanted)), list(map(repr, seen)), autojunk=False)
    yield from matcher.get_grouped_opcodes(AROUND)


def _shown(word: Any) -> str:
    return word if isinstance(word, str) else repr(tuple(map(_plain, word)) if isinstance(word, tuple) else word)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _where(record: Record, begun_ns: int) -> str:
    who = f"{record.client or record.host}" + (f" #{record.connection}" if record.connection else "")
    return f"{who} at {(record.t_ns - begun_ns) / 1e9:.3f} s"


def _cut(lines: list[str]) -> list[str]:
    left = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], f"… and {left} lines more"] if left > 0 else lines
