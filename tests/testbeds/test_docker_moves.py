"""A host of containers comes to another address, and everybody who looks its name up finds it there, and back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from midsession.core.verdict import Status
from midsession.door import Bench, Run
from midsession.language import plans
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.images import CLIENT_IMAGE
from tests.testbeds.test_docker_file import IMAGE, SERVER, python

pytestmark = pytest.mark.docker

SCENARIOS = Path(__file__).parents[2] / "scenarios"
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
    return [addresses[0] for addresses in said if len(set(addresses)) == 1 and addresses[0][0].isdigit()]


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


def test_programs_of_images_find_an_image_that_has_moved(tmp_path: Path) -> None:
    """A service, and a client that is told its name; the move is healed before they end."""
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
                    "image": CLIENT_IMAGE,
                    "connect": "app:4000",
                    "files": ["asker.py"],
                    "command": ["python3", "asker.py"],
                    "env": {"FOR_S": "3"},
                }
            },
            "timeline": TIMELINE[:2],
            "checks": [{"count": {"event": "exited", "of": "callers", "where": {"code": 0}}, "equals": 1}],
        },
    )
    assert run.verdict.status == "pass", problems(run)
    for host in ("asker", "callers-1"):
        here, there, back = found(run, host)
        assert here == back != there
