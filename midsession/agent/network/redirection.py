"""The rules that lead DNS queries for some names to a local port, whoever they are for. Pure.

A rule compares the name in the packet, byte by byte. A resolver may mix the case of its letters, as a guard against
forgery (draft-vixie-dnsext-dns0x20): the bit that makes that difference is not compared. Of a socket that its owner
uses for several queries, connection tracking sends all to where it sent the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

UNTOUCHED = 0x6D696473
"""The mark (SO_MARK) of a query that passes by, see `past_marked`."""

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,9}")
_QUESTION_BITS = 160
"""Where the question begins, behind the headers of UDP and DNS (8 and 12 bytes)."""
_PIECE = 16
"""The most bytes that one expression of nftables compares."""
_ALL, _BUT_FOR_CASE = 0xFF, 0xDF


def is_name(text: str) -> bool:
    """Whether a host can have that name, in lower case."""
    return _NAME.fullmatch(text) is not None


def redirection(table: str, names: Iterable[str], port: int, priority: int, past_marked: bool = False) -> str:
    """A chain of a table of the family `ip`, for names that `is_name` allows. `past_marked`: not for `UNTOUCHED`."""
    hook = f"type nat hook output priority {priority}; policy accept;"
    passing = f" meta mark {UNTOUCHED} accept;" if past_marked else ""
    rules = " ".join(f"udp dport 53 {_question(name)} redirect to :{port};" for name in names)
    return f"table {table} {{\nchain output {{ {hook}{passing} {rules} }}\n}}"


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
