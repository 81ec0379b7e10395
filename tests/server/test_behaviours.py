"""The behaviours as transcripts: what came in, which commands came out. No sockets."""

from __future__ import annotations

import pytest

from server.behaviours import BEHAVIOURS, NONSENSE, REPLY, Finish, Say, Tell

PEER = "10.0.0.7:50123"


@pytest.mark.parametrize(
    ("name", "greeting", "answer"),
    [
        ("greet", (Say(f"Hello {PEER}, I hear you 👋\n".encode()), Finish()), ()),
        ("reply", (), (Say(REPLY),)),
        ("echo", (), (Say(b"hi"),)),
        ("chat", (), (Tell(b"hi\n"),)),
        ("sink", (), ()),
        ("silent", (), ()),
        ("nonsense", (Say(NONSENSE),), (Say(NONSENSE),)),
    ],
)
def test_each_behaviour_greets_and_answers_as_it_says(name: str, greeting: object, answer: object) -> None:
    """A behaviour's commands follow from the bytes alone."""
    behaviour = BEHAVIOURS[name]
    assert (behaviour.greet(PEER), behaviour.hear(b"hi")) == (greeting, answer)


def test_a_store_begins_anew_with_each_process_that_forgets() -> None:
    """`ready` is asked once per process, and answers with lines."""
    first, second = (BEHAVIOURS["kv_volatile"].ready() for _ in range(2))
    assert first.hear(b"SET a 1") == (Say(b"OK\n"),)
    assert (first.hear(b"GET a"), second.hear(b"GET a")) == ((Say(b"a 1\n"),), (Say(b"NONE\n"),))
    assert BEHAVIOURS["reply"].ready() is BEHAVIOURS["reply"]


def test_only_the_silent_server_is_deaf() -> None:
    """Whoever is deaf can notice nothing, so there is one such behaviour and no more."""
    assert [name for name, behaviour in BEHAVIOURS.items() if behaviour.deaf] == ["silent"]


def test_nonsense_is_no_text() -> None:
    """No expectation of text can be met by it, whatever comes before or after."""
    with pytest.raises(UnicodeDecodeError):
        NONSENSE.decode()
