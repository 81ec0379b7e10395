"""The fields of every event: what a `where` or an `as` can ask for, so that a check cannot ask for what never is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midsession.core.record import Event
from midsession.core.whose import Writer

LOSS_WORDS = frozenset({"eof", "reset", "timeout", "refused", "unreachable", "name", "aborted"})
"""The ways of a client's `lost`."""

_LOST_BY_SERVERS = frozenset({"reset", "timeout", "unreachable", "aborted", "error"})
_CUT_OFF = frozenset({"line_too_long", "slow", "unread", "exhausted"})
_OPERATION = frozenset({"write", "read"})
_YES = frozenset({True})
"""Of a field that is there, or not."""

_PAYLOAD = {"bytes": int, "text": str, "hash": str}
_CLOSED = {"had_error": bool, "bytes_in": int, "bytes_out": int}
_FAULT = {"fault": str}
_MEASURED = {
    "packets": int, "bytes": int, "seen": int, "mean_ms": float, "worst_ms": float, "late": int, "bursts": int,
    "lost": int, "interface": str, "address": str,
}  # fmt: skip
"""What is told of a fault that was seen at work, or undone: each fault has some of them."""

NOUNS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}

Fields = Mapping[str, Any]
"""Field → its type, or the values that it can have."""

_OF: Mapping[Event, Mapping[Writer, Fields]] = {
    Event.SENT: {"client": {"n": int, "as": _OPERATION, **_PAYLOAD}, "server": _PAYLOAD},
    Event.CLOSED: {"client": {**_CLOSED, "ending_ns": int}, "server": _CLOSED},
    Event.ERROR: {
        "client": {"how": LOSS_WORDS, "errno": int, "message": str},
        "server": {"how": _LOST_BY_SERVERS | _CUT_OFF, "errno": int, "message": str},
    },
    Event.LISTENING: {
        "server": {"address": str, "port": int},
        "agent": {"port": int, "by": frozenset({"line", "port"}), "incarnation": int},
    },
}
"""The events of which several can write a record, and not of the same fields."""


def _either(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for fields in _OF[event].values():
        found |= {
            key: found[key] | kind if isinstance(found.get(key), frozenset) else kind for key, kind in fields.items()
        }
    return found


FIELDS: Mapping[Event, Fields] = {
    Event.CONNECTING: {"to": str},
    Event.CONNECTED: {"local": str, "peer": str, "took_ns": int},
    Event.SENT: _either(Event.SENT),
    Event.RECEIVED: _PAYLOAD,
    Event.REPLIED: {"n": int, "text": str, "rtt_ns": int, "ok": _OPERATION},
    Event.END: {},
    Event.CLOSED: _either(Event.CLOSED),
    Event.ERROR: _either(Event.ERROR),
    Event.LOST: {"how": LOSS_WORDS},
    Event.RECONNECTING: {"attempt": int, "delay_s": float},
    Event.GAVE_UP: {"attempts": int},
    Event.MARK: {"name": str, "barrier": _YES},
    Event.DONE: {"outcome": frozenset({"ok", "lost", "gave_up", "protocol_error", "stopped"})},
    Event.PROTOCOL_ERROR: {"expected": str, "got": str, "within_s": float, "n": int},
    Event.LISTENING: _either(Event.LISTENING),
    Event.ACCEPTED: {"peer": str},
    Event.CLIENT_LOST: {"peer": str, "how": _LOST_BY_SERVERS},
    Event.STARTED: {"pid": int, "incarnation": int, "argv": list},
    Event.EXITED: {
        "code": int, "signal": str, "pid": int, "incarnation": int, "by": str, "event_bytes": int, "event_file": str,
        "left": int, "stopped": _YES, "maybe": str,
    },
    Event.FROZEN: {"pids": int, **_FAULT},
    Event.THAWED: {"pids": int, **_FAULT},
    Event.LINE: {"stream": frozenset({"stdout", "stderr"}), "text": str, "incarnation": int, "cut": _YES},
    Event.INJECTED: {
        "verb": frozenset({
            "destroy", "filter", "freeze", "impair", "kill", "lead", "link", "mislead", "renumber", "start", "stop",
            "thaw",
        }),
        "began_ns": int, "signal": str, "grace_s": float, "mechanism": frozenset({"queue", "netem"}),
        "rules": frozenset({"nft", "iptables", "iptables-legacy"}),
        "cut": frozenset({"queue", "netem"}), **_FAULT,
    },
    Event.WITNESSED: {
        "by": frozenset({"counter", "link", "address", "sockets", "query", "queue", "netem"}), "sockets": int,
        "name": str, **_MEASURED, **_FAULT,
    },
    Event.HEALED: {"queries": int, "overrun": int, "unsent": int, **_MEASURED, **_FAULT},
    Event.STALLED: {"for_ns": int},
    Event.BEGUN: {"plan": str, "seed": int, "name": str},
    Event.TRIGGERED: {"step": str, "verb": str, "by": dict, "lag_ns": int},
    Event.EFFECTIVE: {"step": str, "witness": dict, "witnesses": list, "after_ns": int},
    Event.NOTE: {"text": str, "failed": str, "gone": list, "step": str, "problem": _YES},
    Event.ENDED: {"why": frozenset({"done", "timeout", "interrupted", "error"}), "unfired": list},
}  # fmt: skip
"""Event → its fields, whoever wrote the record. Total over the events: a test says so. Any of them may be null."""


def fields_of(event: Event, writer: Writer | None = None) -> Fields:
    """The fields of an event's records, or of those by one writer alone."""
    return _OF.get(event, {}).get(writer, FIELDS[event]) if writer else FIELDS[event]


def known_words(kind: Any) -> list[str]:
    """The words that a field can be; empty for a field of a type."""
    words = kind if isinstance(kind, frozenset) else ()
    return sorted(str(word).lower() if isinstance(word, bool) else word for word in words)


def can_be(kind: Any, value: object) -> bool:
    """Whether a field of that kind can have this value."""
    if isinstance(kind, frozenset):
        return any(value == known and type(value) is type(known) for known in kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
