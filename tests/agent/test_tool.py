"""Tools of the system's that do not do what they should: what is asked is refused with the reason, and nothing dies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from midsession.agent.answer import Refused
from midsession.agent.network import tool
from midsession.agent.network.impairment import Delay
from midsession.agent.protocol import Filter, Finish, Impair, Mend, Status, Unfilter
from tests.agent.conductor import Agent, Refusal, TestConductor
from tests.agent.test_filter import NAMESPACE, PEER, give_address, send

Put = Callable[[str, str], None]
HANGS, WELL = "exec sleep 600", "cat > /dev/null"


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Put a script of that name before all tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def put_there(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put_there


def test_what_a_tool_prints_is_given(put: Put) -> None:
    """It gets the text on its standard input."""
    put("tool", 'read -r line; echo "$1 $line"')
    assert tool.run(["tool", "-x"], "hello\n") == "-x hello\n"


def test_a_tool_that_fails_is_refused_in_its_own_words(put: Put) -> None:
    """The first line of them, and which tool it was."""
    put("tool", "echo 'no such thing' >&2; echo more >&2; exit 2")
    with pytest.raises(Refused, match=r"^tool: no such thing$"):
        tool.run(["tool"])


def test_a_tool_that_is_not_there_is_named() -> None:
    """Rather than a path of ours."""
    with pytest.raises(Refused, match="there is no midsession-no-such-tool on this host"):
        tool.run(["midsession-no-such-tool"])


def test_a_tool_that_never_ends_is_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time that it was given."""
    put("tool", HANGS)
    monkeypatch.setattr(tool, "WITHIN_S", 0.1)
    with pytest.raises(Refused, match=r"tool has not ended: not within 0\.1 s"):
        tool.run(["tool"])


AS_SOMEBODY = """
from midsession.agent import privilege
from midsession.agent.network import tool
privilege.become(65534)
print(tool.run(["cat", "/proc/self/status"]))
print(open("/proc/self/status").read())
"""
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_tool_has_what_an_agent_without_root_kept() -> None:
    """Without CAP_NET_RAW, iptables cannot speak with the kernel about its older tables."""
    said = subprocess.run([sys.executable, "-c", AS_SOMEBODY], capture_output=True, text=True, check=True).stdout
    lent, own = (int(found, 16) for found in re.findall(r"^CapEff:\s(\w+)$", said, re.MULTILINE))
    assert lent == own == NET_ADMIN | NET_RAW
    assert [int(found, 16) for found in re.findall(r"^CapAmb:\s(\w+)$", said, re.MULTILINE)] == [lent, 0]


IMPATIENT = """
import sys
from midsession.agent.network import nft, queue_rules, tool
tool.WITHIN_S = 1.0
{more}
from midsession.agent.serve import serve_stdio
sys.exit(serve_stdio())
"""
NO_LIBRARY = "nft._library = lambda: None"
NO_QUEUE_IN_NFT = "queue_rules._nft_can = lambda: False"
CUT = Filter(id=0, fault="cut", own="10.9.0.1")
SLOW = Impair(id=0, fault="slow", own="10.9.0.1", how=Delay(latency_s=0.05))


def impatient(tmp_path: Path, more: str) -> tuple[Agent, TestConductor]:
    """An agent in a network of its own whose tools have little time, in a run."""
    agent = Agent(code=IMPATIENT.format(more=more), prefix=NAMESPACE)
    conductor = agent.conductor(tmp_path)
    conductor.begin("witnessed", "healed")
    return agent, conductor


@pytest.mark.netns
def test_an_impairment_whose_tool_hangs_is_refused_and_the_agent_lives(put: Put, tmp_path: Path) -> None:
    """By iptables or by tc, whichever hangs; what is asked next is answered."""
    for name in ("iptables-restore", "iptables-legacy-restore", "ip", "tc"):
        put(name, HANGS)
    agent, conductor = impatient(tmp_path, NO_QUEUE_IN_NFT)
    try:
        with pytest.raises(
            Refusal, match=r"iptables-restore has not .*; iptables-legacy-restore has not .*; ip has not"
        ):
            conductor.ask(SLOW)
        assert conductor.ask(Status(id=0))["running"] is False
        conductor.ask(Finish(id=0))
    finally:
        agent.end()


@pytest.mark.netns
def test_a_cure_whose_tool_hangs_is_refused_and_can_be_tried_again(put: Put, tmp_path: Path) -> None:
    """Refused once, healed then, and not healed twice."""
    put("iptables-restore", WELL)
    put("iptables-save", "exit 0")
    agent, conductor = impatient(tmp_path, NO_QUEUE_IN_NFT)
    try:
        assert conductor.ask(SLOW) == {"mechanism": "queue"}
        put("iptables-restore", HANGS)
        with pytest.raises(Refusal, match="iptables-restore has not ended"):
            conductor.ask(Mend(id=0, fault="slow"))
        put("iptables-restore", WELL)
        conductor.ask(Mend(id=0, fault="slow"))
        conductor.ask(Mend(id=0, fault="slow"))
        assert [r.fields["fault"] for r in conductor.book() if r.event == "healed"] == ["slow"]
    finally:
        agent.end()


@pytest.mark.netns
def test_a_rule_is_looked_at_again_when_its_tool_has_hung(put: Put, tmp_path: Path) -> None:
    """The agent lives on, says what it could not see, and tells of the witness later."""
    nft = shutil.which("nft")
    put("nft", f'exec {nft} "$@"')
    agent, conductor = impatient(tmp_path, NO_LIBRARY)
    try:
        give_address(agent)
        conductor.ask(CUT)
        put("nft", HANGS)
        agent.wait_said("cannot see what cut does: nft has not ended")
        with pytest.raises(subprocess.CalledProcessError):
            send(agent, PEER)
        put("nft", f'exec {nft} "$@"')
        assert conductor.wait_record("witnessed").fields["packets"] == 1
        assert conductor.ask(Unfilter(id=0, fault="cut"))["packets"] == 1
    finally:
        agent.end()


COUNTED = """case "$1" in
  -s) echo '[{"dev":"ms1to","root":true,"packets":PACKETS},{"dev":"ms1from","root":true,"packets":PACKETS}]';;
  -j) echo '[]';;
  *) cat > /dev/null;;
esac"""
"""A tc whose every interface has let so many packets through, and which leads none there."""


@pytest.mark.netns
def test_netem_is_looked_at_again_when_tc_has_hung(put: Put, tmp_path: Path) -> None:
    """The agent lives on, says what it could not see, and tells of the witness, and of the cure, later."""
    put("tc", COUNTED.replace("PACKETS", "0"))
    agent, conductor = impatient(tmp_path, NO_QUEUE_IN_NFT)
    try:
        give_address(agent)
        for name, script in (("ip", WELL), ("iptables-restore", "exit 1"), ("iptables-legacy-restore", "exit 1")):
            put(name, script)
        assert conductor.ask(SLOW) == {"mechanism": "netem"}
        put("tc", HANGS)
        agent.wait_said("cannot see what slow does: tc has not ended")
        with pytest.raises(Refusal, match="tc has not ended"):
            conductor.ask(Mend(id=0, fault="slow"))
        put("tc", COUNTED.replace("PACKETS", "7"))
        assert conductor.ask(Mend(id=0, fault="slow")) == {"packets": 14, "lost": 0}
        conductor.ask(Finish(id=0))
    finally:
        agent.end()
