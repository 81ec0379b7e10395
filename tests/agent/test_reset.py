"""The verb reset: nothing of a run is left, and what there is is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from midsession.agent.protocol import Finish, List, Reset, Status

from .conductor import WAIT, Refusal, TestConductor, is_alive


def test_a_run_is_forgotten_with_all_that_it_left(conductor: TestConductor, tmp_path: Path) -> None:
    """A program that still runs is killed, and its scratch directory is emptied, whatever lies in it."""
    value = conductor.begin(directory=None)
    program = conductor.start(WAIT)["pid"]
    scratch = tmp_path / "scratch"
    (scratch / "folder" / "deep").mkdir(parents=True)
    (scratch / "folder" / "file").write_text("x")
    (scratch / "link").symlink_to(tmp_path)
    found = conductor.ask(Reset(id=0, scratch=[str(scratch)]))
    assert not is_alive(program)
    assert not Path(value["directory"]).exists()
    assert (list(scratch.iterdir()), found["census"]["files"]) == ([], [])
    assert tmp_path.exists()
    status = conductor.ask(Status(id=0))
    del status["listening"]
    assert status == {"running": False, "pid": None, "incarnation": 0, "exit": None}
    for request in (List(id=0), Finish(id=0)):
        with pytest.raises(Refusal, match="no run was configured"):
            conductor.ask(request)
    conductor.begin()


def test_the_census_sees_what_could_make_a_difference(conductor: TestConductor, tmp_path: Path) -> None:
    """A process, a port that listens, an open connection: with them there, it is another one."""
    before = conductor.ask(Reset(id=0, scratch=[str(tmp_path)]))["census"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            own = client.getsockname()[1]
            after = conductor.ask(Reset(id=0, scratch=[str(tmp_path)]))["census"]
    assert port in set(after["listening"]) - set(before["listening"])  # others may listen on this machine meanwhile
    assert f"127.0.0.1:{own} 127.0.0.1:{port}" in set(after["connections"]) - set(before["connections"])
    assert any(process.split()[0] == str(1) for process in after["processes"])
    loopback = [[line for line in one["interfaces"] if line.split()[0] == "lo"] for one in (before, after)]
    assert loopback[0] == loopback[1] != []  # others' containers come and go on this machine meanwhile
