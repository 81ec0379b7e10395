"""The key-value store: what it answered OK to is there after any death, if it has a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.store import Store, store_path


def test_entries_are_found_by_key_and_by_place() -> None:
    """The newest of a key, and every one in its order."""
    store = Store(None)
    said = [store.hear(line) for line in (b"SET a 1", b"SET b x y", b"SET a 2", b"GET a", b"GET b", b"GET c")]
    assert said == [b"OK", b"OK", b"OK", b"a 2", b"b x y", b"NONE"]
    assert [store.hear(b"SCAN %d" % n) for n in range(5)] == [b"END", b"a 1", b"b x y", b"a 2", b"END"]


@pytest.mark.parametrize(
    "line", [b"", b"SET", b"SET a", b"SET a ", b"GET", b"SCAN", b"SCAN x", b"SCAN -1", b"DEL a", b"\xff"]
)
def test_anything_else_is_answered_with_an_error(line: bytes) -> None:
    """One line for one line, whatever comes; and nothing is kept."""
    store = Store(None)
    assert store.hear(line).startswith(b"ERR")
    assert store.hear(b"SCAN 1") == b"END"


def test_what_was_acknowledged_outlives_the_process(tmp_path: Path) -> None:
    """Nothing is held back in the process: a second store opens the file while the first has not closed it."""
    first = Store(tmp_path / "kv")
    for n in range(50):
        assert first.hear(b"SET k%d v" % n) == b"OK"
    second = Store(tmp_path / "kv")
    assert [second.hear(b"SCAN %d" % (n + 1)) for n in range(51)] == [*(b"k%d v" % n for n in range(50)), b"END"]


@pytest.mark.parametrize("kept", range(len(b"a 1\nb 2\n") + 1))
def test_an_entry_that_was_cut_was_never_acknowledged_and_is_gone(tmp_path: Path, kept: int) -> None:
    """At any byte; and what is set next is not glued to it."""
    path = tmp_path / "kv"
    path.write_bytes(b"a 1\nb 2\n"[:kept])
    assert Store(path).hear(b"SET c 3") == b"OK"
    whole = [b"a 1", b"b 2"][: kept // 4]
    again = Store(path)
    assert [again.hear(b"SCAN %d" % (n + 1)) for n in range(4)][: len(whole) + 2] == [*whole, b"c 3", b"END"]


def test_each_run_and_host_has_a_file_of_its_own() -> None:
    """Entries of another run would be read back in this one."""
    one = store_path({"MIDSESSION_HEADER": '{"run": "r1", "host": "store"}'})
    assert one.name == "midsession-kv-r1-store.log"
    assert store_path({}).name == "midsession-kv.log"
