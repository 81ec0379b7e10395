"""A host of containers comes to another address, and everybody who looks its name up finds it there, and back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.language import plans
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.guides import Guides
from tests.faults.test_contract import MOVED
from tests.testbeds.test_docker_file import IMAGE, SERVER, python
from tests.testbeds.test_docker_warm import project

pytestmark = pytest.mark.docker

SCENARIOS = Path(__file__).parents[2] / "scenarios" / "faults"
ASKER = """\
import os, socket, sys, time
before = None
names = sys.argv[1:] or [os.environ["MIDSESSION_HOST"]]
until = time.monotonic() + float(os.environ.get("FOR_S", "3600"))
while time.monotonic() < until:
    try:
        addresses = [socket.gethostbyname(name) for name in names]
        socket.create_connection((addresses[0], 4000), timeout=0.2).close()
    except OSError as error:
        addresses = [type(error).__name__]
    if addresses != before:
        before = addresses
        print("found", *addresses, flush=True)
    time.sleep(0.01)
"""
"""Says where it finds its names, whenever that changes, once the first of them was connected to there."""
TIMELINE: list[dict[str, Any]] = [
    {"id": "move", "when": {"log": {"service": "asker", "contains": "found"}}, "readdress": "app"},
    {"id": "over", "when": {"after": "move", "wait": "1s"}, "heal": "move"},
    {"when": {"after": "over", "wait": "1s"}, "signal": "goodbye"},
]
OWN_CLIENTS = {"connect": "app:4000", "script": [{"wait": {"signal": "goodbye"}}, "abort"]}


def perform(folder: Path, scenario: dict[str, Any] | str) -> Run:
    path = folder / "move.scenario.yaml"
    path.write_text(scenario if isinstance(scenario, str) else json.dumps(scenario))
    (folder / "server.py").write_text(SERVER)
    (folder / "asker.py").write_text(ASKER)

    async def main() -> Run:
        bench = Bench(DockerTestbed(state=folder / "state"), folder / "runs")
        try:
            return await bench.perform(plans(path, 7)[0])
        finally:
            await bench.shut()

    (folder / "runs").mkdir()
    return asyncio.run(main())


def found(run: Run, host: str) -> list[str]:
    """Where the asker on a host found all of its names, place by place; one look between two is of neither."""
    said = [str(r.fields["text"]).split()[1:] for r in run.events("line").on(host) if "found" in str(r.fields["text"])]
    places = [addresses[0] for addresses in said if len(set(addresses)) == 1 and addresses[0][0].isdigit()]
    return [place for place, before in zip(places, ["", *places], strict=False) if place != before]


def failed(run: Run, host: str) -> bool:
    """Whether a look-up failed."""
    return any("gaierror" in str(r.fields["text"]) for r in run.events("line").on(host))


def problems(run: Run) -> str:
    """What went wrong, and how its checks ended."""
    story = json.loads((run.directory / "run.json").read_text())["problems"]
    return "\n".join([*story, *(f"{f.check}: {f.seen}" for f in run.verdict.findings if f.status is not Status.PASS)])


def test_services_of_a_compose_file_find_the_host_by_each_of_its_names(tmp_path: Path) -> None:
    """Aliases, `links`, its container's name, the name with the network's behind."""
    names = ["app", "store", "database", "app.agent"]
    file = {
        "services": {
            "app": python("server.py", networks={"net": {"aliases": ["store"]}}),
            "asker": python("asker.py", *names, links=["app:database"], networks=["net"]),
        },
        "networks": {"net": {"x-midsession": {"internal": False}}},
    }
    (tmp_path / "compose.yaml").write_text(json.dumps(file))
    of_the_file = {"compose": {"file": "compose.yaml", "service": "app"}, "port": 4000, "ready": {"within": "60s"}}
    asker = {**of_the_file, "compose": {"file": "compose.yaml", "service": "asker"}, "ready": {"line": "found"}}
    run = perform(
        tmp_path,
        {
            "name": "A move",
            "timeout": "60s",
            "services": {"app": of_the_file, "asker": asker},
            "clients": {"talkers": OWN_CLIENTS},
            "timeline": TIMELINE,
            "checks": [{"never": {"event": "protocol_error"}}],
        },
    )
    assert run.verdict.status == "pass", problems(run)
    here, there, back = found(run, "asker")
    assert here == back != there
    assert not failed(run, "asker")


def test_programs_of_images_find_an_image_that_has_moved(tmp_path: Path) -> None:
    """A service, and a client that is told its name; the move is healed before they end."""
    caller = {"log": {"clients": "callers", "contains": "found"}}
    of_an_image = {"image": IMAGE, "port": 4000, "ready": {"within": "60s"}}
    run = perform(
        tmp_path,
        {
            "name": "A move",
            "timeout": "60s",
            "services": {
                "app": {**of_an_image, "files": ["server.py"], "command": ["python3", "server.py"]},
                "asker": {
                    **of_an_image,
                    "files": ["asker.py"],
                    "command": ["python3", "asker.py", "app"],
                    "ready": {"line": "found"},
                },
            },
            "clients": {
                "callers": {
                    "image": IMAGE,
                    "connect": "app:4000",
                    "files": ["asker.py"],
                    "command": ["python3", "asker.py"],
                    "env": {"FOR_S": "3"},
                }
            },
            "timeline": [{**TIMELINE[0], "when": {"all": [TIMELINE[0]["when"], caller]}}, TIMELINE[1]],
            "checks": [{"count": {"event": "exited", "of": "callers", "where": {"code": 0}}, "equals": 1}],
        },
    )
    assert run.verdict.status == "pass", problems(run)
    for host in ("asker", "callers-1"):
        here, there, back = found(run, host)
        assert here == back != there
        assert not failed(run, host)


@pytest.mark.parametrize("target", ["talkers", "talkers-2"])
def test_a_connection_is_reset_where_its_host_has_moved_to(tmp_path: Path, target: str) -> None:
    """As on netns: the one that came after the move hears the reset, the one from before hears nothing."""
    run = perform(tmp_path, MOVED.format(target=target))
    assert run.verdict.status == "pass", problems(run)
    assert [str(r.client) for r in run.events("lost").where(how="reset")] == ["talkers-2"]


def test_a_move_of_which_nobody_is_told_is_inconclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T5: the host has the other address, and that alone is no witness; it is back all the same."""

    async def silence(*_: object) -> None:
        pass

    monkeypatch.setattr(Guides, "lead", silence)
    run = perform(tmp_path, (SCENARIOS / "readdress.scenario.yaml").read_text())
    assert run.events("injected").count == 1
    assert run.events("effective").count == 0
    assert run.verdict.status == "inconclusive"
    assert [(r.host, r.fields["address"]) for r in run.events("healed")] == [("server", run_address(run))]


def run_address(run: Run) -> str:
    """The server's, as the model of its project has it."""
    model = json.loads((run.directory / "compose.json").read_text())
    return str(model["services"]["server"]["networks"]["under-test"]["ipv4_address"])


def test_a_kept_project_moves_again_and_one_that_did_not_come_back_is_not_kept(tmp_path: Path) -> None:
    """What is counted between two runs has each interface's address in it."""
    (plan,) = plans(SCENARIOS / "readdress.scenario.yaml", 7)
    bench = Bench(DockerTestbed(state=tmp_path / "state"), tmp_path)
    with asyncio.Runner() as loop:
        runs = [loop.run(bench.perform(plan)) for _ in range(2)]
        (kept,) = bench.testbed.kept  # type: ignore[attr-defined]
        server = next(host for host in kept.order.hosts if host.name == "server")
        move_for_good(f"{kept.order.name}-{server.agent}-1", server.address, server.spare)
        runs.append(loop.run(bench.perform(plan)))
        loop.run(bench.shut())
    assert [run.verdict.status for run in runs] == ["pass"] * 3
    assert project(runs[0]) == project(runs[1]) != project(runs[2])


def move_for_good(container: str, before: str, after: str) -> None:
    """Give a container another address, without its agent."""
    of_ours = f"midsession:{os.environ.get('MIDSESSION_TAG', 'local')}"
    enter = ["docker", "run", "--rm", "--network", f"container:{container}", "--cap-add", "NET_ADMIN"]
    change = f"ip address del {before}/27 dev eth0 && ip address add {after}/27 dev eth0"
    subprocess.run([*enter, "--entrypoint", "sh", of_ours, "-c", change], check=True, capture_output=True)
