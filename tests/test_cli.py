"""The command line keeps its word: exit codes, messages without tracebacks, the seed first and last."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from midsession import cli
from tests.build import World

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
ENDLESS = GOOD.replace("      - end\n", "      - wait: 50s\n      - end\n").replace("10s", "60s")


def process(*argv: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "midsession.cli", *map(str, argv)]
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
        with pytest.raises(SystemExit) as left:
            cli.main()
        for key in env:
            monkeypatch.delenv(key)
        return Said(int(str(left.value.code)), *capsys.readouterr())

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
        (True, "interrupted", 2, "INCONCLUSIVE"),
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
    words = [line.split()[1] for line in done.stdout.splitlines()[-4:-1]]
    assert words == ["pass", "fail", "pass"]
    assert done.stdout.splitlines()[-1] == "3 runs: 2 pass, 1 fail · seed 7"


@pytest.mark.netns
def test_an_interrupted_run_keeps_its_logs_and_exits_2(tmp_path: Path) -> None:
    """Ctrl-C: the run ends, is judged and reported, and the next is not begun."""
    for name in "ab":
        (tmp_path / f"{name}.scenario.yaml").write_text(ENDLESS)
    command = [sys.executable, "-m", "midsession.cli", "run", ".", "--testbed", "netns"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT}
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "begun" in line:
                break
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
        assert running.wait(timeout=20) == 2
    assert "2 runs: 1 interrupted, 1 not run" in rest
    [run] = (tmp_path / "runs").iterdir()
    assert (run / "report.html").exists()


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
