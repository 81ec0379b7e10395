"""Services of a user's own Compose file on real containers: faults, start-up, neighbours, and what a file may say."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from midsession.door import Bench, Run
from midsession.errors import EnvironmentLacks
from midsession.language import plans
from midsession.runner.listener import Listener
from midsession.testbeds.docker import DockerTestbed
from midsession.testbeds.docker.journal import Journal

pytestmark = pytest.mark.docker

IMAGE = "midsession-base:local"
SERVER = """\
import os, socket, socketserver, sys

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line != b"ping\\n":
                print("heard", line.decode().strip(), flush=True)
            self.wfile.write(b"pong\\n")

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

print("hello", *[word + "=" + str(eval(word)) for word in sys.argv[1:]], flush=True)
Server(("0.0.0.0", 4000), Handler).serve_forever()
"""
PEER = """\
import os, socket, sys, time

def tell(what):
    print(time.monotonic_ns(), what, flush=True)

def talk(address, line):
    with socket.create_connection(address, timeout=0.5) as end, end.makefile("rb") as heard:
        while True:
            began_s = time.monotonic()
            end.sendall(line.encode() + b"\\n")
            if not heard.readline():
                raise EOFError
            tell(f"{time.monotonic() - began_s:.3f}")
            line = "ping"
            time.sleep(0.02)

tell(os.path.exists("/data"))
while True:
    try:
        talk((sys.argv[1], 4000), sys.argv[2])
    except (OSError, EOFError) as error:
        tell(type(error).__name__)
        time.sleep(0.05)
"""
"""Says who it is once it is connected, which the server tells; then the time of each round trip in seconds."""
PING = [{"send": {"line": "ping"}}, {"expect": {"line": "pong", "within": "60s"}}, {"wait": "5ms"}]
TALK = [{"repeat": {"until": "goodbye", "script": PING}}]
GOODBYE = [{"when": {"event": "replied", "of": "talkers"}, "signal": "goodbye"}]


def program(*words: str, **more: Any) -> dict[str, Any]:
    """A service of the file that runs a program of its folder, `/app`, and ends at once when it is told to."""
    return {"image": IMAGE, "command": [*words], "working_dir": "/app", "volumes": ["./:/app"], "init": True, **more}


def python(*words: str, **more: Any) -> dict[str, Any]:
    return program("python3", *words, **more)


def perform(folder: Path, file: dict[str, Any], timeline: list[dict[str, Any]] | None = None, **more: Any) -> Run:
    """Run a scenario with the service `app` of this file, which a client talks to until the timeline is over."""
    return asyncio.run(play(written(folder, file, timeline, **more)))


def written(folder: Path, file: dict[str, Any], timeline: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """That scenario, in a file of the folder."""
    (folder / "server.py").write_text(SERVER)
    (folder / "peer.py").write_text(PEER)
    (folder / "compose.yaml").write_text(json.dumps(file))
    app = {"compose": {"file": "compose.yaml", "service": "app"}, "port": 4000, "ready": {"within": "60s"}}
    again = {"reconnect": {"first": "20ms", "max": "100ms", "attempts": 100000}}
    scenario = {
        "name": "A Compose file",
        "timeout": "120s",
        "services": {"app": {**app, **more.pop("service", {})}},
        "clients": {"talkers": {"connect": "app:4000", "on_loss": again, "script": TALK}},
        "timeline": timeline or GOODBYE,
        "checks": [{"never": {"event": "protocol_error"}}, *more.pop("checks", ())],
    }
    assert not more
    path = folder / "file.scenario.yaml"
    path.write_text(json.dumps(scenario))
    return path


async def play(scenario: Path, listener: Listener | None = None) -> Run:
    """Run it on a testbed of its own, of which nothing is left then."""
    folder = scenario.parent
    (folder / "runs").mkdir()
    bench = Bench(DockerTestbed(state=folder / "state"), folder / "runs")
    try:
        run = await bench.perform(plans(scenario, 7)[0], listener)
    finally:
        await bench.shut()
    assert list(Journal(folder / "state").entries()) == []
    return run


def said_by(run: Run, neighbour: str) -> list[str]:
    """The lines of a neighbour's log."""
    return (run.directory / "logs" / f"{neighbour}.neighbour.1.stdout.log").read_text().splitlines()


def story(run: Run, neighbour: str) -> list[tuple[int, str]]:
    """When a peer told what."""
    return [(int(t_ns), what) for t_ns, _, what in (line.partition(" ") for line in said_by(run, neighbour))]


def problems(run: Run) -> str:
    """What went wrong in the harness itself, as the run's directory has it."""
    found: list[str] = json.loads((run.directory / "run.json").read_text())["problems"]
    return "\n".join(found)


def lines(run: Run) -> list[str]:
    """What the service said, as its records have it."""
    return [str(record.fields["text"]) for record in run.events("line") if record.host == "app"]


def heard(*names: str) -> dict[str, Any]:
    """When the service has heard these peers."""
    return {"all": [{"log": {"service": "app", "contains": f"heard {name}"}} for name in names]}


# --- faults --------------------------------------------------------------------------------------------------------

PAIR = {"services": {"app": python("server.py"), "peer": python("peer.py", "app", "peer", depends_on=["app"])}}
TOLD = {"EOFError", "ConnectionResetError", "ConnectionRefusedError"}


@pytest.mark.parametrize("fault", ["partition", "power_off", "vanish"])
def test_a_network_fault_is_the_same_for_a_neighbour(tmp_path: Path, fault: str) -> None:
    """Another service of the file hears nothing of a host that is cut off, not even that it is gone."""
    timeline: list[dict[str, Any]] = [
        {"id": "break", "when": heard("peer"), fault: "app"},
        {"id": "over", "when": {"after": "break", "wait": "4s"}, "heal": "break"},
        {"when": {"after": "over"}, "signal": "goodbye"},
    ]
    if fault != "partition":
        timeline.insert(2, {"when": {"after": "over"}, "start": "app"})
    run = perform(tmp_path, PAIR, timeline)
    assert problems(run) == ""
    (begin,) = [r.t_ns for r in run.events("effective") if r.fields["step"] == "break"]
    (end,) = [r.t_ns for r in run.events("triggered") if r.fields["step"] == "over"]
    meanwhile = [what for t_ns, what in story(run, "peer") if begin < t_ns < end]
    assert "TimeoutError" in meanwhile
    # What came before the cut may be told after it.
    assert not set(meanwhile[meanwhile.index("TimeoutError") :]) & TOLD


def test_a_slow_link_is_slow_for_a_neighbour(tmp_path: Path) -> None:
    """Both ways of its round trip pass the one interface of the host."""
    timeline: list[dict[str, Any]] = [
        {"id": "slow", "when": heard("peer"), "delay": {"target": "app", "latency": "150ms"}},
        {"when": {"after": "slow", "wait": "3s"}, "signal": "goodbye"},
    ]
    run = perform(tmp_path, PAIR, timeline)
    assert run.passed, run.explain()
    assert max(float(what) for _, what in story(run, "peer") if what[0].isdigit()) >= 0.3


# --- coming up -----------------------------------------------------------------------------------------------------


def dependent(**dependencies: dict[str, Any]) -> dict[str, Any]:
    """`app`, which waits for these, and they; all have a folder in common."""
    conditions = {"db": "service_healthy", "migrate": "service_completed_successfully"}
    app = python("server.py", "os.listdir('/shared')", volumes=["./:/app", "shared:/shared"])
    app["depends_on"] = {name: {"condition": conditions[name]} for name in dependencies}
    return {"services": {"app": app, **dependencies}, "volumes": {"shared": {}}}


def shell(text: str, **more: Any) -> dict[str, Any]:
    return program("sh", "-c", text, volumes=["shared:/shared"], **more)


NEVER = {"test": ["CMD", "false"], "interval": "100ms", "retries": 2}
HEALTHY = {"test": ["CMD", "test", "-e", "/shared/db"], "interval": "200ms", "start_period": "100s"}


def test_what_the_service_depends_on_is_there_when_it_starts(tmp_path: Path) -> None:
    """One neighbour is healthy, another has ended well; both took their time."""
    db = shell("sleep 1.5; touch /shared/db; exec sleep 1000", healthcheck=HEALTHY)
    run = perform(tmp_path, dependent(db=db, migrate=shell("sleep 1.5; touch /shared/migrated")))
    assert run.passed, run.explain()
    (hello,) = [line for line in lines(run) if line.startswith("hello")]
    assert {"db", "migrated"} <= set(hello.replace("'", " ").split())


@pytest.mark.parametrize(
    ("name", "service", "why"),
    [
        ("db", shell("exec sleep 1000", healthcheck=NEVER), "it is unhealthy"),
        ("db", shell("echo no disk; exit 3", healthcheck=HEALTHY), "no disk"),
        ("migrate", shell("echo no table; exit 3"), "it has exited with code 3; its last lines: no table"),
    ],
)  # fmt: skip
def test_a_dependency_that_cannot_be_met_is_an_error(tmp_path: Path, name: str, service: Any, why: str) -> None:
    """With its name, what it became, and what it said; its log is in the run's directory."""
    run = perform(tmp_path, dependent(**{name: service}))
    assert run.why_ended == "error"
    assert f"{name} to " in problems(run)
    assert why in problems(run)
    assert not lines(run)
    logs = [path.read_text() for path in (run.directory / "logs").glob(f"{name}.neighbour.*")]
    assert logs == ([] if "sleep" in str(service["command"]) else [f"no {why.split('no ')[-1]}\n"])


def test_a_neighbour_that_needs_the_service_comes_up_after_it(tmp_path: Path) -> None:
    """It finds what it needs and goes on being restarted; what it says is kept, and that it has ended is told."""
    look = ["CMD", "python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 4000))"]
    once = "os.path.exists('seen') or open('seen', 'w').close() or sys.exit(7)"
    greet = "socket.create_connection(('app', 4000)).sendall(b'worker\\n'); print('done', flush=True)"
    worker = python("-c", f"import os, socket, sys; print('begin', flush=True); {once}; {greet}; input()", tty=True)
    worker |= {"restart": "on-failure", "stdin_open": True, "depends_on": {"app": {"condition": "service_healthy"}}}
    app = python("server.py", healthcheck={"test": look, "interval": "300ms"})
    timeline = [{"when": heard("worker"), "signal": "goodbye"}]
    run = perform(tmp_path, {"services": {"app": app, "worker": worker}}, timeline)
    assert run.passed, run.explain()
    assert said_by(run, "worker")[:2] == ["begin", "begin"]
    assert [r.fields["text"] for r in run.events("note")] == ["worker of the Compose file has exited with code 7"]


def test_the_run_alone_starts_the_service(tmp_path: Path) -> None:
    """Not Compose for the sake of a neighbour that shares its network or its volumes: these come up after it."""
    file = {
        "services": {
            "app": python("server.py", volumes=["./:/app", "/data"]),
            "side": python("peer.py", "127.0.0.1", "side", network_mode="service:app"),
            "reader": python("peer.py", "app", "reader", volumes_from=["app"]),
        }
    }
    timeline = [
        {"id": "begin", "when": {"at": "3s"}, "start": "app"},
        {"when": heard("side", "reader"), "signal": "goodbye"},
    ]
    checks = [{"log": {"service": "app", "contains": "hello"}, "equals": 1}]
    run = perform(tmp_path, file, timeline, service={"autostart": False}, checks=checks)
    assert run.passed, run.explain()
    begin = next(r.t_ns for r in run.events("triggered") if r.fields["step"] == "begin")
    assert min(r.t_ns for r in run.events("connected")) > begin
    assert [r.fields["incarnation"] for r in run.events("started") if r.host == "app"] == [1]
    assert story(run, "reader")[0][1] == "True"
    assert min(story(run, "reader")[0][0], story(run, "side")[0][0]) > begin


# --- what a file may say -------------------------------------------------------------------------------------------


def test_whatever_would_hide_or_repeat_the_service_is_left_out(tmp_path: Path) -> None:
    """A terminal, restart policies, no replica, a profile, a fixed address that an override of another folder's file
    takes away: one program, under the timeline, heard whole."""
    odd = {
        "tty": True,
        "restart": "always",
        "deploy": {"restart_policy": {"condition": "any"}},
        "scale": 0,
        "profiles": ["odd"],
        "expose": ["4000"],
        "sysctls": {"kernel.shmmax": 1000000, "net.core.somaxconn": 99},
        "networks": {"default": {"ipv4_address": "172.30.0.5"}},
    }
    words = ("open('/proc/sys/kernel/shmmax').read()", "open('/proc/sys/net/core/somaxconn').read()")
    subnet = {"default": {"ipam": {"config": [{"subnet": "172.30.0.0/24"}]}}}
    file = {"services": {"app": python("scenarios/server.py", *words, **odd)}, "networks": subnet}
    (tmp_path / "compose.yaml").write_text(json.dumps(file))
    inner = tmp_path / "scenarios"
    inner.mkdir()
    (inner / "over.yaml").write_text("services: {app: {networks: {default: {ipv4_address: !reset null}}}}")
    timeline: list[dict[str, Any]] = [
        {"id": "crash", "when": {"event": "replied", "of": "talkers", "count": 5}, "kill": "app"},
        {"id": "back", "when": {"after": "crash", "wait": "3s"}, "start": "app"},
        {"when": {"event": "replied", "of": "talkers", "since": "back"}, "signal": "goodbye"},
    ]
    checks = [{"log": {"service": "app", "contains": "hello"}, "equals": 2}]
    run = perform(inner, {"include": [{"path": ["../compose.yaml", "over.yaml"]}]}, timeline, checks=checks)
    assert run.passed, run.explain()
    said = "\n".join(lines(run))
    assert said.count("shmmax').read()=1000000") == 2
    assert said.count("somaxconn').read()=99") == 2
    back = next(r.t_ns for r in run.events("triggered") if r.fields["step"] == "back")
    assert min(r.t_ns for r in run.events("connected").since("crash")) > back


def test_contents_and_names_of_a_file_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the environment, the content of a config; a container's name, and the alias of a link. A line of its
    output says that the service is up."""
    monkeypatch.setenv("MIDSESSION_TEST_SECRET", "s3cr$t")
    asked = ("open('/run/secrets/key').read()", "open('/etc/conf').read()")
    asked += ("socket.gethostbyname('the-db')", "socket.gethostbyname('database')")
    app = python("server.py", *asked, container_name="the-app", links=["db:database"], depends_on=["db"])
    app |= {"secrets": ["key"], "configs": [{"source": "conf", "target": "/etc/conf"}]}
    look = "import socket; print(*map(socket.gethostbyname, ('server', 'the-app', 'app')), flush=True)"
    tell = "socket.create_connection(('server', 4000)).sendall(b'peer\\n'); input()"
    file = {
        "services": {
            "app": app,
            "db": program("sleep", "1000", container_name="the-db"),
            "peer": python("-c", f"{look}; {tell}", links=["app:server"], stdin_open=True),
        },
        "secrets": {"key": {"environment": "MIDSESSION_TEST_SECRET"}},
        "configs": {"conf": {"content": "a$$b"}},
    }
    timeline = [{"when": heard("peer"), "signal": "goodbye"}]
    run = perform(tmp_path, file, timeline, service={"ready": {"line": "hello", "within": "60s"}})
    assert run.passed, run.explain()
    said = "\n".join(lines(run))
    assert "key').read()=s3cr$t" in said
    assert "conf').read()=a$b" in said
    assert said.count("')=10.213.") == 2
    assert len(set(said_by(run, "peer")[0].split())) == 1
    assert [r.fields["by"] for r in run.events("listening") if r.host == "app"] == ["line"]
    assert "s3cr$t" not in (run.directory / "compose.json").read_text()


def test_secrets_of_an_env_file_are_there(tmp_path: Path) -> None:
    """As Compose sees them, for a host and for a neighbour; they stand in no file of the run. Ours is not changed."""
    (tmp_path / ".env").write_text("MIDSESSION_TEST_DOTTED='s3cr$t\nA=='\nMIDSESSION_TEST_EMPTY=\n")
    asked = ("open('/run/secrets/dotted').read()", "open('/run/secrets/empty').read()")
    tell = "socket.create_connection(('app', 4000)).sendall(b'peer\\n'); input()"
    look = f"import socket; print(repr({asked[0]}), flush=True); {tell}"
    file = {
        "services": {
            "app": python("server.py", *asked, secrets=["dotted", "empty"]),
            "peer": python("-c", look, secrets=["dotted"], stdin_open=True, depends_on=["app"]),
        },
        "secrets": {
            "dotted": {"environment": "MIDSESSION_TEST_DOTTED"},
            "empty": {"environment": "MIDSESSION_TEST_EMPTY"},
        },
    }
    run = perform(tmp_path, file, [{"when": heard("peer"), "signal": "goodbye"}])
    assert run.passed, run.explain()
    assert "dotted').read()=s3cr$t" in "\n".join(lines(run))
    assert "A== open('/run/secrets/empty').read()=" in lines(run)
    assert said_by(run, "peer")[0] == "'s3cr$t\\nA=='"
    assert "s3cr$t" not in (run.directory / "compose.json").read_text()
    assert "MIDSESSION_TEST_DOTTED" not in os.environ


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ({"services": {"app": {"image": IMAGE, "comand": "x"}}}, "comand"),
        ({"services": {"app": {"image": IMAGE, "env_file": "nowhere.env"}}}, "nowhere.env not found"),
    ],
)
def test_a_file_that_compose_cannot_read_is_told_in_its_words(tmp_path: Path, file: Any, why: str) -> None:
    """It is the user's to mend, before anything is made: no broken harness."""
    with pytest.raises(EnvironmentLacks, match=rf"cannot read compose.yaml: .*{why}.*compose-file"):
        perform(tmp_path, file)


@pytest.mark.parametrize("missing", ["app", "beside"])
def test_an_image_that_cannot_be_had_is_named_with_its_service(tmp_path: Path, missing: str) -> None:
    """Where Compose says no more than that a registry was not found."""
    services = {"app": python("server.py"), "beside": program("true"), missing: {"image": "nobody.invalid/no:1"}}
    whose = rf"there is no image nobody\.invalid/no:1 for the service '{missing}'"
    with pytest.raises(EnvironmentLacks, match=rf"{whose} .*docker pull nobody.*docker build -t nobody.*no-image"):
        perform(tmp_path, {"services": services})


def test_what_compose_only_warns_of_does_not_hide_why_it_failed(tmp_path: Path) -> None:
    """Its last words are its errors; a service of the file that cannot be started is to be mended there."""
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY nowhere /\n")
    run = perform(tmp_path, {"services": {"app": {"build": "."}}})
    assert "nowhere" in problems(run)
    assert "level=warning" not in problems(run)


def test_a_service_that_cannot_be_started_is_to_be_mended_in_its_file(tmp_path: Path) -> None:
    """Not in the scenario, which says nothing of its command."""
    run = perform(tmp_path, {"services": {"app": program("no-such-program", init=False)}})
    assert "mend its service 'app' in compose.yaml" in problems(run)
