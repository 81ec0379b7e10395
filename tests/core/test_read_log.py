"""Reading in bulk is only faster: it says exactly what the reader that goes line by line says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midsession.core.logfile import LogState, _read_in_bulk, _Reader, read_log
from tests.build import World


def a_file() -> bytes:
    """A client's log of a dozen records."""
    w = World(talkers=1)
    w.client("talkers-1").connects(0.1).talks(0.2).loses(0.3).is_refused(0.4).ends(0.5, "lost")
    return w.encoded()["client-1.program.1.jsonl"]


WHOLE = a_file()


def test_a_whole_file_and_every_cut_of_it_read_the_same_both_ways() -> None:
    """All prefixes: complete, cut at a line, torn within one, without a header."""
    seen = set()
    for length in range(len(WHOLE) + 1):
        file = _Reader(WHOLE[:length]).read()
        assert read_log(WHOLE[:length]) == file
        seen.add((file.state, len(file.records)))
    assert len(seen) > 10
    assert (LogState.COMPLETE, 12) in seen


def test_a_file_in_order_is_read_in_bulk() -> None:
    """The fast way is really taken, for a whole and for a torn file."""
    assert _read_in_bulk(WHOLE) == _Reader(WHOLE).read()
    assert _read_in_bulk(WHOLE[:-5]) == _Reader(WHOLE[:-5]).read()
    assert len(_Reader(WHOLE).read().records) == 12


@given(st.data())
def test_a_harmed_file_reads_the_same_both_ways(data: st.DataObject) -> None:
    """Lines dropped, doubled, moved; bytes replaced; something appended."""
    lines = WHOLE.splitlines(keepends=True)
    picked = data.draw(st.lists(st.sampled_from(lines), max_size=len(lines) + 2))
    harmed = bytearray(data.draw(st.sampled_from([WHOLE, b"".join(picked)])))
    for _ in range(data.draw(st.integers(0, 2)) if harmed else 0):
        harmed[data.draw(st.integers(0, len(harmed) - 1))] = data.draw(st.integers(0, 255))
    harmed += data.draw(st.binary(max_size=20))
    assert read_log(bytes(harmed)) == _Reader(bytes(harmed)).read()
