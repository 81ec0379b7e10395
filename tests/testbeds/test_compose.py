"""The compose testbed: who may come in, and the containers of `docker compose up` as a user runs them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from midsession import rundir
from midsession.agent.protocol import Hello, Records, encode
from midsession.core.logfile import LogState
from midsession.core.verdict import Status
from midsession.errors import EnvironmentLacks, HarnessError
from midsession.language import plans
from midsession.testbeds import compose
from midsession.testbeds.compose import ComposeTestbed
from tests.build import stored_verdict
from tests.waiting import eventually_here

ROOT = Path(__file__).parents[2]
KILL = ROOT / "scenarios/kill/server-dies-mid-session.scenario.yaml"
UP_S = 180


class Silence:
    """An inbox for runs in which nothing is said."""

    def records(self, batch: Records) -> None:
        raise AssertionError("nothing was subscribed")

    def gone(self, host: str, why: str) -> None:
        raise AssertionError(f"{host} is gone: {why}")


# --- who may come in -----------------------------------------------------------------------------------------------


def test_outside_a_project_it_says_how_to_run_it(tmp_path: Path) -> None:
    """Without the project's control volume there is nobody to attach to."""
    testbed = ComposeTestbed(token_file=tmp_path / "absent" / "token")
    with pytest.raises(EnvironmentLacks, match="make up"):
        asyncio.run(testbed.open(plans(KILL, 1)[0], "r", tmp_path, Silence()))


def test_a_project_without_the_service_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that the project's names do not know is named in the error."""
    monkeypatch.setattr(compose, "_replicas", lambda name: 0)
    testbed = ComposeTestbed(port=0, token_file=tmp_path / "token")

    async def main() -> None:
        try:
            await testbed.open(plans(KILL, 1)[0], "r", tmp_path, Silence())
        finally:
            await testbed.shut()

    with pytest.raises(EnvironmentLacks, match="no running service 'server'"):
        asyncio.run(main())


@pytest.mark.parametrize("token", ["", "0" * 64, "ä"])
def test_an_agent_without_the_token_is_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """Whoever dials in without the run's token is hung up on, and is no agent of the run."""
    monkeypatch.setattr(compose, "_replicas", lambda name: 1)
    monkeypatch.setattr(compose, "_AGENTS_S", 0.5)
    testbed = ComposeTestbed(port=0, token_file=tmp_path / "token")

    async def main() -> None:
        opening = asyncio.ensure_future(testbed.open(plans(KILL, 1)[0], "r", tmp_path, Silence()))
        try:
            await eventually_here(lambda: testbed.port, 20, "the testbed listens")
            reader, writer = await asyncio.open_connection("127.0.0.1", testbed.port)
            hello = Hello(token=token, service="server", hostname="x", addresses={}, clock="c", pid=1)
            writer.write(encode(hello) + b"\n")
            assert await reader.read() == b""
            writer.close()
            await opening
        finally:
            await testbed.shut()

    with pytest.raises(HarnessError, match="0 of 1 agents of server"):
        asyncio.run(main())
    assert not (tmp_path / "token").exists()


# --- real containers -----------------------------------------------------------------------------------------------


@dataclass
class Project:
    """A Compose project of our own: the shipped docker-compose.yml beside scenarios and runs of the test's."""

    directory: Path
    name: str

    def compose(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tools/compose"), "--project-directory", str(self.directory), "--project-name", self.name]
        return subprocess.run(
            [*command, *arguments], cwd=self.directory, env={**os.environ, "COMPOSE_MENU": "false", **environment},
            capture_output=True, text=True, timeout=UP_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def up(self, scenario: Path, *options: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(scenario, self.directory / "scenarios" / scenario.name)
        arguments = ("up", "--no-build", "--exit-code-from", "midsession", *options)
        return self.compose(*arguments, SCENARIO=f"scenarios/{scenario.name}")

    @property
    def run(self) -> Path:
        (directory,) = (self.directory / "runs").iterdir()
        return directory


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    for folder in ("scenarios", "runs"):
        (tmp_path / folder).mkdir()
    made = Project(tmp_path, f"midsession-test-{uuid.uuid4().hex[:8]}")
    yield made
    made.compose("down", "--volumes", "--timeout", "2")
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={made.name}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert left.stdout == ""


@pytest.mark.docker
def test_four_client_containers_lose_their_server_and_come_back(project: Project) -> None:
    """Exit 0, fifty clients over four containers, no acknowledged record of the killed server lost."""
    done = project.up(KILL, "--scale", "client=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crash        injected" in done.stdout
    told = json.loads((project.run / "run.json").read_text())
    clients = [host for host in told["hosts"] if host.startswith("client-")]
    assert len(clients) == 4
    assert len({told["hosts"][host]["address"] for host in clients}) == 4
    assert sorted(len(names) for names in told["placement"].values()) == [12, 12, 13, 13]
    files = rundir.read_files(project.run)
    killed = files["server.program.1.jsonl"]
    history = rundir.read_history(project.run)
    exited = history.events("exited").on("server").first
    assert exited is not None
    assert killed.state is LogState.CUT
    assert killed.size_bytes == exited.fields["event_bytes"]
    assert len(killed.records) > 500


@pytest.mark.docker
def test_a_false_scenario_fails_and_names_who_saw_what(project: Project) -> None:
    """The server stays down: exit 1, with the clients that were never connected again and what they saw instead."""
    text = KILL.read_text().replace("wait: 2s}\n    start: server", "wait: 2s}\n    note: nobody starts it")
    text = text.replace("since: return}\n    signal", "since: return}\n    signal").replace(
        "timeout: 60s", "timeout: 8s"
    )
    scenario = project.directory / "stays-down.scenario.yaml"
    scenario.write_text(text.replace("count: 50\n", "count: 5\n").replace("count: 500", "count: 50"))
    done = project.up(scenario)
    assert done.returncode == 1, done.stdout + done.stderr
    verdict = stored_verdict(project.run)
    (broken,) = [f for f in verdict.findings if f.check == "every" and "meets connected" in f.promise]
    assert broken.status is Status.FAIL
    assert len(broken.offenders) == 5
    assert "talkers-1" in done.stdout
    assert "refused" in done.stdout


@pytest.mark.docker
def test_a_typo_exits_4_with_place_and_remedy(project: Project) -> None:
    """Nothing is run; the place and the word that was meant are said."""
    scenario = project.directory / "typo.scenario.yaml"
    text = KILL.read_text().replace("    kill: server", "    kil: server")
    scenario.write_text(text)
    done = project.up(scenario)
    assert done.returncode == 4, done.stdout + done.stderr
    line = text.splitlines().index("    kil: server") + 1
    assert f"scenarios/typo.scenario.yaml:{line}:5: unknown" in done.stdout + done.stderr
    assert "did you mean 'kill'" in done.stdout + done.stderr
    assert not list((project.directory / "runs").iterdir())


# --- make up, by its script ----------------------------------------------------------------------------------------


@pytest.mark.docker
def test_an_interrupted_up_tells_the_end_and_takes_all_away() -> None:
    """Ctrl-C: Compose shows nothing more, the script does; exit code 2, and the project is gone."""
    process = subprocess.Popen(
        # As at a terminal: whoever runs these tests in the background has its children ignore the signal.
        ["env", "--default-signal=INT", "tools/engine", "tools/up"],
        cwd=ROOT, env={**os.environ, "SEED": "7", "SCENARIO": ""},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "took effect" in line:
            os.killpg(process.pid, signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=UP_S)
    assert process.returncode == 2, "".join(said) + rest
    verdict = next(line for line in rest.splitlines() if line.startswith("INTERRUPTED"))
    assert "The server is killed mid-session" in verdict
    directory = Path(rest.split("  run ", 1)[1].split()[0])
    assert (ROOT / directory / rundir.VERDICT).exists()
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"name=midsession-.*-{process.pid}-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert left.stdout == ""
