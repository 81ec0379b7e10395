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
MOST_COMPARED = 400
"""How many events of each side are compared from the first difference on: comparing is quadratic."""


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
        groups, rest = _groups(wanted, self._words)
        lines = [line for group in groups for line in self._told(group, wanted)]
        return [head, *_cut(lines, rest)]

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


Groups = list[list[tuple[str, int, int, int, int]]]


def _groups(wanted: Sequence[Word], seen: Sequence[Word]) -> tuple[Groups, int]:
    """The differences, with what is around them, and how many events lie beyond those that were compared."""
    ours, theirs = list(map(repr, wanted)), list(map(repr, seen))
    same = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    begin = max(0, same - AROUND)
    end = same + MOST_COMPARED
    matcher = SequenceMatcher(None, ours[begin:end], theirs[begin:end], autojunk=False)
    groups = [
        [(kind, low + begin, high + begin, first + begin, last + begin) for kind, low, high, first, last in group]
        for group in matcher.get_grouped_opcodes(AROUND)
    ]
    rest = max(0, len(ours) - end, len(theirs) - end)
    if rest and len(groups) > 1 and groups[-1][-1][0] != "equal":
        groups.pop()  # where the comparison ends, one side is ahead of the other
    return groups, rest


def _shown(word: Any) -> str:
    return word if isinstance(word, str) else repr(tuple(map(_plain, word)) if isinstance(word, tuple) else word)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _where(record: Record, begun_ns: int) -> str:
    who = f"{record.client or record.host}" + (f" #{record.connection}" if record.connection else "")
    return f"{who} at {(record.t_ns - begun_ns) / 1e9:.3f} s"


def _cut(lines: list[str], beyond: int = 0) -> list[str]:
    """Not more than helps. `beyond`: so many events were not compared."""
    left = len(lines) - MOST_LINES
    if left > 0:
        return [*lines[:MOST_LINES], f"… and {left + beyond} lines more"]
    return [*lines, f"… not compared: {beyond} events after these"] if beyond else lines
