"""A stored run can be read and judged again by anybody, and a broken one says what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from midsession import rundir
from midsession.core.verdict import Status
from tests.build import World, stored_verdict


def stored(directory: Path, **run: object) -> World:
    """A run directory of a run in which the server was killed and both talkers noticed."""
    w = World(talkers=2).step("crash", at=1.0)
    for number in (1, 2):
        w.client(f"talkers-{number}").connects(0.1).talks(0.2).loses(1.01).ends(1.1, "lost")
    w.check("every", every="talkers", meets="lost", since="crash", within_s=1.0)
    w.check("never", never={"event": "protocol_error"})
    (directory / "events").mkdir()
    (directory / "plan.json").write_bytes(w.plan.to_json())
    (directory / "run.json").write_bytes(msgspec.json.encode({"run": "run-1", **run}))
    for name, data in w.encoded().items():
        (directory / "events" / name).write_bytes(data)
    return w


def test_a_stored_run_is_the_run(tmp_path: Path) -> None:
    """The history read back is the one that was written."""
    w = stored(tmp_path)
    history = rundir.read_history(tmp_path)
    assert list(history) == list(w.history())
    assert history.plan == w.plan
    assert len(history) > 15


def test_judging_a_stored_run_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    """`check RUN` can be repeated, and writing the verdict changes nothing."""
    stored(tmp_path)
    verdict = rundir.judge_run(tmp_path)
    assert verdict.status is Status.PASS
    path = rundir.write_verdict(tmp_path, verdict)
    first = path.read_bytes()
    rundir.write_verdict(tmp_path, rundir.judge_run(tmp_path))
    assert path.read_bytes() == first == rundir.encode_verdict(stored_verdict(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events", "plan.json", "run.json", "verdict.json"]


def test_a_host_of_which_nothing_came_back_is_missed(tmp_path: Path) -> None:
    """run.json names the hosts that took part."""
    stored(tmp_path, hosts={"server": {}, "client-1": {}, "client-2": {}})
    assert [gap.file for gap in rundir.read_history(tmp_path).gaps] == ["client-2.agent.1.jsonl"]
    assert rundir.judge_run(tmp_path).status is Status.INCONCLUSIVE


def test_logs_that_are_all_of_another_run_of_the_same_plan_are_strangers(tmp_path: Path) -> None:
    """They are whole and agree among themselves; run.json knows better."""
    stored(tmp_path)
    assert rundir.judge_run(tmp_path).status is Status.PASS
    (tmp_path / "run.json").write_bytes(msgspec.json.encode({"run": "run-2"}))
    verdict = rundir.judge_run(tmp_path)
    assert verdict.status is Status.INCONCLUSIVE
    (logs,) = (f for f in verdict.findings if f.check == "logs")
    assert logs.offenders == sorted(path.name for path in (tmp_path / "events").iterdir())
    assert "belongs to the run run-1, not to run-2" in logs.seen


def test_problems_of_the_harness_make_a_stored_run_an_error(tmp_path: Path) -> None:
    """Also those that came after the last log was closed."""
    stored(tmp_path, problems=["close: a container is left"])
    assert rundir.judge_run(tmp_path).status is Status.ERROR


def test_a_problem_outlives_its_run_json(tmp_path: Path) -> None:
    """The conductor's log says it too."""
    w = stored(tmp_path)
    w.conducts("note", 1.2, text="the agent of server is gone", problem=True)
    (tmp_path / "run.json").unlink()
    for name, data in w.encoded().items():
        (tmp_path / "events" / name).write_bytes(data)
    verdict = rundir.judge_run(tmp_path)
    (harness,) = [f for f in verdict.findings if f.check == "harness"]
    assert (verdict.status, harness.seen) == (Status.ERROR, "the agent of server is gone")


def test_a_log_whose_name_is_no_text_is_a_gap_that_can_be_written_down(tmp_path: Path) -> None:
    """File names are bytes, verdicts are UTF-8."""
    stored(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path / "events") + b"/\xff.jsonl")).write_bytes(b"{}")
    verdict = rundir.judge_run(tmp_path)
    assert verdict.status is Status.INCONCLUSIVE
    rundir.write_verdict(tmp_path, verdict)
    assert any(r"\xff.jsonl" in f.offenders for f in stored_verdict(tmp_path).findings)


@pytest.mark.parametrize("name", ["plan.json", "run.json", "events/server.agent.1.jsonl"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path, name: str) -> None:
    """A FIFO without a writer would be read for ever."""
    stored(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(rundir.NotARun, match="not a regular file"):
        rundir.judge_run(tmp_path)


def test_a_deleted_log_is_a_gap_and_not_a_crash(tmp_path: Path) -> None:
    """The verdict says which."""
    stored(tmp_path)
    (tmp_path / "events" / "client-1.program.1.jsonl").unlink()
    verdict = rundir.judge_run(tmp_path)
    assert verdict.status is Status.INCONCLUSIVE
    assert any("client-1.program.1.jsonl" in f.seen for f in verdict.findings)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda d: (d / "plan.json").unlink(), "plan.json"),
        (lambda d: (d / "plan.json").write_bytes(b"{"), "plan.json"),
        (lambda d: (d / "plan.json").write_bytes(b'{"name": "\xff"}'), "plan.json"),
        (lambda d: (d / "run.json").write_bytes(b"[]"), "run.json"),
        (lambda d: (d / "run.json").write_bytes(b'{"problems": 7}'), "run.json"),
        (lambda d: (d / "run.json").write_bytes(b'{"versions": 7}'), "run.json"),
        (lambda d: (d / "run.json").write_bytes(b'{"hosts": {"server": 7}}'), "run.json"),
        (lambda d: (d / "events").rename(d / "elsewhere"), "events"),
    ],
)
def test_what_is_no_run_is_refused_with_the_file_and_a_remedy(tmp_path: Path, harm: object, says: str) -> None:
    """No traceback: the file, what is wrong, what to do."""
    stored(tmp_path)
    assert callable(harm)
    harm(tmp_path)
    with pytest.raises(rundir.NotARun, match=says) as caught:
        rundir.judge_run(tmp_path)
    assert caught.value.exit_code == 4
    assert "[not-a-run]" in str(caught.value)


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A mistyped path."""
    with pytest.raises(rundir.NotARun, match="No such file"):
        rundir.read_history(tmp_path / "nowhere")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """When the new one cannot be put in place, the old one stays."""
    target = tmp_path / "verdict.json"
    target.write_bytes(b"old")
    (tmp_path / "verdict.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        rundir.write_whole(target, b"new")
    assert target.read_bytes() == b"old"
