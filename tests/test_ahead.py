"""What is started before the command line has been read is what it asks for, and ends with it."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from midsession import ahead
from tests.testbeds.test_netns import descendants

PATIENCE_S = 60.0


@pytest.mark.parametrize(
    ("line", "warmed"),
    [
        ("run scenarios", ["auto"]),
        ("run scenarios --testbed netns", ["netns"]),
        ("run --testbed=docker scenarios", ["docker"]),
        ("run scenarios --testbed", ["auto"]),
        ("run scenarios -n 2", []),
        ("run scenarios -n2", []),
        ("run scenarios --jobs=2", []),
        ("run --help", []),
        ("check runs/x", []),
        ("", []),
    ],
)
def test_the_testbed_of_the_command_line_warms_up(
    line: str, warmed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none where there will be none, or where workers have their own."""
    found: list[str] = []
    monkeypatch.setattr("midsession.testbeds.registry.warm_up", found.append)
    ahead.start(line.split())
    assert found == warmed


def test_what_nobody_takes_ends_with_the_command() -> None:
    """The warm process of a wrong guess has its command's standard error, as nobody else has: it ends with it."""
    reading, writing = os.pipe()
    started = "from midsession.testbeds.netns.warmth import warm_up; warm_up(); warm_up(); print(flush=True); input()"
    command = [sys.executable, "-c", started]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with os.fdopen(reading, "rb") as pipe, subprocess.Popen(command, stderr=writing, **pipes) as process:
        os.close(writing)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n", pipe.read()
        (warm,) = descendants(process.pid) - {process.pid}
        assert os.path.samefile(f"/proc/{warm}/fd/2", f"/proc/self/fd/{pipe.fileno()}"), "it would not be heard of"
        process.communicate(b"\n", timeout=PATIENCE_S)
        assert select.select([pipe], [], [], PATIENCE_S)[0], "it has not ended"
        assert pipe.read() == b""
