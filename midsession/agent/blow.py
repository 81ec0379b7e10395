"""What a program ended by: a judgement over the signals that it was sent and how it exited. Does no I/O."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

_END_OR_CRASH = frozenset({"TERM", "INT", "QUIT", "ABRT", "SEGV", "BUS"})
"""Who catches one of these is asked to end, or told that it has crashed: it may do so with whatever code it likes."""
_SHELL_BASE = 128
"""128 + n is how a shell, a JVM or a container's engine tells of an end by signal n."""


class Blow(NamedTuple):
    """A signal that a program was sent: its name without SIG, and the step that sent it (empty: none did)."""

    signal: str
    step: str


def cause(blows: Sequence[Blow], code: int | None, signal_name: str | None) -> Blow | None:
    """The blow that a program ended by: the last one, in the order of `blows`, that can be the reason. None: no such.

    It exited with `code` or died of the signal `signal_name`; a code of 128 + n counts as death by signal n. Death is
    of the very signal that was sent: a program that has survived a HUP and dies of SEGV a second later has crashed by
    itself. A code of its own may be the answer to any signal that asks a program to end; KILL cannot be answered, and
    HUP is a request to read the configuration anew as often as to end, so that after HUP only a code of 0 is an answer.
    """
    died_of = signal_name or _signal_of(code)
    return next((blow for blow in reversed(blows) if _can_be(blow.signal, died_of, code)), None)


def blame(blows: Sequence[Blow], code: int | None, signal_name: str | None) -> dict[str, Any]:
    """What `exited` says of the cause: `by`, the step or None; `stopped`, where the end was asked for by no step."""
    blow = cause(blows, code, signal_name)
    if blow is None:
        return {"by": None}
    return {"by": blow.step} if blow.step else {"by": None, "stopped": True}


def _can_be(sent: str, died_of: str | None, code: int | None) -> bool:
    if died_of is not None:
        return sent == died_of
    return sent in _END_OR_CRASH or (sent == "HUP" and code == 0)


def _signal_of(code: int | None) -> str | None:
    if code is None or code <= _SHELL_BASE:
        return None
    try:
        return signal.Signals(code - _SHELL_BASE).name.removeprefix("SIG")
    except ValueError:
        return None  # no such signal: a code like any other
