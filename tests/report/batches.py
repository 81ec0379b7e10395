"""Batches that are over, made from words."""

from __future__ import annotations

from collections.abc import Iterable

from midsession.batch.schedule import Repetition, Series
from midsession.batch.told import Told
from midsession.report.batch import BatchView
from midsession.report.text import visible

CODES = {"pass": 0, "fail": 1, "inconclusive": 11, "error": 3, "lacks": 10, "interrupted": 2}


def series(plan: str, words: Iterable[str]) -> Series:
    """A plan's repetitions that ended with these words; the n-th has the seed 100 + n, and took a second."""
    return Series(plan, f"The plan {plan}", [_repetition(plan, n, word) for n, word in enumerate(words, 1)])


def batch(plans: Iterable[tuple[str, str]], repeats: bool = False, interrupted: bool = False) -> BatchView:
    """A batch of (words, plan)."""
    return BatchView([series(plan, words.split()) for words, plan in plans], 7, repeats, interrupted)


def _repetition(plan: str, number: int, word: str) -> Repetition:
    replay, why = (
        f"midsession run {visible(plan)} --seed {100 + number}",
        "" if word == "pass" else f"a promise: {plan}",
    )
    told = Told(word, CODES[word], 100 + number, f"runs/{number}", replay, 10**9, why)
    return Repetition(plan, f"The plan {plan}", number, told)
