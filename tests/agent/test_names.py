"""The name service of a world, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midsession.agent.network.names import Names, answer, is_acknowledged, is_at, update
from midsession.agent.network.names import query as asking

HOSTS = {"server": "10.77.0.2", "db.local": "10.77.0.3"}


def query(name: str, kind: int = 1, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, flags, questions, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def parts(response: bytes | None) -> tuple[int, int, int, bytes]:
    """(id, code, answers, last four bytes)"""
    assert response is not None
    ident, flags, _, answers, _, _ = struct.unpack_from("!6H", response)
    assert flags & 0x8000
    return ident, flags & 15, answers, response[-4:]


@pytest.mark.parametrize(
    ("name", "address"),
    [("server", b"\x0a\x4d\0\2"), ("SERVER", b"\x0a\x4d\0\2"), ("db.local", b"\x0a\x4d\0\3")],
)
def test_a_host_has_its_address(name: str, address: bytes) -> None:
    """An A query for a host of the plan, in any case of letters, gets its address."""
    assert parts(answer(query(name), HOSTS)) == (7, 0, 1, address)


def test_who_looks_a_name_up_hears_where_it_is() -> None:
    """There and nowhere else; an answer without an address, or of another one, a cut one, or a query is none."""
    found = answer(asking("db.local"), HOSTS)
    assert found is not None
    assert is_at(found, "10.77.0.3")
    assert not is_at(found, "10.77.0.2")
    assert not any(is_at(found[:n], "10.77.0.3") for n in range(len(found)))
    assert not is_at(answer(asking("example.org"), HOSTS) or b"", "10.77.0.3")
    assert not is_at(answer(query("server", kind=28), HOSTS) or b"", "10.77.0.2")
    assert not is_at(asking("server") + b"\0\4\x0a\x4d\0\2", "10.77.0.2")


def test_any_other_name_does_not_exist() -> None:
    """NXDOMAIN at once, not a time-out."""
    assert parts(answer(query("example.org"), HOSTS))[:3] == (7, 3, 0)


def test_a_host_has_no_other_record() -> None:
    """An AAAA query for a host is no error, and has no answer."""
    assert parts(answer(query("server", kind=28), HOSTS))[:3] == (7, 0, 0)


def test_what_is_no_question_gets_no_answer() -> None:
    """Responses, queries with several questions and cut ones are dropped."""
    whole = query("server")
    assert answer(query("server", flags=0x8000), HOSTS) is None
    assert answer(query("server", questions=2), HOSTS) is None
    cuts = [answer(whole[:n], HOSTS) for n in range(len(whole))]
    assert len(cuts) == len(whole) > 20
    assert set(cuts) == {None}


def test_a_host_is_where_it_says() -> None:
    """Its name goes with it, there and back, from whichever of its addresses it says so; those of the others stay."""
    names = Names({"server": ["10.77.0.2", "10.77.4.2"], "spare": ["10.77.0.3", "10.77.4.3"]})
    assert parts(names.respond(query("server"), "10.77.0.3"))[3] == b"\x0a\x4d\0\2"
    for address, packed in (("10.77.4.2", b"\x0a\x4d\4\2"), ("10.77.0.2", b"\x0a\x4d\0\2")):
        response = names.respond(update(address), "10.77.4.2")
        assert response is not None
        assert is_acknowledged(response)
        assert parts(names.respond(query("server"), "10.77.0.3"))[3] == packed
        assert parts(names.respond(query("spare"), "10.77.0.3"))[3] == b"\x0a\x4d\0\3"


def test_an_update_from_or_to_elsewhere_is_not_acknowledged() -> None:
    """Nor is one that is cut; nor is an answer, or half a message, taken for a consent."""
    names = Names({"server": ["10.77.0.2", "10.77.4.2"]})
    for sender, address in (("10.77.9.9", "10.77.4.2"), ("10.77.9.9", "10.77.9.9"), ("10.77.4.2", "10.77.9.9")):
        refused = names.respond(update(address), sender)
        assert refused is not None
        assert not is_acknowledged(refused)
    whole = names.respond(update("10.77.4.2"), "10.77.4.2")
    assert whole is not None
    assert not any(is_acknowledged(whole[:n]) for n in range(len(whole)))
    assert not is_acknowledged(update("10.77.4.2"))
    cuts = [names.respond(update("10.77.4.2")[:-n], "10.77.4.2") for n in range(1, 16)]
    assert not any(is_acknowledged(response) for response in cuts if response is not None)
    assert not is_acknowledged(names.respond(query("server"), "10.77.0.2") or b"")


@given(st.binary(max_size=80))
def test_hostile_bytes_never_raise(data: bytes) -> None:
    """Whatever a program sends to port 53."""
    for response in (answer(data, HOSTS), Names({"server": ["10.77.0.2"]}).respond(data, "10.77.0.2")):
        assert response is None or response[:2] == data[:2]
