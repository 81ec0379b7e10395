"""The doctor says what is there, what is missing, and what to do about it; and breaks nothing while it looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from midsession import doctor
from midsession.testbeds.registry import TESTBEDS


def test_a_machine_without_tools_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an empty PATH every command is missing (Compose may stand beside us), each with a remedy; nothing raises."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {f.what: f for f in doctor.examine("compose")}
    assert len(found) == len(doctor.PROBES)
    for what in ("Docker Engine", "base image", "ip", "nft", "namespaces"):
        assert not found[what].ok
        assert found[what].remedy
    assert found["Docker Engine"].required
    assert not found["namespaces"].required
    assert found["Python 3.11"].ok


def test_a_command_that_fails_or_hangs_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine that does not answer is no engine; what it said is shown."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = {f.what: f for f in doctor.examine("compose")}
    assert not found["Docker Engine"].ok
    assert found["Docker Engine"].seen == "Cannot connect to the Docker daemon"


def test_an_engine_that_refuses_this_user_need_not_be_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever may not open its socket is told so, and not to install what is there."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho 'permission denied while trying to connect to the Docker daemon' >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = {f.what: f for f in doctor.examine("docker")}
    assert not found["Docker Engine"].ok
    assert "group" in found["Docker Engine"].remedy
    assert "install" not in found["Docker Engine"].remedy


def test_what_a_testbed_needs_is_named_by_its_name() -> None:
    """No probe is for a testbed that is not there, and every testbed needs something."""
    named = frozenset[str]().union(*(probe.needed_by for probe in doctor.PROBES))
    assert named == set(TESTBEDS)
