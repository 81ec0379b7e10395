"""Words for people: text made safe to show, durations, counts, and one phrase per record.

Bytes that a peer sent end up in records, and from there on terminals and pages. `visible` is the one gate that every
such text passes: what it returns has no character that moves a cursor, changes a colour, or reorders what is read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from midsession.core.record import Event, Record

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that show nothing or act on the display: controls (C0, DEL, C1), formats (bidi overrides, zero
widths, tags), surrogates, private use, unassigned, line and paragraph separators."""

_ALLOWED = frozenset({"\u200d"})
"""The zero-width joiner: family emoji need it, and it acts on nothing but its neighbours."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(value: object, limit: int = 4096) -> str:
    """`value` as text whose every character shows as itself; all others as `\\n`, `\\x1b`, `\\u202e`."""
    text = value if isinstance(value, str) else str(value)
    shown = text[:limit]
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(map(_shown, shown))
    return shown if len(text) <= limit else shown + "…"


def _shown(char: str) -> str:
    if char in _ALLOWED or unicodedata.category(char) not in _HIDDEN:
        return char
    return _SHORT.get(char) or char.encode("unicode_escape").decode("ascii")


def duration(ns: int | float) -> str:
    """A duration for people, three digits: `380 ns`, `4.21 ms`, `2.00 s`, `3 min 12 s`."""
    if abs(ns) >= 120e9:
        minutes, seconds = divmod(round(ns / 1e9), 60)
        return f"{minutes} min {seconds} s"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(ns) >= size * 0.9995:
            value = ns / size
            return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f} {unit}"
    return f"{ns:.0f} ns"


def instant(ns: int) -> str:
    """An instant of the run, from its start: `  2.346 s`; lines up under its neighbours."""
    return f"{ns / 1e9:7.3f} s"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 client`, `50 clients`, `1,000 replies` (where an s does not make the plural, it is given)."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def some(names: Sequence[str], limit: int = 6, of: int | None = None) -> str:
    """`a, b and c`; `a, b, c and 47 more` when there are more than `limit` (`of` in all, where only some are given)."""
    shown = [visible(name, 120) for name in names[:limit]]
    more = (len(names) if of is None else of) - len(shown)
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


# --- one phrase per record -----------------------------------------------------------------------------------------


def phrase(record: Record) -> str:
    """What a record says beside its event, in a few words and safe to show. Never raises, whatever the fields hold."""
    make = _PHRASES.get(record.event, _pairs)
    try:
        return make(record.fields)
    except (KeyError, TypeError, ValueError, AttributeError):
        return _pairs(record.fields)


def reference(ref: dict[str, Any]) -> str:
    """A record named in another one's fields: `talkers-17 replied`, `server exited`, `drivers-2 said a line`."""
    who, event = ref.get("client") or ref.get("host") or "?", ref.get("event", "")
    did = "said its ready line" if ref.get("by") == "line" else _DID.get(event, event)
    return f"{visible(who, 80)} {visible(did, 40)}".rstrip()


_DID = {Event.LINE: "said a line", Event.WITNESSED: "saw it at work", Event.END: "heard the end"}
"""What somebody did, for events whose names are no verb of theirs."""


Fields = dict[str, Any]


def _pairs(fields: Fields) -> str:
    return visible(", ".join(f"{key}={value}" for key, value in fields.items()), 300)


def _quoted(fields: Fields) -> str:
    size = f" ({fields['bytes']:,} B)" if "bytes" in fields else ""
    return f"“{visible(fields.get('text', ''), 128)}”{size}"


def _sent(fields: Fields) -> str:
    return (f"#{fields['n']} " if "n" in fields else "") + _quoted(fields)


def _replied(fields: Fields) -> str:
    return f"to #{fields['n']} after {duration(fields['rtt_ns'])}: {_quoted(fields)}"


def _connected(fields: Fields) -> str:
    return f"{visible(fields['local'], 60)} → {visible(fields['peer'], 60)} in {duration(fields['took_ns'])}"


def _error(fields: Fields) -> str:
    return visible(
        " ".join(str(fields[key]) for key in ("how", "errno", "message") if fields.get(key) is not None), 200
    )


def _exited(fields: Fields) -> str:
    how = f"SIG{fields['signal']}" if fields.get("signal") else f"code {fields.get('code')}"
    by, maybe = (str(fields.get(name) or "") for name in ("by", "maybe"))
    return visible(how + (f", by {by}" if by else f", perhaps by {maybe}" if maybe else ""), 120)


def _started(fields: Fields) -> str:
    argv = " ".join(map(str, fields.get("argv", ())))
    return visible(f"pid {fields.get('pid')}: {argv}", 160)


def _protocol_error(fields: Fields) -> str:
    if fields["got"] is None:
        return visible(f"expected {fields['expected']}, got nothing within {fields['within_s']:g} s", 300)
    return visible(f"expected {fields['expected']}, got “{fields['got']}”", 300)


def _triggered(fields: Fields) -> str:
    by = fields.get("by")
    after = f" after {reference(by)}, {duration(fields.get('lag_ns', 0))} ago" if by else ""
    return f"{visible(fields['step'], 80)}: {visible(fields['verb'], 40)}{after}"


def _effective(fields: Fields) -> str:
    witness = fields.get("witness") or {}
    after = duration(fields.get("after_ns", 0))
    return f"{visible(fields['step'], 80)}: {reference(witness)}, {after} after the injection"


def _injected(fields: Fields) -> str:
    return visible(f"{fields['fault']}: {fields['verb']}", 200)


def _ended(fields: Fields) -> str:
    unfired = [str(step["step"]) for step in fields.get("unfired", ())]
    return visible(fields["why"], 100) + (f"; never fired: {some(unfired)}" if unfired else "")


def _listening(fields: Fields) -> str:
    return visible(f"port {fields['port']}", 40) if fields.get("port") else "by a line of its output"


def _closed(fields: Fields) -> str:
    after = "after an error, " if fields["had_error"] else ""
    return f"{after}{int(fields['bytes_in']):,} B in, {int(fields['bytes_out']):,} B out"


def _line(fields: Fields) -> str:
    return visible(fields.get("text", ""), 300)


def _reconnecting(fields: Fields) -> str:
    return f"attempt {visible(fields['attempt'], 20)} in {duration(fields['delay_s'] * 1e9)}"


def _note(fields: Fields) -> str:
    return visible(fields["text"], 2000)


def _only(key: str) -> Callable[[Fields], str]:
    return lambda fields: visible(fields[key], 300)


_PHRASES: dict[str, Callable[[Fields], str]] = {
    Event.CONNECTING: _only("to"),
    Event.CONNECTED: _connected,
    Event.SENT: _sent,
    Event.RECEIVED: _quoted,
    Event.REPLIED: _replied,
    Event.ERROR: _error,
    Event.LOST: _only("how"),
    Event.DONE: _only("outcome"),
    Event.CLOSED: _closed,
    Event.RECONNECTING: _reconnecting,
    Event.PROTOCOL_ERROR: _protocol_error,
    Event.STARTED: _started,
    Event.EXITED: _exited,
    Event.LISTENING: _listening,
    Event.INJECTED: _injected,
    Event.ENDED: _ended,
    Event.TRIGGERED: _triggered,
    Event.EFFECTIVE: _effective,
    Event.LINE: _line,
    Event.NOTE: _note,
    Event.ACCEPTED: _only("peer"),
}
"""Events whose fields read better than as `key=value`; any other event is shown that way."""
