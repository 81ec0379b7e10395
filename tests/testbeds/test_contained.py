"""The netns testbed inside containers: where it works, and where it is refused with the option that allows it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from midsession.testbeds.docker.images import SERVER_IMAGE

ROOT = Path(__file__).parents[2]
IMAGE = SERVER_IMAGE.replace("midsession-server", "midsession")
LESSON = "/scenarios/lesson/server-dies.scenario.yaml"
SECCOMP, PATHS = "--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"
NO_NEW = "--security-opt=no-new-privileges"
PATIENCE_S = 120.0

pytestmark = pytest.mark.docker


def inside(options: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a container of its own image."""
    mounts = [f"--volume={ROOT / 'scenarios'}:/scenarios:ro", f"--volume={Path(__file__).parent}:/hostile:ro"]
    argv = ["docker", "run", "--rm", "--network=none", "--workdir=/tmp", *mounts, *options, IMAGE, *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([SECCOMP, PATHS], id="root"),
        pytest.param([SECCOMP, PATHS, "--user=1000:1000", "--cap-drop=ALL", NO_NEW], id="an ordinary user"),
        pytest.param([SECCOMP, PATHS, "--cap-drop=ALL", "--cap-add=SETFCAP"], id="root that may map itself"),
    ],
)
def test_runs_work_in_a_container_that_allows_namespaces(options: list[str]) -> None:
    """Two options are enough, for root and for an ordinary user without any privilege."""
    done = inside(options, "run", LESSON, "--testbed", "netns")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nPASS  The server dies" in done.stdout


@pytest.mark.parametrize(
    ("options", "step", "remedies"),
    [
        ([], "unshare: Operation not permitted", ["seccomp=unconfined", "systempaths=unconfined"]),
        ([SECCOMP], "mount proc: Operation not permitted", ["systempaths=unconfined"]),
        ([SECCOMP, PATHS, "--cap-drop=ALL"], "/proc/self/uid_map: Operation not permitted", ["--cap-add SETFCAP"]),
    ],
)
def test_a_container_that_forbids_them_is_told_what_allows_them(
    options: list[str], step: str, remedies: list[str]
) -> None:
    """Exit code 10 from the run (also from `auto`, where there is no engine) and from the doctor, with the same
    remedy, and no option that is given already."""
    run = inside(options, "run", LESSON)
    doctor = inside(options, "doctor", "--for", "netns")
    assert (run.returncode, doctor.returncode) == (10, 10)
    for said in (run.stderr, doctor.stdout):
        assert step in said
        assert all(remedy in said for remedy in remedies)
        assert ("seccomp=unconfined" in said) is (SECCOMP not in options)
    assert run.stderr.count("[no-namespaces]") == 1


HOSTILE = """
name: A hostile service
services:
  server: {command: [python3, /hostile/hostile.py, '%s'], port: 4000, ready: {line: create}}
clients:
  talkers: {count: 1, connect: server:4000, script: [end]}
checks:
  - exit: {service: server}
    code: 0
"""
PERFORM = """
printf '%s' "$1" > h.scenario.yaml
midsession run h.scenario.yaml --testbed netns >&2
cat runs/*/logs/server.*.stdout.log
"""


def test_an_ordinary_user_s_hostile_service_reaches_nothing() -> None:
    """The same attacks as on this machine: only the host's own /tmp takes a file. Its PID 1 is its own agent."""
    places = ["/etc/x", "/opt/x", "/var/tmp/x", "/run/x", "/dev/x", "/tmp/x"]
    scenario = HOSTILE % json.dumps({"write": places, "pid": 4194303, "abstract": "none"})
    done = inside([SECCOMP, PATHS, "--user=1000:1000", "--entrypoint=sh"], "-c", PERFORM, "sh", scenario)
    seen = json.loads(done.stdout)
    assert [attack for attack, outcome in seen.items() if outcome == "done"] == ["create /tmp/x"], done.stderr
    assert len(seen) == len(places) + 16
