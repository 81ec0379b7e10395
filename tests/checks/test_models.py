"""The sequence models: the acknowledged is there, once, in order; what nobody knows is neither lost nor kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from midsession import language
from midsession.checks import build
from midsession.core.history import CannotTell
from midsession.core.plan import ClientPlan
from midsession.core.verdict import Finding, Status
from midsession.door import run
from tests.build import World

OK = dict.fromkeys(("w1", "w2", "w3"), True)


def written(writes: dict[str, bool | None], *found: str, reader: str = "ok", died: bool = False) -> World:
    """One writer's writes (False: acknowledged not, None: after the reading began), and what the reader found."""
    w = World(writers=1, readers=1)
    writer, seer = w.client("writers-1").connects(0.1), w.client("readers-1").connects(2.0)
    for n, (text, acknowledged) in enumerate(writes.items(), 1):
        at = 3.0 if acknowledged is None else 0.1 + n / 100
        writer.says("sent", at, n=n, text=f"PUT {text}\n", **{"as": "write"})
        if acknowledged is not False:
            writer.says("replied", at + 0.001, n=n, text="OK", rtt_ns=1, ok="write")
    if not died:
        writer.closes(4.0).ends(4.1)
    for n, text in enumerate(found, 1):
        seer.says("sent", 2.1 + n / 100, n=n, text=f"READ {n}\n", **{"as": "read"})
        seer.says("replied", 2.105 + n / 100, n=n, text=text, rtt_ns=1, ok="read")
    seer.closes(3.5).ends(3.6, reader)
    return w


def judged(w: World, kind: str, **of: Any) -> Finding:
    """The finding of one of the models."""
    args = {"of": "writers", "read_by": "readers", "matches": "w[0-9]+", **of}
    return build(kind, {kind: args}).judge(w.history())


# --- kept ---


def test_all_acknowledged_writes_read_back_is_a_pass() -> None:
    """The support is their number."""
    finding = judged(written(OK, "w1", "w2", "w3", "END"), "kept")
    assert (finding.status, finding.support) == (Status.PASS, 3)


def test_an_acknowledged_write_that_is_gone_is_lost_and_proven() -> None:
    """By the records of the write and of its acknowledgement, and that of the first question."""
    finding = judged(written(OK, "w1", "w3", "END"), "kept")
    assert (finding.status, finding.offenders) == (Status.FAIL, ["writers-1"])
    assert "2 of 3 acknowledged writes were read back; writers-1: w2 is gone" in finding.seen
    assert [r.fields.get("text") for r in finding.witnesses] == ["PUT w2\n", "OK", "READ 1\n"]


@pytest.mark.parametrize(("found", "there"), [(("w1", "END"), 0), (("w1", "w2", "END"), 1)])
def test_a_write_without_an_answer_is_neither_lost_nor_kept(found: tuple[str, ...], there: int) -> None:
    """`info`: both are right, and both are said."""
    finding = judged(written({"w1": True, "w2": False}, *found), "kept")
    assert (finding.status, finding.support) == (Status.PASS, 1)
    assert f"of 1 whose answer never came, {there} are there" in finding.seen
    assert finding.measures == {"acknowledged": 1, "lost": 0, "unknown": 1}


def test_a_write_that_was_acknowledged_during_the_reading_need_not_be_found() -> None:
    """Its place may have been asked for before."""
    finding = judged(written({"w1": True, "w2": None}, "w1", "END"), "kept")
    assert (finding.status, finding.support) == (Status.PASS, 1)
    assert "1 were acknowledged only after the reading began" in finding.seen
    assert judged(written({"w1": None}, "END w0"), "kept").status is Status.INCONCLUSIVE


def test_a_reader_that_did_not_come_to_its_end_proves_no_loss() -> None:
    """It might have found it yet; what it did find is found."""
    assert judged(written(OK, "w1", "w2", "w0", reader="lost"), "kept").status is Status.INCONCLUSIVE
    assert judged(written(OK, "w1", "w2", "w3", reader="lost"), "kept").status is Status.PASS


def test_what_nobody_asked_for_is_not_gone() -> None:
    """A reader that asks less often than writes were acknowledged has not looked for all of them."""
    finding = judged(written(OK, "w1", "w3"), "kept")
    assert finding.status is Status.INCONCLUSIVE
    assert finding.seen == (
        "2 of 3 acknowledged writes were read back; writers-1: w2 was not read; "
        "but readers asked twice, for 3 acknowledged writes"
    )
    assert judged(written(OK, "w1", "w3", "END"), "kept").status is Status.FAIL


def test_what_two_readers_ask_alike_is_one_question() -> None:
    """A second reader that asks for the same has not looked for more."""
    w = written(OK, "w1", "w3")
    w.groups[1] = msgspec.structs.replace(w.groups[1], clients=[*w.groups[1].clients, ClientPlan(2, 0.0, "00")])
    second = w.client("readers-2").connects(2.0)
    for n in (1, 2):
        second.says("sent", 2.1 + n / 100, n=n, text=f"READ {n}\n", **{"as": "read"})
        second.says("replied", 2.105 + n / 100, n=n, text="END", rtt_ns=1, ok="read")
    second.closes(3.5).ends(3.6)
    assert judged(w, "kept").status is Status.INCONCLUSIVE


def test_a_torn_log_may_hide_an_acknowledged_write() -> None:
    """So it cannot pass."""
    w = written(OK, "w1", "w2", "w3", died=True)
    w.fleet = "client-1"
    name = "client-1.program.1.jsonl"
    w.altered[name] = w.encoded()[name][:-40]
    finding = judged(w, "kept")
    assert finding.status is Status.INCONCLUSIVE
    assert name in finding.seen


@pytest.mark.parametrize(
    ("w", "why"),
    [
        (written({"w1": False}, "END w0"), "ever acknowledged; a write is a send `as: write`"),
        (written(OK), "read nothing; a read is a send `as: read`"),
        (written({"w1": True, "also w1": True}, "w1"), "are the same"),
        (written({"nothing": True}, "w1"), "holds nothing that"),
        (written({"w" + "1" * 130: True}, "w1"), "longer than the 128"),
    ],
)
@pytest.mark.parametrize("kind", ["kept", "once", "in_order"])
def test_a_model_without_its_ground_cannot_tell(w: World, why: str, kind: str) -> None:
    """The judge makes it inconclusive, with this reason."""
    with pytest.raises(CannotTell, match=why):
        judged(w, kind)


def test_the_item_is_the_first_group_or_the_match_or_the_text() -> None:
    """Three ways to say the same."""
    w = written({"w1": True}, "w1")
    assert judged(w, "kept", matches="(w1)$").status is Status.PASS
    assert judged(w, "kept", matches="w1").status is Status.PASS
    assert judged(written({"w1": True}, "PUT w1"), "kept", matches=None).status is Status.PASS
    assert judged(w, "kept", matches=None).status is Status.FAIL


def test_a_reader_that_marks_no_read_leaves_the_beginning_unknown() -> None:
    """It is said so, and not that the writes came too late."""
    w = World(writers=1, readers=1)
    writer, seer = w.client("writers-1").connects(0.1), w.client("readers-1").connects(2.0)
    writer.says("sent", 0.2, n=1, text="PUT w1\n", **{"as": "write"})
    writer.says("replied", 0.3, n=1, text="OK", rtt_ns=1, ok="write").closes(0.4).ends(0.5)
    seer.says("sent", 2.1, n=1, text="READ 1\n")
    seer.says("replied", 2.2, n=1, text="w1", rtt_ns=1, ok="read").closes(2.3).ends(2.4)
    with pytest.raises(CannotTell, match="nobody knows when the reading began"):
        judged(w, "kept")


# --- once, in_order ---


def test_once_fails_on_the_second_finding() -> None:
    """Also of a write that nobody acknowledged: done twice is done twice."""
    assert judged(written(OK, "w1", "w2", "w3", "END", "END"), "once").status is Status.PASS
    finding = judged(written({"w1": True, "w2": False}, "w1", "w2", "w2"), "once")
    assert (finding.status, finding.support, finding.offenders) == (Status.FAIL, 2, ["readers-1"])
    assert "readers-1: w2 twice" in finding.seen
    assert judged(written(OK, "w1", reader="gave_up"), "once").status is Status.INCONCLUSIVE


def test_order_is_that_of_the_sends_on_a_connection() -> None:
    """Gaps are no disorder; a swap is, and both writes are shown."""
    assert judged(written(OK, "w1", "w3", "END"), "in_order").status is Status.PASS
    finding = judged(written(OK, "w1", "w3", "w2"), "in_order")
    assert (finding.status, finding.support) == (Status.FAIL, 2)
    assert "readers-1 found w3 before w2" in finding.seen
    assert judged(written(OK, "w1", "w2", reader="lost"), "in_order").status is Status.INCONCLUSIVE


def test_between_connections_there_is_no_order() -> None:
    """A write that was tried again on a new connection may come to stand before or after."""
    w = written({"w1": True, "w2": True}, "w3", "w1", "w2")
    writer = w.client("writers-1").connects(0.5)
    writer.says("sent", 0.6, n=3, text="PUT w3\n", **{"as": "write"})
    writer.says("replied", 0.61, n=3, text="OK", rtt_ns=1, ok="write").closes(0.7)
    finding = judged(w, "in_order")
    assert (finding.status, finding.support) == (Status.PASS, 1)


# --- the whole way ---

SCENARIO = Path("scenarios/durability/acknowledged-writes-survive.scenario.yaml")


@pytest.mark.netns
def test_the_shipped_scenario_fails_on_a_store_that_forgets(tmp_path: Path) -> None:
    """The same crash, the same clients: a store without fsync-like durability loses what it said OK to."""
    text = SCENARIO.read_text()
    assert "behaviour: kv}" in text
    path = tmp_path / "forgets.scenario.yaml"
    path.write_text(text.replace("behaviour: kv}", "behaviour: kv_volatile}"))
    findings = run(path, testbed="netns", seed=3, runs=tmp_path / "runs").verdict.findings
    assert {f.check: f.status for f in findings if f.place and f.status is not Status.PASS} == {"kept": Status.FAIL}
    kept = next(f for f in findings if f.check == "kept")
    assert kept.measures["lost"] >= 50
    assert {r.event for r in kept.witnesses} == {"sent", "replied"}


@pytest.mark.netns
def test_the_shipped_scenario_passes_on_the_store_that_keeps(tmp_path: Path) -> None:
    """With every acknowledged write of all writers looked for."""
    findings = run(SCENARIO, testbed="netns", seed=3, runs=tmp_path / "runs").verdict.findings
    assert {f.status for f in findings} == {Status.PASS}
    assert {f.check: f.support for f in findings}["kept"] >= 480


FORGETFUL = """\
import socket
with socket.create_server(("", 4000)) as listening:
    held = {}
    while True:
        connection, _ = listening.accept()
        with connection, connection.makefile("r") as lines:
            for line in lines:
                verb, key, *value = line.split()
                if verb == "SET" and key != "k1":
                    held[key] = value[0]
                answer = "OK" if verb == "SET" else f"{key} {held.get(key, 'none')}"
                connection.sendall(f"{answer}\\n".encode())
"""
PIPELINED = """\
name: Two writes at once
timeout: 60s
services:
  server: {command: [python3, forgetful.py], files: [forgetful.py], port: 4000}
clients:
  writer:
    connect: server:4000
    script:
      - send: {line: SET k1 v1, as: write}
      - send: {line: SET k2 v2, as: write}
      - expect: {line: OK, ok: write, within: 30s}
      - expect: {line: OK, ok: write, within: 30s}
  reader:
    connect: server:4000
    script:
      - send: {line: GET k1, as: read}
      - expect: {glob: "*", ok: read, within: 30s}
      - send: {line: GET k2, as: read}
      - expect: {glob: "*", ok: read, within: 30s}
timeline:
  - when: {every: writer, event: done}
    run: reader
checks:
  - kept: {of: writer, read_by: reader, matches: "k. v."}
"""


@pytest.mark.netns
def test_a_pipelined_write_that_is_acknowledged_and_forgotten_is_lost(tmp_path: Path) -> None:
    """Two are sent before the first answer is read: each answer acknowledges its own."""
    path = tmp_path / "pipelined.scenario.yaml"
    path.write_text(PIPELINED)
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    kept = run(path, testbed="netns", seed=3, runs=tmp_path / "runs").verdict.findings[0]
    assert (kept.check, kept.status) == ("kept", Status.FAIL)
    assert kept.seen == "1 of 2 acknowledged writes were read back; writer-1: k1 v1 is gone"


def test_only_reads_and_writes_are_operations(tmp_path: Path) -> None:
    """A typo is refused where it stands."""
    path = tmp_path / "typo.scenario.yaml"
    path.write_text(SCENARIO.read_text().replace("as: write", "as: wirte"))
    with pytest.raises(Exception, match=r"did you mean 'write'\?.*unknown-word"):
        language.load(path)
