"""The command line keeps its word: exit codes, messages without tracebacks, the seed first and last."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from midsession import cli
from tests.build import World
from tests.spoilt import WAYS
from tests.spoilt import python as spoilt_python
from tests.waiting import eventually

ROOT = str(Path(__file__).parent.parent)

GOOD = """\
name: One word
timeout: 10s
services: {server: {reference: {behaviour: reply}, port: 4000}}
clients:
  talker:
    count: 1
    connect: server:4000
    script:
      - send: {line: Hi}
      - expect: {line: "Got your message ✅", within: 2s}
      - end
checks:
  - every: talker
    meets: replied
    within: 5s
"""
BROKEN = GOOD.replace("name: One word", "name: Nobody waits").replace("meets: replied", "meets: gave_up")
TYPO = GOOD.replace("- send:", "- sned:")
SOMETIMES_LATE = (
    GOOD.replace("One word", "Sometimes late")
    .replace("- send:", "- wait: 0ms..3s\n      - send:")
    .replace("within: 5s", "within: 2s")
)
ENDLESS = GOOD.replace("      - end\n", "      - wait: 50s\n      - end\n").replace("10s", "60s")


def process(*argv: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "midsession", *map(str, argv)]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": ROOT, **env}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def midsession(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command in this process, which is quicker: for what runs nothing."""

    def command(*argv: object, cwd: Path, **env: str) -> Said:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["midsession", *map(str, argv)])
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        code = cli.carry_out()
        for key in env:
            monkeypatch.delenv(key)
        return Said(code, *capsys.readouterr())

    return command


Command = Callable[..., Said]


def stored(directory: Path, kept: bool = True, why: str = "done") -> Path:
    """A run directory, of a run in which both talkers noticed the crash, or one did not."""
    w = World(talkers=2).step("crash", at=1.0)
    w.why = why
    w.client("talkers-1").connects(0.1).talks(0.2).loses(1.01).ends(1.1, "lost")
    w.client("talkers-2").connects(0.1).talks(0.2).loses(1.01 if kept else 9.0).ends(9.1, "lost")
    w.check("every", every="talkers", meets="lost", since="crash", within_s=1.0)
    (directory / "events").mkdir(parents=True)
    (directory / "plan.json").write_bytes(w.plan.to_json())
    facts = {"run": "run-1", "testbed": "netns", "why_ended": why}
    (directory / "run.json").write_bytes(msgspec.json.encode(facts))
    for name, data in w.encoded().items():
        (directory / "events" / name).write_bytes(data)
    return directory


# --- without running anything --------------------------------------------------------------------------------------


def test_help_names_every_command_and_exit_code(midsession: Command, tmp_path: Path) -> None:
    """And imports neither the language nor a testbed for it."""
    done = midsession("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("run", "plan", "check", "report", "validate", "schema", "doctor", "list", "11 inconclusive"):
        assert word in " ".join(done.stdout.split())
    code = "import midsession.cli, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "yaml", "jinja2", "asyncio", "midsession.language", "midsession.door"} & set(loaded)


@pytest.mark.parametrize("command", ["run", "validate", "plan", "list"])
def test_a_typo_exits_4_with_place_caret_and_remedy(midsession: Command, tmp_path: Path, command: str) -> None:
    """In every command that reads scenarios; no traceback."""
    (tmp_path / "typo.scenario.yaml").write_text(TYPO)
    done = midsession(command, "typo.scenario.yaml", cwd=tmp_path)
    assert done.returncode == 4
    assert re.search(r"^typo\.scenario\.yaml:9:9: .*sned.*send", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_every_wrong_file_is_named_at_once(midsession: Command, tmp_path: Path) -> None:
    """`validate` of a folder says all, and how many."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.scenario.yaml").write_text(TYPO)
    (tmp_path / "c.scenario.yaml").write_text(GOOD)
    done = midsession("validate", ".", cwd=tmp_path)
    assert done.returncode == 4
    assert "✓ c.scenario.yaml: 1 plan" in done.stdout
    assert "2 files of 3" in done.stderr


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["run", "missing.scenario.yaml"], 4),
        (["run", "good.scenario.yaml", "--testbed", "moon"], 4),
        (["run", "good.scenario.yaml", "-k", "(good"], 4),
        (["run", "good.scenario.yaml", "-k", "other"], 5),
        (["run", "good.scenario.yaml", "-t", "other"], 5),
        (["run", "empty"], 5),
        (["list", "empty"], 5),
        (["validate", "empty"], 5),
        (["plan", "good.scenario.yaml", "-k", "other"], 5),
        (["run", "good.scenario.yaml", "--repeat", "0"], 4),
        (["run", "good.scenario.yaml", "-n", "0"], 4),
        (["run", "good.scenario.yaml", "--for", "10"], 4),
        (["run", "good.scenario.yaml", "--for", "0s"], 4),
        (["run", "good.scenario.yaml", "--keep", "sometimes"], 4),
        (["run"], 4),
        (["fly"], 4),
        (["run", "good.scenario.yaml", "--seed", "many"], 4),
        (["check", "empty"], 4),
        (["report", "good.scenario.yaml"], 4),
        (["doctor", "--for", "moon"], 4),
    ],
)
def test_wrong_usage_has_its_exit_code(midsession: Command, tmp_path: Path, argv: list[str], code: int) -> None:
    """One line or two that say what is wrong, and never a traceback."""
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    (tmp_path / "empty").mkdir()
    done = midsession(*argv, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_hostile_name_reaches_no_terminal(midsession: Command, tmp_path: Path) -> None:
    """Also in messages about it."""
    done = midsession("validate", "\x1b]0;owned\x07.yaml", cwd=tmp_path)
    assert done.returncode == 4
    assert "\x1b" not in done.stderr


def test_the_same_seed_prints_the_same_plan(midsession: Command, tmp_path: Path) -> None:
    """Byte for byte, and another seed another one."""
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    first, again = (midsession("plan", "good.scenario.yaml", "--seed", 7, cwd=tmp_path).stdout for _ in "ab")
    assert first == again
    assert json.loads(first)["seed"] == 7
    assert midsession("plan", "good.scenario.yaml", "--seed", 8, cwd=tmp_path).stdout != first
    assert json.loads(midsession("plan", "good.scenario.yaml", cwd=tmp_path, MIDSESSION_SEED="9").stdout)["seed"] == 9


def test_list_names_each_plan(midsession: Command, tmp_path: Path) -> None:
    """For people in lines, for programs in JSON."""
    matrix = GOOD.replace("services:", "matrix: {n: [1, 2]}\ntags: [small]\nservices:").replace(
        "count: 1", "count: ${{ matrix.n }}"
    )
    (tmp_path / "good.scenario.yaml").write_text(matrix)
    lines = midsession("list", ".", cwd=tmp_path).stdout.splitlines()
    assert lines == [f"good.scenario.yaml[n={n}]  One word  (small)" for n in (1, 2)]
    listed = json.loads(midsession("list", ".", "--json", "-k", "[n=2]", cwd=tmp_path).stdout)
    assert [(one["id"], one["clients"], one["tags"]) for one in listed] == [("good.scenario.yaml[n=2]", 2, ["small"])]


def test_init_writes_no_file_over_another(midsession: Command, tmp_path: Path) -> None:
    """Nor where none can be."""
    (tmp_path / "mine.scenario.yaml").write_text(GOOD)
    done = midsession("init", "mine.scenario.yaml", cwd=tmp_path)
    assert done.returncode == 4
    assert "[file-exists]" in done.stderr
    assert (tmp_path / "mine.scenario.yaml").read_text() == GOOD
    (tmp_path / "file").touch()
    for path, said in (
        ("gone/mine.scenario.yaml", "No such file or directory; make its folder first"),
        ("file/mine.scenario.yaml", "Not a directory; name a file in a writable folder"),
    ):
        done = midsession("init", path, cwd=tmp_path)
        assert done.returncode == 4
        assert done.stderr == f"{path} cannot be written: {said}  [not-writable]\n"


@pytest.mark.netns
def test_the_first_scenario_runs_as_it_is(midsession: Command, tmp_path: Path) -> None:
    """What `init` says to type passes, and each of its checks can fail."""
    told = midsession("init", "my first.scenario.yaml", cwd=tmp_path)
    assert told.returncode == 0
    [command] = re.findall(r"^  midsession (run .*)$", told.stdout, re.MULTILINE)
    done = process(*shlex.split(command), "--testbed", "netns", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    [run] = (tmp_path / "runs").iterdir()
    assert midsession("audit", run, cwd=tmp_path).returncode == 0


def test_schema_prints_a_json_schema(midsession: Command, tmp_path: Path) -> None:
    """The one that editors use."""
    assert "properties" in json.loads(midsession("schema", cwd=tmp_path).stdout)


# --- stored runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "why", "code", "word"),
    [
        (True, "done", 0, "PASS"),
        (False, "done", 1, "FAIL"),
        (True, "timeout", 11, "INCONCLUSIVE"),
        (True, "interrupted", 2, "INTERRUPTED"),
        (True, "error", 3, "ERROR"),
    ],
)
def test_check_exits_with_the_verdict_and_writes_nothing(
    midsession: Command, tmp_path: Path, kept: bool, why: str, code: int, word: str
) -> None:
    """A stored run is judged again; what is told last is the verdict, the seed and the replay command."""
    before = sorted(stored(tmp_path / "run", kept, why).rglob("*"))
    done = midsession("check", "run", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert re.search(rf"^{word}  a world .* seed 7$", done.stdout, re.MULTILINE)
    assert "again  midsession run x.scenario.yaml --testbed netns --seed 7" in done.stdout
    assert sorted((tmp_path / "run").rglob("*")) == before


OTHER_CHECKS = """\
checks:
  - every: talkers
    meets: lost
    since: crash
    within: 5ms
  - never: {event: gave_up}
"""


def test_a_stored_run_can_be_judged_by_other_checks(midsession: Command, tmp_path: Path) -> None:
    """A tighter bound fails where the run's own passed, at its place in that file; nothing is written."""
    before = sorted(stored(tmp_path / "run").rglob("*"))
    (tmp_path / "other.yaml").write_text(OTHER_CHECKS)
    assert midsession("check", "run", cwd=tmp_path).returncode == 0
    done = midsession("check", "run", "--checks", "other.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "✗ every client of talkers meets lost within 0.005 s of crash" in done.stdout
    assert "    other.yaml:2:5" in done.stdout
    assert "✓ never gave_up" in done.stdout
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (OTHER_CHECKS.replace("talkers", "talker"), [(2, 12, "unknown-group", "did you mean 'talkers'")]),
        (OTHER_CHECKS.replace("since: crash", "since: crush"), [(4, 12, "unknown-step", "did you mean 'crash'")]),
        (OTHER_CHECKS.replace("5ms", "5"), [(5, 13, "missing-unit", "has no unit")]),
        (OTHER_CHECKS.replace("never", "nevr"), [(6, 5, "unknown-check", "did you mean 'never'")]),
        (OTHER_CHECKS.replace("gave_up", "gave_up, of: servr"), [(6, 33, "unknown-subject", "'server'")]),
        (OTHER_CHECKS.replace("gave_up", "gave_up, until: crsh"), [(6, 36, "unknown-step", "did you mean 'crash'")]),
        (OTHER_CHECKS.replace("checks:", "check:"), [(1, 1, "unknown-key", ""), (1, 1, "missing-key", "'checks'")]),
        ("checks: []", [(1, 9, "out-of-range", "at least 1")]),
        ("- never: {event: gave_up}", [(1, 1, "wrong-type", "expected a mapping")]),
        ("checks:\n  - {python: gone.py::f}", [(2, 14, "unreadable", "No such file")]),
        ("checks: ${{ matrix.x }}", [(1, 9, "variable", "")]),
    ],
)
def test_wrong_checks_are_told_with_their_place(
    midsession: Command, tmp_path: Path, text: str, problems: list[tuple[int, int, str, str]]
) -> None:
    """The same sentences as in a scenario, in the file that they stand in; exit 4."""
    stored(tmp_path / "run")
    (tmp_path / "other.yaml").write_text(text)
    done = midsession("check", "run", "--checks", "other.yaml", cwd=tmp_path)
    assert done.returncode == 4
    lines = [line for line in done.stderr.splitlines() if line.startswith("other.yaml:")]
    for line, (row, column, slug, said) in zip(lines, problems, strict=True):
        assert line.startswith(f"other.yaml:{row}:{column}: ")
        assert f"[{slug}]" in line
        assert said in line


def test_a_broken_promise_names_who_broke_it(midsession: Command, tmp_path: Path) -> None:
    """The client, its place in the scenario, and the records around."""
    stored(tmp_path / "run", kept=False)
    out = midsession("check", "run", cwd=tmp_path).stdout
    assert "✗ every client of talkers meets lost" in out
    assert "not kept by talkers-2" in out
    assert "x.scenario.yaml:20:5" in out


def test_report_writes_everything_anew_whatever_the_verdict(midsession: Command, tmp_path: Path) -> None:
    """Verdict, page, JUnit, summary; the exit code says that it worked."""
    stored(tmp_path / "run", kept=False)
    done = midsession("report", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"verdict.json", "report.html", "junit.xml", "summary.md"} <= written


def test_a_directory_that_cannot_be_written_is_an_error_without_traceback(midsession: Command, tmp_path: Path) -> None:
    """What the operating system says, and exit 3."""
    run = stored(tmp_path / "run")
    (run / "verdict.json").mkdir()
    done = midsession("report", "run", cwd=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "verdict.json" in done.stderr


# --- real runs -----------------------------------------------------------------------------------------------------


@pytest.mark.netns
def test_a_run_passes_with_the_seed_first_and_last(tmp_path: Path) -> None:
    """Exit 0, a run directory with everything in it, plain lines."""
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    done = process("run", "good.scenario.yaml", "--testbed", "netns", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    seed = re.fullmatch(r"midsession \S+ · seed (\d+)", lines[0])
    assert seed
    assert lines[-4].startswith("PASS")
    assert lines[-1].endswith(f"--seed {seed[1]}")
    assert "\x1b" not in done.stdout
    [run] = (tmp_path / "runs").iterdir()
    assert {"plan.json", "run.json", "verdict.json", "report.html", "junit.xml", "summary.md"} <= set(os.listdir(run))


@pytest.mark.netns
def test_of_several_runs_the_worst_decides(tmp_path: Path) -> None:
    """A table at the end, one line for each, and exit 1 for the one that failed."""
    for name, text in (("a", GOOD), ("b", BROKEN), ("c", GOOD)):
        (tmp_path / f"{name}.scenario.yaml").write_text(text)
    done = process("run", ".", "--testbed", "netns", "--seed", 7, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    words = [line.split()[1] for line in done.stdout.splitlines()[-5:-2]]
    assert words == ["pass", "fail", "pass"]
    assert done.stdout.splitlines()[-1] == "3 runs: 2 pass, 1 fail · seed 7"
    [batch] = (tmp_path / "runs").glob("*-batch-*")
    assert {path.name for path in batch.iterdir()} == {"summary.md", "junit.xml", "batch.json"}


def interrupted(folder: Path, at: str, within_s: float, *options: str) -> str:
    """Run a folder, press Ctrl-C once a line says `at`, and see it exit with 2. Returns what it said from there on."""
    command = [sys.executable, "-m", "midsession", "run", ".", "--testbed", "netns", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": ROOT}
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if at in line:
                break
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
        assert running.wait(timeout=within_s) == 2
    return rest


@pytest.mark.netns
def test_an_interrupted_run_keeps_its_logs_and_exits_2(tmp_path: Path) -> None:
    """Ctrl-C: the run ends, is judged and reported, and the next is not begun."""
    for name in "ab":
        (tmp_path / f"{name}.scenario.yaml").write_text(ENDLESS)
    rest = interrupted(tmp_path, "begun", 20)
    assert "2 runs: 1 interrupted, 1 not run" in rest
    [run] = (tmp_path / "runs").glob("*-one-word-*")
    assert (run / "report.html").exists()


def test_a_flaky_scenario_fails_and_says_how_flaky_it_is(tmp_path: Path) -> None:
    """Its draws decide: the rate, its interval, the first seed that fails; the command that is told fails again. Only
    what did not pass is kept."""
    (tmp_path / "late.scenario.yaml").write_text(SOMETIMES_LATE)
    options = ["--testbed", "netns", "--seed", 7, "--repeat", 4, "-n", 2, "--runs", "my runs"]
    done = process("run", "late.scenario.yaml", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ flaky        late.scenario.yaml  3 of 4 passed, 75 % (95 % interval 30.1 % to 95.4 %)" in done.stdout
    assert "4 runs: 3 pass, 1 fail · 1 flaky plan · seed 7" in done.stdout
    again = re.findall(r"^    again  midsession (.*)$", done.stdout, re.MULTILINE)
    assert len(again) == 1
    assert "--runs 'my runs'" in again[0]
    assert len(list((tmp_path / "my runs").glob("*-sometimes-late-*"))) == 1
    assert process(*shlex.split(again[0]), cwd=tmp_path).returncode == 1


@pytest.mark.netns
def test_runs_in_worker_processes_are_told_in_order(tmp_path: Path) -> None:
    """Two at once give the same account, words and exit code as one after the other, and no directory is shared."""
    slow = GOOD.replace("      - end\n", "      - wait: 1s\n      - end\n")
    for name, text in (("a", slow), ("b", BROKEN), ("c", GOOD), ("d", GOOD)):
        (tmp_path / f"{name}.scenario.yaml").write_text(text)
    both = [process("run", ".", "--testbed", "netns", "--seed", 7, "-n", jobs, cwd=tmp_path) for jobs in (1, 2)]
    assert [done.returncode for done in both] == [1, 1], both[1].stderr
    heads = [re.findall(r"^(?:\w+  .* · seed 7|  seed 7 .*)$", done.stdout, re.MULTILINE) for done in both]
    assert len(heads[0]) == 8
    assert [re.sub(r"[\d.]+ m?s", "", line) for line in heads[1]] == [re.sub(r"[\d.]+ m?s", "", x) for x in heads[0]]
    assert both[1].stdout.splitlines()[-1] == both[0].stdout.splitlines()[-1] == "4 runs: 3 pass, 1 fail · seed 7"
    assert len(list((tmp_path / "runs").glob("*/plan.json"))) == 8


@pytest.mark.netns
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_repetition_ends_with_what_it_has(tmp_path: Path, jobs: int) -> None:
    """Ctrl-C between or in runs: exit 2, the rate of the runs that were made, the reports."""
    (tmp_path / "a.scenario.yaml").write_text(GOOD.replace("      - end\n", "      - wait: 300ms\n      - end\n"))
    rest = interrupted(tmp_path, "#3", 30, "--for", "10m", "-n", str(jobs), "--seed", "7")
    assert re.search(r"([3-9]) of \1 passed, 100 % \(95 % interval ", rest)
    assert rest.rstrip().endswith("· seed 7 · interrupted")
    [batch] = (tmp_path / "runs").glob("*-batch-*")
    assert json.loads((batch / "batch.json").read_bytes())["interrupted"] is True


@pytest.mark.netns
def test_a_worker_that_is_killed_cannot_pass(tmp_path: Path) -> None:
    """Its run is an error, exit 3; what other workers made is told."""
    for name, text in (("a", ENDLESS), ("b", GOOD), ("c", GOOD)):
        (tmp_path / f"{name}.scenario.yaml").write_text(text)
    command = [sys.executable, "-m", "midsession", "run", ".", "--testbed", "netns", "-n", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
    ) as running:
        os.kill(worker_of(running.pid, tmp_path / "runs"), signal.SIGKILL)
        said, wrong = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "[worker-died]" in wrong
    assert "3 runs: 2 pass, 1 error" in said


def worker_of(command: int, runs: Path) -> int:
    """The worker that holds the endless run's conductor log open, once it is in the middle of it."""
    what = f"a worker in the middle of a run in {runs}"
    return eventually(lambda: next(_in_the_middle(command), None), 30, what)


def _in_the_middle(command: int) -> Iterator[int]:
    for child in Path(f"/proc/{command}/task/{command}/children").read_text().split():
        with suppress(OSError):
            targets = [os.readlink(fd) for fd in Path(f"/proc/{child}/fd").iterdir()]
            logs = [Path(t) for t in targets if t.endswith("conductor.conductor.1.jsonl")]
            if any(b"50" in (log.parents[1] / "plan.json").read_bytes() for log in logs if begun(log)):
                yield int(child)


def begun(log: Path) -> bool:
    return b'"event":"begun"' in log.read_bytes()


def test_the_compose_project_serves_one_run_at_a_time(midsession: Command, tmp_path: Path) -> None:
    """`-n` is refused there, before anything starts."""
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    done = midsession("run", "good.scenario.yaml", "--testbed", "compose", "-n", 2, cwd=tmp_path)
    assert done.returncode == 4
    assert "[one-at-a-time]" in done.stderr


def test_what_is_missing_is_said_with_the_remedy(tmp_path: Path) -> None:
    """Outside a Compose project the compose testbed says so, exit 10."""
    if Path("/control").is_dir():
        pytest.skip("this is inside a Compose project")
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    done = process("run", "good.scenario.yaml", "--testbed", "compose", cwd=tmp_path)
    assert done.returncode == 10
    assert "make up" in done.stderr
    assert "not-in-compose" in done.stderr


def test_audit_names_the_checks_that_cannot_fail(tmp_path: Path, midsession: Command) -> None:
    """Exit 0 when every check has failed over a spoilt run, 1 with the place of one that has not."""
    run = stored(tmp_path / "run")
    good = midsession("audit", run, cwd=tmp_path)
    assert good.returncode == 0
    assert "✓ every client of talkers meets lost within 1 s of crash\n    fails without any lost: 0 of 2" in good.stdout
    plan = msgspec.json.decode((run / "plan.json").read_bytes())
    plan["checks"] = [{"kind": "count", "args": {"count": {"event": "lost"}, "at_least": 0}, "place": "x.yaml:3:5"}]
    (run / "plan.json").write_bytes(msgspec.json.encode(plan))
    bad = midsession("audit", run, cwd=tmp_path)
    assert bad.returncode == 1
    assert "✗ lost: any number of times\n    x.yaml:3:5: it passes in all of" in bad.stdout
    assert bad.stderr == "1 check of 1 cannot fail\n"


@pytest.mark.netns
def test_audit_without_faults_runs_the_scenario_with_nothing_broken(tmp_path: Path, midsession: Command) -> None:
    """The checks of a kill do not pass without it; a check that would pass anyway is found out."""
    for check, code in (("every: talkers\n    meets: lost\n    since: crash", 0), ("never: {event: gave_up}", 1)):
        (tmp_path / "x.scenario.yaml").write_text(KILLED.replace("CHECK", check))
        run = midsession("run", "x.scenario.yaml", "--testbed", "netns", cwd=tmp_path)
        assert run.returncode == 0, run.stdout
        directory = next(line.split()[1] for line in run.stdout.splitlines() if line.split()[:1] == ["run"])
        audited = midsession("audit", "--without-faults", directory, cwd=tmp_path)
        assert audited.returncode == code
        assert "without its faults (" in audited.stdout
        assert ("every check passes without its faults too" in audited.stderr) == bool(code)


KILLED = """\
name: killed
timeout: 5s
services: {server: {reference: reply, port: 4000}}
clients:
  talkers:
    connect: server:4000
    script: [{send: {line: Hi}}, {expect: {line: "Got your message ✅"}}, {wait: 2s}, end]
timeline: [{id: crash, when: {event: replied}, kill: server}]
checks:
  - CHECK
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streams", [(1,), (2,), (1, 2)])
def test_a_spoilt_stream_makes_no_verdict(tmp_path: Path, way: str, streams: tuple[int, ...]) -> None:
    """What nobody can be told is in the exit code all the same; a full disk under it is an error, never "a check
    failed"."""
    (tmp_path / "good.scenario.yaml").write_text(GOOD)
    (tmp_path / "typo.scenario.yaml").write_text(TYPO)
    cannot_tell = {3} if way == "full" and 1 in streams else set()
    good = "good.scenario.yaml"
    told = {("validate", good): {0}, ("run", "typo.scenario.yaml"): {4}, ("run", good, "--testbed", "netns"): {0}}
    for argv, codes in told.items():
        with spoilt_python(["-m", "midsession", *argv], way, streams, cwd=tmp_path) as program:
            assert program.wait(60) in codes | cannot_tell, argv
