"""The doctor says what is there, what is missing, and what to do about it; and breaks nothing while it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from midsession import doctor
from midsession.agent import tools
from midsession.testbeds.netns.abilities import namespaces, packet_filter, packet_queue
from midsession.testbeds.netns.testbed import NetnsTestbed
from midsession.testbeds.probe import EVERYWHERE
from midsession.testbeds.registry import TESTBEDS, probes

Put = Callable[..., None]


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    """What was tried on a machine without tools says nothing about this one, on which later tests run."""
    yield
    for tried in (namespaces, packet_filter, packet_queue):
        tried.cache_clear()


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """Put scripts of these names before all tools, on a PATH such as ordinary users have."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def put_there(**scripts: str) -> None:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return put_there


def test_a_machine_without_tools_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an empty PATH every command is missing (Compose may stand beside us), each with a remedy; nothing raises."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "BESIDES", ())
    found = {f.what: f for f in doctor.examine("compose")}
    assert len(found) == len(doctor.all_probes())
    for what in ("Docker Engine", "base image", "ip", "nft", "namespaces"):
        assert not found[what].ok
        assert found[what].remedy
    assert found["Docker Engine"].required
    assert not found["namespaces"].required
    assert found["Python 3.11"].ok


@pytest.mark.netns
def test_tools_of_administrators_are_found_though_they_are_not_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every ordinary user of Debian, whose PATH has no `/usr/sbin`: by the doctor, and by what it tries."""
    assert not Path("/usr/bin/nft").exists()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    packet_queue.cache_clear()
    found = {f.what: f for f in doctor.examine("netns")}
    assert [found[what].ok for what in ("ip", "nft", "packet queue")] == [True] * 3


def test_a_command_that_fails_or_hangs_is_missing(put: Put) -> None:
    """An engine that does not answer is no engine; what it said is shown."""
    put(docker="echo 'Cannot connect to the Docker daemon' >&2\nexit 1")
    found = {f.what: f for f in doctor.examine("compose")}
    assert not found["Docker Engine"].ok
    assert found["Docker Engine"].seen == "Cannot connect to the Docker daemon"


def test_an_engine_that_refuses_this_user_need_not_be_installed(put: Put) -> None:
    """Whoever may not open its socket is told so, and not to install what is there."""
    put(docker="echo 'permission denied while trying to connect to the Docker daemon' >&2\nexit 1")
    found = {f.what: f for f in doctor.examine("docker")}
    assert not found["Docker Engine"].ok
    assert "group" in found["Docker Engine"].remedy
    assert "install" not in found["Docker Engine"].remedy
    for what in ("agents' images", "base image"):  # nobody knows whether they are there
        assert found[what].seen == "cannot be looked for without an engine"
        assert "make" not in found[what].remedy


def test_images_are_made_where_there_is_a_makefile(put: Put) -> None:
    """Whoever has installed the package stands elsewhere."""
    put(docker='[ "$1" = version ] && echo 26.1.5')
    found = {f.what: f for f in doctor.examine("docker")}
    assert found["Docker Engine"].ok
    assert found["agents' images"].remedy == "`make images` in a clone of Midsession"
    assert found["base image"].remedy == "`make base` in a clone of Midsession"


def test_what_cannot_be_tried_without_namespaces_need_not_be_installed(put: Put) -> None:
    """Where they are forbidden that is what is told, by the doctor and by a run; not that a tool is missing."""
    put(**dict.fromkeys(("iptables-restore", "nft", "tc"), "exit 0"))
    put(unshare="echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    for tried in (namespaces, packet_filter, packet_queue):
        tried.cache_clear()
    found = {f.what: f for f in doctor.examine("netns")}
    for what in ("nft", "packet queue", "netem"):
        assert found[what].seen == "cannot be tried without namespaces"
        assert "install" not in found[what].remedy
    assert [NetnsTestbed().remedy_for(ability) for ability in ("filter", "queue", "shape")] == [None] * 3


@pytest.mark.parametrize("testbed", TESTBEDS)
def test_a_testbed_requires_what_it_needs_and_no_other_does(testbed: str) -> None:
    """Every testbed needs something; of the others' probes only those that it shares decide."""
    found = {f.what: f.required for f in doctor.examine(testbed)}
    needed = {probe.what for probe in (*EVERYWHERE, *probes(testbed)) if probe.needed}
    assert needed > {"Python 3.11"}
    assert {what for what, required in found.items() if required} == needed


def test_a_probe_that_testbeds_share_is_made_once() -> None:
    """And no two of them are told by the same name."""
    told = [probe.what for probe in doctor.all_probes()]
    assert len(told) >= 10
    assert sorted(told) == sorted(set(told))
