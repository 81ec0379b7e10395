"""What users of the command line meet early: a service that does not start, a full disk, a reader that goes away."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from midsession.ledger import cannot_write

ROOT = Path(__file__).parents[1]
LESSON = ROOT / "scenarios/lesson/server-dies.scenario.yaml"
CROWD = ROOT / "scenarios/kill/server-dies-mid-session.scenario.yaml"
RUN = [sys.executable, "-m", "midsession", "run", "--testbed", "netns", "--runs"]
PATIENCE_S = 60.0

pytestmark = pytest.mark.netns

SERVICE = """
name: A service of mine
timeout: 20s
services:
  server:
    command: {argv}
    port: 4000
{more}clients:
  talkers: {{count: 1, connect: server:4000, script: [end]}}
checks:
  - never: {{event: protocol_error}}
"""

LISTENS = "import signal, socket; one = socket.create_server({}); signal.pause()"


def scenario(folder: Path, argv: list[str], more: str = "") -> Path:
    """A scenario with a command of the user's as its service."""
    path = folder / "mine.scenario.yaml"
    path.write_text(SERVICE.format(argv=json.dumps(argv), more=more))
    return path


def perform(path: Path, runs: Path, *prefix: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *RUN, str(runs), *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False)


def only(runs: Path) -> Path:
    """The directory of the one run."""
    (directory,) = runs.iterdir()
    return directory


def verdict(runs: Path) -> str:
    """The word of the one run, as it is stored."""
    return str(json.loads((only(runs) / "verdict.json").read_text())["status"])


@pytest.mark.parametrize(
    ("argv", "more", "words"),
    [
        (
            [sys.executable, "-c", "import sys; print('loading'); sys.exit('no configuration')"],
            "",
            "exited with code 1 before it was ready (ready: it listens on port 4000); its last lines: loading ⏎ no",
        ),
        (
            [sys.executable, "-c", "import signal; print('hm', flush=True); signal.pause()"],
            "    ready: {line: Serving, within: 1s}\n",
            "it was not ready (ready: a line of its output that holds 'Serving') within 1 s; its last lines: hm;",
        ),
        (
            [sys.executable, "-c", LISTENS.format(("127.0.0.1", 4000))],
            "    ready: {within: 1s}\n",
            "within 1 s, and listens on 127.0.0.1:4000, where no other host reaches it; it said nothing; let it listen",
        ),
        (
            [sys.executable, "-c", LISTENS.format(("", 5000))],
            "    ready: {within: 1s}\n",
            "and listens on 0.0.0.0:5000; it said nothing; let it listen on port 4000,",
        ),
        (["no-such-program"], "", "server did not come up: cannot start 'no-such-program'"),
    ],
)
def test_a_service_that_does_not_come_up_says_why(tmp_path: Path, argv: list[str], more: str, words: str) -> None:
    """An error that names the service, what was waited for, its last lines and what to do; in the verdict too."""
    done = perform(scenario(tmp_path, argv, more), tmp_path / "runs")
    assert done.returncode == 3
    assert words in done.stdout
    assert "[service-not-up]" in done.stdout
    stored = json.loads((only(tmp_path / "runs") / "verdict.json").read_text())
    assert stored["status"] == "error"
    assert any(words in finding["seen"] for finding in stored["findings"])


def test_a_service_runs_in_its_folder_wherever_that_is(tmp_path: Path) -> None:
    """Also in /tmp, which is each host's own, and though the run was started somewhere else. (Its client ends with its
    connection, and that with the server's process: nothing stops it before it has exited.)"""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/server.py").write_text(
        "import os, socket\none = socket.create_server(('', 4000)).accept()[0]\none.recv(1)\nos._exit(0)"
    )
    path = scenario(tmp_path, [sys.executable, "server.py"], "    cwd: mine\n")
    path.write_text(path.read_text() + "  - exit: {service: server}\n    code: 0\n")
    done = perform(path, tmp_path / "runs")
    assert done.returncode == 0, done.stdout


def test_what_the_machine_lacks_is_said_once_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit code 10, one message, no directory without a verdict."""
    image = scenario(tmp_path, ["true"])
    image.write_text(image.read_text().replace('command: ["true"]', "image: redis"))
    done = perform(image, tmp_path / "runs")
    assert done.returncode == 10
    assert (done.stdout + done.stderr).count("[service-kind]") == 1
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_reader_that_goes_away_loses_the_account_and_not_the_verdict(tmp_path: Path) -> None:
    """`midsession run … | head -1`: the run goes on to its verdict, which is the exit code."""
    with subprocess.Popen([*RUN, str(tmp_path / "runs"), str(LESSON)], stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
    assert verdict(tmp_path / "runs") == "pass"


def test_an_interrupted_run_says_so_in_its_last_lines(tmp_path: Path) -> None:
    """Not the word of its verdict, which nobody has asked for."""
    command = [*RUN, str(tmp_path / "runs"), str(CROWD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " of 50 connected" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) == 2
    assert "\nINTERRUPTED  The server is killed mid-session" in rest


def in_small_disk(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run where the folder for the runs has room for 64 KiB; what is in it at the end is listed."""
    runs = folder / "runs"
    runs.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs "$1" && shift && "$@"; code=$?; ls -R "$0"; exit $code'
    namespace = ["unshare", "--user", "--map-root-user", "--mount"] if os.geteuid() else ["unshare", "--mount"]
    return perform(CROWD, runs, *namespace, "sh", "-c", script, str(runs), str(runs), options=options)


def test_a_full_disk_is_an_error_that_says_where(tmp_path: Path) -> None:
    """M6: a run directory of 64 KiB. No traceback, no file that is half written, nothing that passes."""
    done = in_small_disk(tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 3
    assert f"{tmp_path / 'runs'}" in said
    assert "cannot be written: No space left on device; free some space there" in said
    assert "[run-directory]" in said
    assert "Traceback" not in said
    assert ".new" not in said
    assert "PASS" not in said


def test_repeated_runs_on_a_full_disk_are_told_with_place_and_remedy(tmp_path: Path) -> None:
    """Their reports have no room either, and the sums are told nevertheless."""
    done = in_small_disk(tmp_path, "--repeat", "2")
    assert done.returncode == 3
    assert re.search(r"^\d runs?: .*error · seed \d+$", done.stdout, re.MULTILINE), done.stdout
    assert f"{tmp_path / 'runs'} cannot be written: No space left on device; free some space there" in done.stderr


@pytest.mark.parametrize(
    ("error", "remedy"),
    [("EACCES", "choose a writable folder"), ("EROFS", "choose a writable folder"), ("EIO", "name another folder")],
)
def test_a_folder_that_may_not_be_written_wants_no_space(error: str, remedy: str) -> None:
    """The remedy fits what the kernel said."""
    said = str(cannot_write(Path("runs"), OSError(getattr(errno, error), "…")))
    assert said == f"runs cannot be written: …; {remedy} with --runs  [run-directory]"


def allowed(files: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a lesson where no process may have more files open."""
    few = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    return perform(ROOT / "scenarios/lesson/both-directions-at-once.scenario.yaml", folder / str(files), *few)


@pytest.mark.parametrize("files", [20, 64])
def test_too_few_open_files_are_told_before_the_run_with_the_number_that_does(tmp_path: Path, files: int) -> None:
    """As many as the message says are enough."""
    done = allowed(files, tmp_path)
    assert done.returncode == 10, done.stdout + done.stderr
    [enough] = re.findall(rf"and may have {files}; allow more: ulimit -n (\d+)  \[open-files\]", done.stderr)
    again = allowed(int(enough), tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr


def test_too_few_open_files_for_any_run_are_told_so(tmp_path: Path) -> None:
    """Before the plan's own number can be known."""
    done = allowed(8, tmp_path)
    assert done.returncode == 10
    assert "Too many open files; allow more: ulimit -n 1024  [open-files]" in done.stderr


def test_a_client_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    """As with a service: which client, why, and what to mend."""
    path = scenario(tmp_path, [sys.executable, "-m", "http.server", "4000"])
    path.write_text(path.read_text().replace("{count: 1, connect: server:4000, script: [end]}", "{command: [nowhere]}"))
    done = perform(path, tmp_path / "runs")
    assert done.returncode == 3
    assert "talkers-1 did not come up: cannot start 'nowhere'" in done.stdout + done.stderr
    assert "mend its command in the scenario  [service-not-up]" in done.stdout + done.stderr
