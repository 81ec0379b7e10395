"""The name service of a world: the plan's hosts and nothing else, answered at once.

A name that is no host of the plan does not exist (NXDOMAIN) instead of running into a resolver's time-out, because no
packet leaves the world. Programs that read /etc/hosts never ask. Wire format: RFC 1035 §4.

A host says by an UPDATE (RFC 2136) at which of its addresses its name is to lead: the one record has that address, and
the message comes from one of the host's own, so that nobody can say it for another.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

_HEADER = struct.Struct("!6H")
_ANSWER = struct.Struct("!HHHIH4s")
_NAME_IS_THE_QUESTION_S = 0xC00C  # a pointer to byte 12, §4.1.4
_TYPE_A, _TYPE_ANY, _CLASS_IN = 1, 255, 1
_IS_RESPONSE, _IS_AUTHORITY, _RECURSION_WANTED, _RECURSION_HAD = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE, _UPDATE, _CODE = 0x7800, 0x2800, 0x000F
_TYPE_SOA = 6
_NO_ERROR, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 0, 3, 4
_TTL_S = 0
_AT = b"\0" + struct.pack("!HHIH", _TYPE_A, _CLASS_IN, _TTL_S, 4)
"""The record of an UPDATE, up to its address (§3.2.1)."""


class Names:
    """Where each host is. `hosts` maps names to the addresses that the host may have; it begins at the first."""

    def __init__(self, hosts: Mapping[str, Sequence[str]]) -> None:
        self._at = {name: addresses[0] for name, addresses in hosts.items()}
        self._whose = {address: name for name, addresses in hosts.items() for address in addresses}

    def respond(self, message: bytes, sender: str) -> bytes | None:
        """The response to one message from that address, see `answer`."""
        name, address = self._whose.get(sender), _updated(message)
        if name is not None and address is not None and self._whose.get(address) == name:
            self._at[name] = address
            return _HEADER.pack(_HEADER.unpack_from(message)[0], _IS_RESPONSE | _UPDATE | _NO_ERROR, 0, 0, 0, 0)
        return answer(message, self._at)


def query(name: str) -> bytes:
    """A query for the address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    return _HEADER.pack(0, _RECURSION_WANTED, 1, 0, 0, 0) + labels + struct.pack("!HH", _TYPE_A, _CLASS_IN)


def is_at(response: bytes, address: str) -> bool:
    """Whether a response says that a name has that address, and ends with that."""
    if len(response) < _HEADER.size:
        return False
    _, flags, _, answers, _, _ = _HEADER.unpack_from(response)
    says_so = response.endswith(struct.pack("!H", 4) + socket.inet_aton(address))
    return bool(flags & _IS_RESPONSE and not flags & _CODE and answers and says_so)


def update(address: str) -> bytes:
    """The message of a host that is to be found at that address. Its zone is the root (RFC 2136 §2.3), and so is the
    name of its record: whose it is, the sender's address says."""
    zone = b"\0" + struct.pack("!HH", _TYPE_SOA, _CLASS_IN)
    return _HEADER.pack(0, _UPDATE, 1, 0, 1, 0) + zone + _AT + socket.inet_aton(address)


def is_acknowledged(response: bytes) -> bool:
    """Whether that is a name service's consent to an UPDATE."""
    if len(response) < _HEADER.size:
        return False
    flags: int = _HEADER.unpack_from(response)[1]
    return flags & (_IS_RESPONSE | _OPCODE | _CODE) == _IS_RESPONSE | _UPDATE | _NO_ERROR


def _updated(message: bytes) -> str | None:
    """The address in an UPDATE of ours; None for any other message."""
    question = _question(message)
    if question is None or question[1] & _OPCODE != _UPDATE:
        return None
    record = message[question[-1] :]
    return socket.inet_ntoa(record[-4:]) if len(record) == len(_AT) + 4 and record.startswith(_AT) else None


def answer(query: bytes, hosts: Mapping[str, str]) -> bytes | None:
    """The response to one UDP query, or None for what is no query at all. Never raises on hostile bytes.

    `hosts` maps names (lower case, no dot at the end) to IPv4 addresses. A host asked for anything but its address has
    no such record (an empty answer, no error), as RFC 2308 §2.2 has it.
    """
    question = _question(query)
    if question is None:
        return None
    ident, flags, name, kind, end = question
    flags &= _OPCODE | _RECURSION_WANTED
    flags |= _IS_RESPONSE | _IS_AUTHORITY | _RECURSION_HAD
    if flags & _OPCODE:
        return _HEADER.pack(ident, flags | _NOT_IMPLEMENTED, 1, 0, 0, 0) + query[12:end]
    address = hosts.get(name.lower())
    code = _NO_SUCH_NAME if address is None else _NO_ERROR
    found = b""
    if address is not None and kind in (_TYPE_A, _TYPE_ANY):
        found = _ANSWER.pack(_NAME_IS_THE_QUESTION_S, _TYPE_A, _CLASS_IN, _TTL_S, 4, socket.inet_aton(address))
    return _HEADER.pack(ident, flags | code, 1, bool(found), 0, 0) + query[12:end] + found


def _question(query: bytes) -> tuple[int, int, str, int, int] | None:
    """(id, flags, name, type, where the question ends) of a query with one question; None for anything else."""
    if len(query) < _HEADER.size:
        return None
    ident, flags, questions, *_ = _HEADER.unpack_from(query)
    if flags & _IS_RESPONSE or questions != 1:
        return None
    labels, at = [], _HEADER.size
    while at < len(query) and (length := query[at]):
        if length > 63 or at + 1 + length > len(query):  # §2.3.4; compression has no place in a question
            return None
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    if at + 5 > len(query):
        return None
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return ident, flags, ".".join(labels), kind, at + 5
