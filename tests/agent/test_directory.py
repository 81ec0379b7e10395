"""A host's directory gives nothing away but the host's own files (I4 of the promises, on the agent's side)."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from midsession.agent.answer import Refused
from midsession.agent.directory import Directory
from midsession.agent.protocol import Configure, Fetch, Finish, List, Shutdown

from .conductor import FLOOD, WAIT, Agent, Refusal, TestConductor, is_alive

OUTSIDE = [
    "/etc/passwd",
    "../secret",
    "events/../../secret",
    "events/../logs/server.x.log",
    "events//server.x.jsonl",
    "logs/server.link.log",
    "logs/server.pipe.log",
    "logs/server.folder",
    "logs/other.program.1.stdout.log",
    "files/server.job.json",
    "logs",
    "",
    "logs/server.a\0b",
    "logs/server.absent.log",
    "logs/server/../server.program.1.stdout.log",
    "logs/server/link",
    "logs/server/.hidden",
    "logs/server/inner/file",
    "logs/other/file",
]


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "secret").write_text("secret")
    directory = Directory("server", str(tmp_path / "run"))
    logs = tmp_path / "run" / "logs"
    (logs / "server.link.log").symlink_to(tmp_path / "secret")
    os.mkfifo(logs / "server.pipe.log")
    (logs / "server.folder").mkdir()
    (logs / "other.program.1.stdout.log").write_text("another host's")
    (logs / "server.program.1.stdout.log").write_text("0123456789")
    return directory


@pytest.fixture
def program_logs(directory: Directory) -> Path:
    logs = Path(directory.program_logs())
    (logs / "link").symlink_to("/etc/passwd")
    (logs / ".hidden").write_text("x")
    (logs / "inner").mkdir()
    (logs / "inner" / "file").write_text("x")
    (logs / "trace.txt").write_text("traced")
    (logs.parent / "other").mkdir()
    (logs.parent / "other" / "file").write_text("x")
    return logs


def test_the_programs_own_plain_files_are_listed_and_read(directory: Directory, program_logs: Path) -> None:
    """Under the host's name in `logs`; also when the program has put a link in the folder's place since."""
    assert directory.sizes() == {"logs/server.program.1.stdout.log": 10, "logs/server/trace.txt": 6}
    assert directory.read("logs/server/trace.txt", 0, 100) == (b"traced", True)
    program_logs.rename(program_logs.with_name("moved"))
    program_logs.symlink_to("/etc")
    assert "logs/server/trace.txt" in directory.sizes()
    with pytest.raises(Refused):
        directory.read("logs/server/passwd", 0, 100)


@pytest.mark.usefixtures("program_logs")
@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_read_beside_the_programs_own(directory: Directory, path: str) -> None:
    """A program's folder opens no way to anything else."""
    test_nothing_else_is_read(directory, path)


def test_own_regular_files_are_listed(directory: Directory) -> None:
    """Links, pipes, folders and other hosts' files are not ours."""
    assert directory.sizes() == {"logs/server.program.1.stdout.log": 10}


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_read(directory: Directory, path: str) -> None:
    """Any other path is refused: absolute, upwards, through a link, a pipe (without hanging), another host's."""
    with pytest.raises(Refused, match="not one of this host's files"):
        directory.read(path, 0, 100)


def test_read_in_pieces(directory: Directory) -> None:
    """Pieces add up, and the last one says that it is."""
    name = "logs/server.program.1.stdout.log"
    assert directory.read(name, 0, 4) == (b"0123", False)
    assert directory.read(name, 4, 6) == (b"456789", True)
    assert directory.read(name, 99, 6) == (b"", True)
    for offset, limit in ((-1, 5), (0, 0), (0, -1)):
        with pytest.raises(Refused, match="offset"):
            directory.read(name, offset, limit)


def test_planted_link_is_not_written_through(directory: Directory, tmp_path: Path) -> None:
    """A file that is given to a program does not go through a link that an earlier program left there."""
    (tmp_path / "run" / "files" / "server.job").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        directory.put("job", "x")
    assert (tmp_path / "secret").read_text() == "secret"


def test_only_a_directory_of_our_own_is_removed(directory: Directory, tmp_path: Path) -> None:
    """A shared run directory stays; a fresh one goes, and what its links point to stays."""
    directory.remove()
    assert (tmp_path / "run" / "logs" / "server.program.1.stdout.log").exists()
    fresh = Directory("server", None)
    (Path(fresh.path) / "logs" / "up").symlink_to(tmp_path)
    fresh.remove()
    assert not Path(fresh.path).exists()
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize("host", ["", "..", "a/b", "/x", "-x", ".x", "x" * 200, "a\nb"])
def test_host_is_a_plain_name(conductor: TestConductor, host: str, tmp_path: Path) -> None:
    """A host's name becomes part of file names; one that could lead elsewhere begins no run."""
    with pytest.raises(Refusal, match="is no name"):
        conductor.ask(Configure(id=0, run="r", host=host, seed=1, plan="p", directory=str(tmp_path)))


def test_fetched_files_are_the_files(conductor: TestConductor) -> None:
    """`List` and `Fetch` bring exactly the bytes, also from a directory of the agent's own."""
    own = Path(conductor.begin("sent", "exited", directory=None)["directory"])
    conductor.start(FLOOD)
    conductor.wait_record("sent")
    conductor.ask(Finish(id=0))
    files = conductor.ask(List(id=0))["files"]
    assert sorted(files) == [
        "events/server.agent.1.jsonl",
        "events/server.program.1.jsonl",
        "logs/server.program.1.stderr.log",
        "logs/server.program.1.stdout.log",
    ]
    name = "events/server.program.1.jsonl"
    data = b""
    while True:
        piece = conductor.ask(Fetch(id=0, path=name, offset=len(data), limit=1000))
        data += base64.b64decode(piece["data"])
        if piece["eof"]:
            break
    assert data == (own / name).read_bytes()
    assert len(data) == files[name] > 0
    with pytest.raises(Refusal, match="not one of this host's files"):
        conductor.ask(Fetch(id=0, path="../../etc/passwd", offset=0))


def test_next_run_begins_clean(agent: Agent, conductor: TestConductor) -> None:
    """A second `configure` kills what the first run left and takes its directory away; so does `shutdown`."""
    first = Path(conductor.begin(directory=None)["directory"])
    pid = conductor.start(WAIT)["pid"]
    second = Path(conductor.begin("started", run="r2", directory=None)["directory"])
    assert not is_alive(pid)
    assert not first.exists()
    assert second.exists()
    assert conductor.start(WAIT)["incarnation"] == 1
    assert conductor.wait_record("started").fields["incarnation"] == 1
    conductor.ask(Shutdown(id=0))
    assert agent.wait() == 0
    assert not second.exists()


def test_run_of_the_same_host_is_not_overwritten(conductor: TestConductor) -> None:
    """A directory that holds this host's log already begins no run: evidence is never written over."""
    conductor.begin()
    before = conductor.path().read_bytes()
    with pytest.raises(Refusal, match="cannot begin the run"):
        conductor.begin()
    assert conductor.path().read_bytes().startswith(before)
