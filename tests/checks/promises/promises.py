"""Promises in Python, as a user would write them beside a scenario."""

from __future__ import annotations

from midsession.core.history import History
from midsession.core.verdict import Finding, Status


def everybody_was_answered(history: History) -> bool:
    """Each talker got an answer."""
    return set(history.events("replied").by_client()) == set(history.clients_of("talkers"))


def nobody_was_lost(history: History) -> None:
    """No connection was lost."""
    lost = history.events("lost").count
    assert lost == 0, f"{lost} connections were lost"


def talkers_after_the_crash(history: History) -> Finding:
    """Whoever was there after the crash was answered."""
    since = history.events("replied").since("crash")
    promise = "answered after the crash"
    return Finding(check="mine", status=Status.PASS, promise=promise, seen="answers", support=len(since))


def crashes(history: History) -> bool:
    """A mistake of the user's."""
    raise KeyError("no such thing")


def exits(history: History) -> bool:
    """Another one."""
    raise SystemExit(0)


def says_a_number(history: History) -> int:
    """Neither yes nor no."""
    return history.events("lost").count


def always(_: History) -> bool:
    """What cannot fail."""
    return True


def passes_as_a_word(history):
    return Finding(check="x", status="pass", promise="p", seen="s", support=0)


def finds_a_status_that_is_none(history):
    return Finding(check="x", status="splendid", promise="p", seen="s", support=1)


def finds_support_in_words(history):
    return Finding(check="x", status="pass", promise="p", seen="s", support="much")


def finds_witnesses_that_are_none(history):
    return Finding(check="x", status="pass", promise="p", seen="s", support=1, witnesses=["x"])


def crashes_with_half_a_character(history):
    raise ValueError("\ud800")


def asserts_half_a_character(history):
    raise AssertionError("\ud800")
