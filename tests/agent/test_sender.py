"""Datagrams that are too long for their link: cut as a kernel would have cut them."""

from __future__ import annotations

import errno

import pytest

from midsession.agent.network.sender import Sender, pieces

MORE, DONT = 0x2000, 0x4000


def datagram(size: int, flags: int = 0, number: int = 7) -> bytes:
    """An IP packet of that size, its payload numbered, so that no piece is like another."""
    head = bytes([0x45, 0]) + size.to_bytes(2, "big") + number.to_bytes(2, "big") + flags.to_bytes(2, "big")
    payload = b"".join(n.to_bytes(4, "big") for n in range(size // 4))
    return head + bytes([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]) + payload[: size - 20]


@pytest.mark.parametrize(("size", "mtu"), [(4028, 1500), (1501, 1500), (65535, 1500), (2000, 68), (3000, 1400)])
def test_the_pieces_make_up_the_datagram(size: int, mtu: int) -> None:
    """Each is short enough, says its own length and its place, and the last one alone says that no more come."""
    whole = datagram(size)
    cut = list(pieces(whole, mtu))
    assert len(cut) > 1
    found = bytearray(size - 20)
    for piece in cut:
        assert len(piece) == int.from_bytes(piece[2:4], "big") <= mtu
        assert piece[:2] + piece[4:6] + piece[8:20] == whole[:2] + whole[4:6] + whole[8:20]
        at = 8 * (int.from_bytes(piece[6:8], "big") & 0x1FFF)
        found[at : at + len(piece) - 20] = piece[20:]
        assert bool(int.from_bytes(piece[6:8], "big") & MORE) == (piece is not cut[-1])
    assert bytes(found) == whole[20:]


def test_a_fragment_is_cut_further_and_stays_in_its_place() -> None:
    """What came behind it still does."""
    cut = [int.from_bytes(piece[6:8], "big") for piece in pieces(datagram(1500, MORE | 100), 1000)]
    assert cut == [MORE | 100, MORE | 100 + 976 // 8]


def test_the_pieces_of_one_datagram_bear_one_number() -> None:
    """A number of 0 asks the kernel for a fresh one, for each packet that it is given."""
    assert {piece[4:6] for piece in pieces(datagram(4028, number=0), 1500)} == {b"\xff\xff"}


@pytest.mark.parametrize("whole", [datagram(4028, DONT), bytes([0x46]) + datagram(4028)[1:]])
def test_what_must_not_be_cut_is_not(whole: bytes) -> None:
    """Don't fragment; and options, of which only some go into every piece."""
    with pytest.raises(ValueError, match="cannot be cut"):
        list(pieces(whole, 1500))


class Road:
    """A raw socket whose link has an MTU and, it may be, a fault of its own; keeps what was sent."""

    def __init__(self, mtu: int = 1500, fails: int = 0) -> None:
        self.sent: list[bytes] = []
        self._mtu, self._fails = mtu, fails

    def sendto(self, packet: bytes, _peer: object) -> None:
        if self._fails or len(packet) > self._mtu:
            raise OSError(self._fails or errno.EMSGSIZE, "no")
        self.sent.append(packet)


@pytest.mark.parametrize(
    ("road", "packet", "sent", "unsent"),
    [
        (Road(), datagram(100), 1, 0),
        (Road(1000), datagram(2000), 3, 0),
        (Road(1000), datagram(2000, DONT), 0, 1),
        (Road(100), datagram(2000), 0, 1),
        (Road(fails=errno.ENOBUFS), datagram(100), 0, 1),
        (Road(fails=errno.EPERM), datagram(100), 0, 0),
        (Road(fails=errno.ENETDOWN), datagram(100), 0, 0),
    ],
)
def test_what_cannot_be_sent_is_counted(
    monkeypatch: pytest.MonkeyPatch, road: Road, packet: bytes, sent: int, unsent: int
) -> None:
    """But for what another fault takes: its own counter tells, or its link is down."""
    monkeypatch.setattr("midsession.agent.network.sender.raw_socket", lambda _mark: road)
    monkeypatch.setattr("midsession.agent.network.sender.mtu_to", lambda _address: 1000)
    sender = Sender(1)
    sender.send(packet)
    assert (len(road.sent), sender.unsent) == (sent, unsent)
