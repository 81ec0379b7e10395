"""How often something may happen, and what is believed of a number that was counted."""

from __future__ import annotations

from dataclasses import dataclass

from midsession.checks import words
from midsession.core.verdict import Status


@dataclass(frozen=True, slots=True)
class Bounds:
    """How often: from `low` to `high` times; `high` None: no upper bound."""

    low: int
    high: int | None

    @staticmethod
    def of(equals: int | None, at_least: int | None, at_most: int | None) -> Bounds:
        """The bounds of a check's fields. Raises ValueError when they are missing or contradict each other."""
        if equals is None and at_least is None and at_most is None:
            raise ValueError("say how often: 'equals', 'at_least' or 'at_most'")
        if equals is not None and (at_least is not None or at_most is not None):
            raise ValueError("'equals' excludes 'at_least' and 'at_most'")
        if min(n for n in (equals, at_least, at_most) if n is not None) < 0:
            raise ValueError("a number of records cannot be negative")
        if at_least is not None and at_most is not None and at_least > at_most:
            raise ValueError(f"'at_least' ({at_least}) is more than 'at_most' ({at_most})")
        return Bounds(equals, equals) if equals is not None else Bounds(at_least or 0, at_most)

    def judge(self, n: int, complete: bool, perhaps: int = 0) -> Status:
        """Too many is a failure at once; too few, or not too many, only when nothing can be missing.

        `perhaps`: so many more may have to be counted.
        """
        if self.high is not None and n > self.high:
            return Status.FAIL
        if n < self.low:
            return Status.FAIL if complete and n + perhaps < self.low else Status.INCONCLUSIVE
        is_known = self.high is None or (complete and n + perhaps <= self.high)
        return Status.PASS if is_known else Status.INCONCLUSIVE

    def __str__(self) -> str:
        if self.low == self.high:
            return f"exactly {words.times(self.low)}"
        parts = [f"at least {words.times(self.low)}" if self.low else ""]
        parts += [f"at most {words.times(self.high)}" if self.high is not None else ""]
        return " and ".join(filter(None, parts)) or "any number of times"
