"""What proves a finding: its witness among the records around it, in an order and a size that a reader can take in."""

from __future__ import annotations

from midsession.core.history import History
from midsession.core.record import Event, Record
from midsession.core.verdict import Finding, Status
from midsession.report.evidence import AROUND, OFFENDERS, WITNESSES, FindingView, finding_views
from tests.build import EPOCH_NS, World

MANY = 30


def chatter() -> World:
    """A client that is answered once a second, another that says nothing, and a server that is killed in between."""
    w = World(talkers=2).step("crash", at=10.5)
    client = w.client("talkers-1").connects(at=0.1)
    for n in range(1, MANY):
        client.says("replied", at=float(n), n=n, rtt_ns=1, text="x")
    return w


def replies(history: History) -> list[Record]:
    return list(history.events(Event.REPLIED))


def shown(history: History, *findings: Finding) -> list[FindingView]:
    return finding_views(history, findings, EPOCH_NS)


def broken(*witnesses: Record, offenders: tuple[str, ...] = (), status: Status = Status.FAIL) -> Finding:
    """A finding with these witnesses."""
    return Finding(
        check="every", status=status, promise="p", seen="s", support=1, witnesses=[*witnesses], offenders=[*offenders]
    )


def test_a_witness_stands_among_its_own_records_and_those_of_the_world() -> None:
    """As many before it as after it, in their order, counted from the start; and only the witness is pointed at."""
    history = chatter().history()
    witness = replies(history)[12]
    [view] = shown(history, broken(witness))
    [evidence] = view.evidence
    instants = [entry.t_ns for entry in evidence.entries]
    assert evidence.title == "around talkers-1"
    assert len(instants) == 2 * AROUND + 1
    assert instants == sorted(instants)
    assert [entry.t_ns for entry in evidence.entries if entry.chosen] == [witness.t_ns - EPOCH_NS] == [13_000_000_000]
    assert evidence.entries[AROUND].chosen
    assert {entry.who for entry in evidence.entries} >= {"talkers-1 #1"}


def test_the_first_and_the_last_record_have_neighbours_on_one_side() -> None:
    """A witness at either end of what is known."""
    history = chatter().history()
    for witness, after in ((replies(history)[0], True), (replies(history)[-1], False)):
        [view] = shown(history, broken(witness))
        entries = view.evidence[0].entries
        chosen = next(number for number, entry in enumerate(entries) if entry.chosen)
        assert (len(entries) - chosen - 1 >= AROUND) is after


def test_clients_bear_witness_before_those_who_saw_nothing_and_before_hosts() -> None:
    """What a client saw says most; an offender that is no observer (a step, a file) saw nothing."""
    history = chatter().history()
    killed = next(iter(history.events(Event.INJECTED)))
    [view] = shown(history, broken(killed, replies(history)[0], offenders=("talkers-2", "crash", "talkers-1")))
    assert [e.title for e in view.evidence] == ["around talkers-1", "what talkers-2 saw last", "around server"]
    assert not any(entry.chosen for entry in view.evidence[1].entries)


def test_a_kept_promise_shows_no_offender() -> None:
    """Whoever is named there did nothing wrong."""
    history = chatter().history()
    [view] = shown(history, broken(offenders=("talkers-2",), status=Status.PASS))
    assert view.evidence == []


def test_many_witnesses_and_offenders_are_cut() -> None:
    """The first of each, and how many there were."""
    history = chatter().history()
    offenders = tuple(f"talkers-{n}" for n in range(OFFENDERS + 7))
    [view] = shown(history, broken(*replies(history), offenders=offenders))
    assert len(replies(history)) > WITNESSES
    assert len(view.evidence) == WITNESSES
    assert (view.offenders, view.offenders_count) == (list(offenders[:OFFENDERS]), OFFENDERS + 7)


def test_the_worst_comes_first_and_of_two_alike_what_the_scenario_asked_for() -> None:
    """The verdict has the scenario's own checks first, in the order of the plan."""
    w = chatter()
    w.check("never", event="lost")
    history = w.history()
    own, other = broken(status=Status.INCONCLUSIVE), broken(status=Status.INCONCLUSIVE)
    views = shown(history, own, other, broken(status=Status.PASS), broken(), broken(status=Status.ERROR))
    assert [view.status for view in views] == ["error", "fail", "inconclusive", "inconclusive", "pass"]
    assert [view.own for view in views] == [False, False, True, False, False]


def test_what_a_record_says_is_cut_where_others_stand_around_it() -> None:
    """An account of a failure is told whole beside its finding."""
    w = chatter().conducts("note", at=13.1, text="why " * 100, problem=True)
    history = w.history()
    [view] = shown(history, broken(replies(history)[12]))
    [note] = [entry for entry in view.evidence[0].entries if entry.event == "note"]
    assert note.text.startswith("why why")
    assert note.text.endswith("…")
    assert len(note.text) < 200
