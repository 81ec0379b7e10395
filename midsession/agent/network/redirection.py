"""The rules that lead DNS queries for some names to a local socket, and its answers back as if from elsewhere. Pure.

Each packet is judged by itself, and connection tracking sees none of them: it would lead whatever comes later from the
same port to where the first query went, also queries for other names, also when the rules are gone.

A rule compares the name in the packet, byte by byte. A resolver may mix the case of its letters, as a guard against
forgery (draft-vixie-dnsext-dns0x20): the bit that makes that difference is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

UNTOUCHED = 0x6D696473
"""The mark (SO_MARK) of a query that passes by, see `past_marked`."""
FIRST, SECOND = -312, -311
"""Priorities: which of two redirections sees a query first. Both come before connection tracking (-200)."""

QUERIES = "queries"
"""The chain that leads queries to the socket."""

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,9}")
_QUESTION_BITS = 160
"""Where the question begins, behind the headers of UDP and DNS (8 and 12 bytes)."""
_PIECE = 16
"""The most bytes that one expression of nftables compares."""
_ALL, _BUT_FOR_CASE = 0xFF, 0xDF


def is_name(text: str) -> bool:
    """Whether a host can have that name, in lower case."""
    return _NAME.fullmatch(text) is not None


def redirection(
    table: str, names: Iterable[str], service: str, port: int, priority: int, past_marked: bool = False
) -> str:
    """Two chains of a table of the family `ip`: queries to the name service at `service`, for names that `is_name`
    allows, go to that port of 127.0.0.1. `past_marked`: but for those marked `UNTOUCHED`."""
    asked = f"ip daddr {service} udp dport 53 " + f"meta mark != {UNTOUCHED} " * past_marked
    there = f"notrack ip daddr set 127.0.0.1 udp dport set {port} accept"
    back = f"ip saddr 127.0.0.1 udp sport {port} notrack ip saddr set {service} udp sport set 53 accept"
    queries = " ".join(f"{asked}{_question(name)} {there};" for name in names)
    return "\n".join([
        f"table {table} {{",
        f"chain {QUERIES} {{ type route hook output priority {priority}; policy accept; {queries} }}",
        f"chain answers {{ type filter hook output priority {priority}; policy accept; {back}; }}",
        "}",
    ])  # fmt: skip


def _question(name: str) -> str:
    """What compares a packet's question with a name: its labels, each behind its length, and the closing zero."""
    wanted = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    mask = bytes(_BUT_FOR_CASE if chr(byte).isalpha() else _ALL for byte in wanted)
    masked = bytes(a & b for a, b in zip(wanted, mask, strict=True))
    return " ".join(
        f"@th,{_QUESTION_BITS + 8 * at},{8 * len(piece)} & 0x{mask[at : at + _PIECE].hex()} == 0x{piece.hex()}"
        for at in range(0, len(masked), _PIECE)
        if (piece := masked[at : at + _PIECE])
    )
