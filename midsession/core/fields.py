"""The fields of every event: what a `where` or an `as` can ask for, so that a check cannot ask for what never is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midsession.core.record import Event

LOSS_WORDS = frozenset({"eof", "reset", "timeout", "refused", "unreachable", "name", "aborted"})
"""The ways of a client's `lost`."""

_PAYLOAD = {"bytes": int, "text": str, "hash": str}
_SERVICE_CUTS = frozenset({"line_too_long", "slow", "unread", "error"})
_FAULT_FIELDS = {"fault": str}

FIELDS: Mapping[Event, Mapping[str, Any]] = {
    Event.CONNECTING: {"to": str},
    Event.CONNECTED: {"local": str, "peer": str, "took_ns": int},
    Event.SENT: {"n": int, "as": frozenset({"write", "read"}), **_PAYLOAD},
    Event.RECEIVED: _PAYLOAD,
    Event.REPLIED: {"n": int, "text": str, "rtt_ns": int, "ok": frozenset({"write", "read"}), **_PAYLOAD},
    Event.END: {},
    Event.CLOSED: {"had_error": bool, "bytes_in": int, "bytes_out": int},
    Event.ERROR: {"how": LOSS_WORDS | _SERVICE_CUTS | {"exhausted"}, "errno": int, "message": str},
    Event.LOST: {"how": LOSS_WORDS},
    Event.RECONNECTING: {"attempt": int, "delay_s": float},
    Event.GAVE_UP: {"attempts": int},
    Event.MARK: {"name": str, "barrier": bool},
    Event.DONE: {"outcome": frozenset({"ok", "lost", "gave_up", "protocol_error", "stopped"})},
    Event.PROTOCOL_ERROR: {"expected": str, "got": str, "within_s": float, "n": int},
    Event.LISTENING: {"address": str, "port": int, "by": frozenset({"line", "port"}), "incarnation": int},
    Event.ACCEPTED: {"peer": str},
    Event.CLIENT_LOST: {"peer": str, "how": LOSS_WORDS | _SERVICE_CUTS},
    Event.STARTED: {"pid": int, "incarnation": int, "argv": list},
    Event.EXITED: {
        "code": int, "signal": str, "pid": int, "incarnation": int, "by": str, "event_bytes": int, "event_file": str,
        "left": int, "stopped": bool,
    },
    Event.FROZEN: {"pids": int, **_FAULT_FIELDS},
    Event.THAWED: {"pids": int, **_FAULT_FIELDS},
    Event.LINE: {"stream": frozenset({"stdout", "stderr"}), "text": str, "incarnation": int},
    Event.INJECTED: {"verb": str, "began_ns": int, "signal": str, "grace_s": float, **_FAULT_FIELDS},
    Event.WITNESSED: {
        "by": frozenset({"counter", "link", "sockets"}), "packets": int, "bytes": int, "interface": str, "sockets": int,
        **_FAULT_FIELDS,
    },
    Event.HEALED: {"packets": int, "bytes": int, "seen": int, **_FAULT_FIELDS},
    Event.STALLED: {"for_ns": int},
    Event.BEGUN: {"plan": str, "seed": int, "name": str},
    Event.TRIGGERED: {"step": str, "verb": str, "by": dict, "lag_ns": int},
    Event.EFFECTIVE: {"step": str, "witness": dict, "witnesses": list, "after_ns": int},
    Event.NOTE: {"text": str, "failed": str, "gone": list, "step": str, "problem": bool},
    Event.ENDED: {"why": frozenset({"done", "timeout", "interrupted", "error"}), "unfired": list},
}  # fmt: skip
"""Event → field → its type, or the words that it can be. Total over the events: a test says so."""


def known_words(kind: Any) -> list[str]:
    """The words that a field can be; empty for a field of a type."""
    return sorted(kind) if isinstance(kind, frozenset) else []


def can_be(kind: Any, value: object) -> bool:
    """Whether a field of that kind can have this value."""
    if isinstance(kind, frozenset):
        return value in kind
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
