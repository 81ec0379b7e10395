"""What is started before the command line has been read is what it asks for, and ends with it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from midsession import ahead

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


def test_what_nobody_takes_ends_with_the_command(tmp_path: Path) -> None:
    """The warm process of a wrong guess has its command's standard error, as nobody else has: it ends with it."""
    reading, writing = os.pipe()
    started = "from midsession.testbeds.netns.warmth import warm_up; warm_up()"
    with os.fdopen(reading, "rb") as pipe:
        subprocess.run([sys.executable, "-c", started], cwd=tmp_path, stderr=writing, check=True, timeout=PATIENCE_S)
        os.close(writing)
        assert select.select([pipe], [], [], PATIENCE_S)[0], "it has not ended"
        assert pipe.read() == b""
