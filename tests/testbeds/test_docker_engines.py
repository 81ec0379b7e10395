"""Which engine the docker testbed speaks with, and over what."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker.engine import Engine, connect, endpoint

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
FAULT = ROOT / "scenarios" / "faults" / "reset.scenario.yaml"
SOCKET = "unix:///var/run/docker.sock"


class Forwarder(socketserver.ThreadingTCPServer):
    """An engine's socket, on a TCP port of the loopback: each way is copied until its end, and the end with it."""

    def __init__(self, path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.path, self.connections = path, 0


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Forwarder)
        self.server.connections += 1
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.path)
            there = threading.Thread(target=_copy, args=(self.request, engine))
            there.start()
            _copy(engine, self.request)
            there.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def remote() -> Iterator[Forwarder]:
    """The engine of this machine, as if it were another's."""
    host = endpoint()
    assert host.startswith("unix://"), host
    with Forwarder(host.removeprefix("unix://")) as forwarder:
        threading.Thread(target=forwarder.serve_forever).start()
        yield forwarder
        forwarder.shutdown()


def test_a_run_on_an_engine_behind_tcp(remote: Forwarder, tmp_path: Path) -> None:
    """Nothing of it needs a common file system: the command passes, with a network fault, and leaves nothing."""
    environment = {
        **os.environ,
        "DOCKER_HOST": f"tcp://127.0.0.1:{remote.server_address[1]}",
        "XDG_STATE_HOME": str(tmp_path),
    }
    argv = ["-m", "midsession", "run", str(FAULT), "--testbed", "docker", "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, *argv], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert remote.connections > 3
    assert list((tmp_path / "midsession" / "docker").glob("*.json")) == []


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration of the docker command with a context `far` beside the default one, which is the current one."""
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    docker("context", "create", "far", "--docker", "host=tcp://127.0.0.1:23999")


def docker(*words: str) -> None:
    """The docker command."""
    subprocess.run(["docker", *words], check=True, capture_output=True)


@pytest.mark.usefixtures("contexts")
def test_the_engine_is_that_of_the_docker_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """$DOCKER_HOST before $DOCKER_CONTEXT before the current context."""
    assert endpoint() == SOCKET
    docker("context", "use", "far")
    assert endpoint() == "tcp://127.0.0.1:23999"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert endpoint() == SOCKET
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert endpoint() == "tcp://127.0.0.1:1"


@pytest.mark.usefixtures("contexts")
def test_an_engine_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown context, a port where nobody listens, a way that attached streams cannot go."""
    monkeypatch.setenv("DOCKER_CONTEXT", "near")
    with pytest.raises(EnvironmentLacks, match="no Docker context 'near'"):
        Engine()
    for host, why in (
        ("tcp://127.0.0.1:1", "no Docker Engine answers"),
        ("ssh://me@far", "forward its socket"),
        ("127.0.0.1:2375", "write it like unix://"),
    ):
        with pytest.raises(EnvironmentLacks, match=why):
            connect(host)


@pytest.mark.usefixtures("contexts")
def test_a_context_with_tls_is_not_spoken_to_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor is any TCP engine where TLS is asked for; the socket of this machine needs none."""
    (key,) = [path.name for path in (tmp_path / "contexts" / "meta").iterdir()]
    (tmp_path / "contexts" / "tls" / key / "docker").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    with pytest.raises(EnvironmentLacks, match="forward its socket"):
        endpoint()
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(EnvironmentLacks, match="forward its socket"):
        connect("tcp://127.0.0.1:1")
    connect(SOCKET).close()


@pytest.mark.usefixtures("contexts")
def test_a_context_needs_no_other_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The docker command writes a config.json only once it has something to put there."""
    (tmp_path / "config.json").unlink(missing_ok=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "far")
    assert endpoint() == "tcp://127.0.0.1:23999"
