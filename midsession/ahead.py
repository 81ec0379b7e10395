"""Start what a command will wait for before its words have been read: reading them takes longer (typer, pydantic).

Imports next to nothing. A guess that was wrong costs a process that ends with this one.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `midsession`
if TYPE_CHECKING:
    from collections.abc import Sequence


def start(words: Sequence[str]) -> None:
    """Have the testbed warm up that a command line seems to ask for.

    Several runs at once (`-n`) are the business of workers, which have testbeds of their own.
    """
    if words[:1] != ["run"] or any(word.startswith(("-n", "--jobs", "-h", "--help")) for word in words):
        return
    from midsession.testbeds.registry import AUTO, warm_up

    warm_up(_value_of("--testbed", words) or AUTO)


def _value_of(option: str, words: Sequence[str]) -> str:
    """What is said for an option, in either way to say it; empty: nothing."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return after
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""
