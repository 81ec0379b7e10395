"""No acknowledged write is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from midsession.checks import words
from midsession.checks.base import Check
from midsession.checks.readback import ReadBack, Told, Write, tell
from midsession.core.history import CannotTell, History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status


@dataclass(frozen=True, slots=True)
class Kept(Check):
    """Every write of the group `of` that was acknowledged is found by one of the clients of `read_by`.

    A write is a send `as: write`, acknowledged by an expect `ok: write`; a read is an expect `ok: read` that was met.
    They are compared by what `matches` (RE2; its first group where it has one) finds in them, else by their whole text.
    A write whose answer never came may be there or not: it is neither lost nor kept. The readers must ask for
    everything, and end well; where they asked less often than writes were acknowledged, what they did not find is
    inconclusive. A write that was acknowledged only after they began is none that they must find.
    """

    kind: ClassVar[str] = "kept"
    example: ClassVar[str] = """\
- kept: {of: writers, read_by: reader, matches: "k[^ ]+ v.*"}
"""

    kept: ReadBack

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""
        return f"no acknowledged write is lost of {self.kept}"

    def judge(self, history: History) -> Finding:
        """Look for each acknowledged write among what was read."""
        told = tell(history, self.kept)
        began = _began(history, self.kept.read_by)
        began_ns = history.instant(began.t_ns)
        due = [w for w in told.writes if w.acknowledged and w.acknowledged.t_ns < began_ns]
        lost = [w for w in due if w.item not in told.items]
        doubts = [*told.doubts, *_too_few(self.kept, told, due)] if lost else told.doubts
        status = Status.INCONCLUSIVE if doubts and lost else Status.FAIL if lost else Status.PASS
        if not due or (told.gaps and not lost):
            status = Status.INCONCLUSIVE
        return Finding(
            check=self.kind,
            status=status,
            promise=self.promise,
            seen=self._seen(told, due, lost, doubts),
            support=len(due),
            witnesses=_witnesses(lost or due[-1:], began),
            offenders=words.who(w.sent for w in lost),
            measures={
                "acknowledged": len(due),
                "lost": len(lost),
                "unknown": sum(w.acknowledged is None for w in told.writes),
            },
        )

    def _seen(self, told: Told, due: list[Write], lost: list[Write], doubts: Sequence[str]) -> str:
        unknown = [w for w in told.writes if w.acknowledged is None]
        parts = [f"{len(due) - len(lost)} of {words.plural(len(due), 'acknowledged write')} were read back"]
        if unknown:
            there = sum(w.item in told.items for w in unknown)
            parts.append(f"of {len(unknown)} whose answer never came, {there} are there")
        late = sum(1 for w in told.writes if w.acknowledged) - len(due)
        parts += [f"{late} were acknowledged only after the reading began"] if late else []
        word = "was not read" if doubts else "is gone"
        parts += [words.listing(f"{w.sent.client}: {w.item} {word}" for w in lost)] if lost else []
        return "; ".join([*parts, *([f"but {words.listing(doubts)}"] if doubts else [])])


def _too_few(which: ReadBack, told: Told, due: list[Write]) -> list[str]:
    """What nobody asked for cannot be known to be gone."""
    if told.asked >= len(due):
        return []
    return [f"{which.read_by} asked {words.times(told.asked)}, for {words.plural(len(due), 'acknowledged write')}"]


def _began(history: History, readers: str) -> Record:
    for r in history.events(Event.SENT).of(readers):
        if r.fields.get("as") == "read":
            return r
    raise CannotTell(f"no send of {readers} is `as: read`, so nobody knows when the reading began")


def _witnesses(writes: list[Write], began: Record) -> list[Record]:
    return [*(r for w in writes[: words.SHOWN] for r in (w.sent, w.acknowledged) if r), began]
