"""What a program ended by: a judgement over the signals that it was sent and how it exited. Does no I/O."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

_END_OR_CRASH = frozenset({"TERM", "INT", "QUIT", "ABRT", "SEGV", "BUS"})
"""Who catches one of these is asked to end, or told that it has crashed: it may do so with whatever code it likes."""
_SHELL_BASE = 128
"""128 + n is how a shell, a JVM or a container's engine tells of an end by signal n."""
_SURELY_WITHIN_S = 1.0
"""A code but 0 that comes later may be the answer to such a signal, or that of a crash by itself."""


class Blow(NamedTuple):
    """A signal that a program was sent: its name without SIG, and the step that sent it (empty: none did).

    `t_ns` is when it was sent; None where a SIGKILL bounds the time that the program has for its answer.
    """

    signal: str
    step: str
    t_ns: int | None = None


class Exit(NamedTuple):
    """How a program ended, and when: with a code, or by a signal."""

    code: int | None
    signal: str | None
    t_ns: int


def cause(blows: Sequence[Blow], exit_: Exit) -> Blow | None:
    """The blow that a program ended by: the last one, in the order of `blows`, that can be the reason. None: no such.

    A code of 128 + n counts as death by signal n. Death is of the very signal that was sent: a program that has
    survived a HUP and dies of SEGV a second later has crashed by itself. A code of its own may be the answer to any
    signal that asks a program to end; KILL cannot be answered, and HUP is a request to read the configuration anew as
    often as to end, so that after HUP only a code of 0 is an answer. A code but 0 is no sure answer when it is late.
    """
    return next((b for b in reversed(blows) if _can_be(b.signal, exit_) and not _is_late(b, exit_)), None)


def blame(blows: Sequence[Blow], exit_: Exit) -> dict[str, Any]:
    """What `exited` says of the cause: `by`, the step or None; `stopped`, where the end was asked for by no step;
    `maybe`, the step whose signal it may have answered late, or not at all."""
    if (blow := cause(blows, exit_)) is not None:
        return {"by": blow.step} if blow.step else {"by": None, "stopped": True}
    late = next((b.step for b in reversed(blows) if b.step and _can_be(b.signal, exit_)), None)
    return {"by": None, "maybe": late} if late else {"by": None}


def _can_be(sent: str, exit_: Exit) -> bool:
    if died_of := _died_of(exit_):
        return sent == died_of
    return sent in _END_OR_CRASH or (sent == "HUP" and exit_.code == 0)


def _is_late(blow: Blow, exit_: Exit) -> bool:
    if blow.t_ns is None or exit_.code == 0 or _died_of(exit_):
        return False
    return exit_.t_ns - blow.t_ns > _SURELY_WITHIN_S * 1e9


def _died_of(exit_: Exit) -> str | None:
    return exit_.signal or _signal_of(exit_.code)


def _signal_of(code: int | None) -> str | None:
    if code is None or code <= _SHELL_BASE:
        return None
    try:
        return signal.Signals(code - _SHELL_BASE).name.removeprefix("SIG")
    except ValueError:
        return None  # no such signal: a code like any other
