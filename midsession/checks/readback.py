"""What was written, what became of it, and what was read back: the ground that the sequence models stand on.

A write is a send `as: write`; it is `ok` once an expect with `ok: write` was met after it, and `info` while nobody
knows: its connection was lost first. A read is a reply to an expect with `ok: read`. Both are compared by their item:
what the expression `matches` finds in their text (its first group, where it has one), or the whole text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]

from midsession.core.history import PROGRAM, CannotTell, Gap, History
from midsession.core.record import Event, Record
from midsession.core.refers import Players
from midsession.core.wire import PREVIEW_CHARS


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Which: what the clients `of` wrote, and what `read_by` read later; items are found by `matches` (RE2)."""

    of: Players
    read_by: Players
    matches: str | None = None

    def __str__(self) -> str:
        return f"{self.of}, as {self.read_by} read them"


@dataclass(frozen=True, slots=True)
class Write:
    """One write: what, by whom, its record, and the record of its acknowledgement (None: nobody knows)."""

    item: str
    sent: Record
    acknowledged: Record | None


@dataclass(frozen=True, slots=True)
class Told:
    """All writes in the order in which they were sent, and each reader's reads in theirs; never empty, both.

    `asked` is how many questions the readers asked; `unread` says which of them did not come to their end, and why;
    `gaps` are the fleets' logs that are not whole, from which an acknowledged write may be missing as well as a read.
    """

    writes: Sequence[Write]
    reads: Mapping[str, Sequence[tuple[str, Record]]]
    asked: int
    unread: Sequence[str]
    gaps: Sequence[Gap]

    @property
    def doubts(self) -> Sequence[str]:
        """Why something that is missing here may yet have been there; empty: it was not."""
        return [*self.unread, *map(str, self.gaps)]

    @property
    def items(self) -> frozenset[str]:
        """Everything that anybody read."""
        return frozenset(item for reads in self.reads.values() for item, _ in reads)


def tell(history: History, which: ReadBack) -> Told:
    """Writes and reads of a run.

    Raises CannotTell when nothing was acknowledged or read, when two writes have the same item, and for a text that
    its record holds in part.
    """
    writes = [w for client in history.clients_of(which.of) for w in _writes(history, client, which)]
    if not any(w.acknowledged for w in writes):
        how = "a write is a send `as: write`, and acknowledged by an expect `ok: write` that is met after it"
        raise CannotTell(f"no write of {which.of} was ever acknowledged; {how}")
    if len({w.item for w in writes}) < len(writes):
        raise CannotTell(f"two writes of {which.of} are the same; give each its own text, as with {{client}} and {{n}}")
    reads = {client: list(_reads(history, client, which)) for client in history.clients_of(which.read_by)}
    reads = {client: found for client, found in reads.items() if found}
    if not reads:
        how = "a read is a send `as: read`, and what it found is what an expect `ok: read` is met by"
        raise CannotTell(f"{which.read_by} read nothing; {how}")
    gaps = [gap for gap in history.gaps if gap.writer == PROGRAM and gap.host in history.fleets]
    return Told(writes, reads, _asked(history, which), list(_unread(history, which)), gaps)


def _asked(history: History, which: ReadBack) -> int:
    """How many questions the readers asked: what several of them ask is one."""
    most: Counter[str] = Counter()
    for client in history.clients_of(which.read_by):
        sends = (r for r in history.of_client(client) if r.event == Event.SENT and r.fields.get("as") == "read")
        most |= Counter(str(r.fields.get("text")) for r in sends)
    return most.total()


def _writes(history: History, client: str, which: ReadBack) -> Iterator[Write]:
    records = history.of_client(client)
    acknowledgements = [r for r in records if r.event == Event.REPLIED and r.fields.get("ok") == "write"]
    acknowledged = {r.fields["n"]: r for r in reversed(acknowledgements)}  # the first, where there are several
    for r in records:
        if r.event == Event.SENT and r.fields.get("as") == "write":
            item = _item(r, which)
            if item is None:
                raise CannotTell(f"a write of {client} holds nothing that {which.matches!r} matches")
            yield Write(item, r, acknowledged.get(r.fields["n"]))


def _reads(history: History, client: str, which: ReadBack) -> Iterator[tuple[str, Record]]:
    for r in history.of_client(client):
        if r.event == Event.REPLIED and r.fields.get("ok") == "read" and (item := _item(r, which)) is not None:
            yield item, r


def _item(record: Record, which: ReadBack) -> str | None:
    text = str(record.fields.get("text", ""))
    if len(text) >= PREVIEW_CHARS:
        raise CannotTell(f"a text of {record.client} is longer than the {PREVIEW_CHARS} characters of its record")
    line = text.removesuffix("\n")
    if which.matches is None:
        return line
    found: Any = re2.search(which.matches, line)
    return None if found is None else str(found[1] if found.re.groups else found[0])


def _unread(history: History, which: ReadBack) -> Iterator[str]:
    for client in history.clients_of(which.read_by):
        outcome = history.outcomes[client]
        if outcome.word != "ok":
            yield f"{client} did not read to its end ({outcome.reason})"
