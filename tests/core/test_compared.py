"""How events differ from what a test expects is told with who and when."""

from __future__ import annotations

import pytest

from tests.build import World


@pytest.fixture
def world() -> World:
    """Two of three clients lose their server, each in its own way."""
    w = World(talkers=3)
    w.client("talkers-1").connects(0.1).loses(1.0, how="eof").ends(1.1, "lost")
    w.client("talkers-2").connects(0.2).loses(1.5, how="reset").ends(1.6, "lost")
    return w


def test_a_sequence_is_equal_to_a_list_of_its_words(world: World) -> None:
    """Events alone, or with fields; order counts."""
    losses = world.history().events("lost")
    assert losses.sequence() == ["lost", "lost"]
    assert losses.sequence("how") == [("lost", "eof"), ("lost", "reset")]
    assert losses.sequence("how") != [("lost", "reset"), ("lost", "eof")]
    assert losses.sequence() != "lost"
    assert losses.client("talkers-3").sequence() == []


def test_a_sequence_says_what_is_missing_and_what_is_too_much(world: World) -> None:
    """With two neighbours for orientation."""
    sequence = world.history().events("connected", "lost", "done").client("talkers-2").sequence()
    assert sequence.difference(["connected", "gave_up", "done"]) == [
        "3 events, where 3 were expected (- missing, + not expected):",
        "  connected  talkers-2 #1 at 0.200 s",
        "- gave_up",
        "+ lost  talkers-2 #1 at 1.500 s",
        "  done  talkers-2 at 1.600 s",
    ]
    assert sequence.difference(3) == ["3 events are not equal to a int"]


def test_a_long_sequence_is_compared_as_far_as_helps() -> None:
    """From the first difference on, and not for minutes; what was not compared is said."""
    w = World(talkers=1)
    client = w.client("talkers-1").connects(0.1)
    for n in range(3000):
        client.says("sent", 0.2 + n / 1000, n=n).says("replied", 0.2005 + n / 1000, n=n)
    sequence = w.history().events("sent", "replied").sequence("n")
    expected = list(sequence)
    del expected[2501]
    told = sequence.difference(expected)
    assert [line.partition("  talkers-1")[0] for line in told[1:]] == [
        "  ('replied', 1249)",
        "  ('sent', 1250)",
        "+ ('replied', 1250)",
        "  ('sent', 1251)",
        "  ('replied', 1251)",
        f"… not compared: {6000 - 2501 - 400} events after these",
    ]


def test_counts_are_equal_to_a_dict(world: World) -> None:
    """By event, or by the value of a field."""
    history = world.history()
    assert history.events("lost", "done").counts() == {"lost": 2, "done": 2}
    assert history.events("lost").counts("how") == {"eof": 1, "reset": 1}
    assert history.events("lost").counts("how").difference({"eof": 1, "refused": 2}) == [
        "the counts differ:",
        "reset: 1, expected 0; the first: talkers-2 #1 at 1.500 s",
        "refused: 0, expected 2",
    ]


def test_a_selection_names_the_records_that_were_not_expected(world: World) -> None:
    """Most often none were."""
    assert world.history().events("lost").difference([]) == [
        "2 records, where 0 were expected:",
        "+ lost  talkers-1 #1 at 1.000 s",
        "+ lost  talkers-2 #1 at 1.500 s",
    ]


def test_a_long_difference_is_cut(world: World) -> None:
    """A thousand lines would help nobody."""
    lines = world.history().events("lost").sequence().difference([f"word {n}" for n in range(1000)])
    assert len(lines) == 32
    assert lines[-1] == "… and 972 lines more"
