"""The tests of the architecture find what is planted, in every guise, and leave alone what only looks like it."""

from __future__ import annotations

import pytest

from tests.architecture.names import Source
from tests.architecture.rules import RULES, But, is_in

CORE, RUNNER, DOOR, TEST = "midsession/core/x.py", "midsession/runner/x.py", "midsession/x.py", "tests/test_x.py"
REPORT, SERVER, CHECK = "midsession/report/x.py", "server/x.py", "midsession/checks/x.py"

HELD = """
import threading
class Test:
    def __init__(self): self.pause = threading.Event()
    def look(self): self.pause.wait(0.05)
"""
SET = """
import asyncio
class Box:
    def __init__(self): self.news = asyncio.Event()
    def hear(self): self.news.set()
    async def f(self): await self.news.wait()
"""

PLANTED: dict[str, list[tuple[str, str]]] = {
    "pure": [
        (CORE, "import socket"),
        (CORE, "def f():\n    import socket"),
        (CORE, "text = open('x').read()"),
        (CORE, "import builtins\nbuiltins.open('x')"),
        (CORE, "def f(open=open): return open('x')"),
        (CORE, "class A:\n    def open(self): return open('x')"),
        (CORE, "from pathlib import Path\nPath('x').read_text()"),
        (CORE, "import pathlib as p\np.Path('x')"),
        (CORE, "import sys\nsys.stdin.read()"),
        (CORE, "import io\nio.open('x')"),
        (CORE, "import inspect\ninspect.getsource(f)"),
        (CORE, "import secrets\nsecrets.token_hex()"),
        (CORE, "from datetime import datetime\ndatetime.now()"),
        (CORE, "from midsession import ledger"),
        (CORE, "from midsession.regular import read_regular"),
        (CORE, "import midsession.runner"),
        (CORE, "from .. import regular"),
        (CORE, "from ..faults import FAULTS"),
        (CORE, "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from midsession.testbeds import Testbed"),
        (CORE, "time = __import__('time')"),
        (CORE, "import importlib\nimportlib.import_module('time')"),
        ("midsession/core/scenario/x.py", "import os"),
        ("midsession/errors.py", "import os"),
    ],
    "world": [
        (REPORT, "import os\nos.kill(1, 9)"),
        (REPORT, "import os\nif os.fork() == 0: pass"),
        (REPORT, "from os import fork as split\nsplit()"),
        (REPORT, "import os as system\nalso = system\nalso.execv('x', [])"),
        (REPORT, "import os\ngetattr(os, 'kill')(1, 9)"),
        (REPORT, "import sys\nsys.modules['os'].kill(1, 9)"),
        (REPORT, "from os import *"),
        (DOOR, "import asyncio\nasync def f(): await asyncio.create_subprocess_exec('x')"),
        (DOOR, "from asyncio import create_subprocess_exec"),
        (DOOR, "async def f(loop): await loop.subprocess_exec(P, 'x')"),
        (DOOR, "import subprocess"),
        (DOOR, "def f():\n    from subprocess import run"),
        (DOOR, "__import__('subprocess').run([])"),
        (DOOR, "import ctypes"),
        (DOOR, "from docker import DockerClient"),
        (DOOR, "import socket"),
        (DOOR, "import multiprocessing.pool"),
        (DOOR, "from pathlib import Path\nPath('/proc/1/stat').read_text()"),
        (RUNNER, "import os\nos.posix_spawn('x', [], {})"),
        ("midsession/batch/workers.py", "import subprocess"),
    ],
    "waits": [
        (DOOR, "import asyncio\nasync def f(): await asyncio.sleep(1)"),
        (DOOR, "from asyncio import sleep"),
        (DOOR, "from asyncio import sleep as nap\nasync def f(): await nap(1)"),
        (DOOR, "import asyncio as a\nasync def f(): await a.sleep(1)"),
        (DOOR, "import asyncio\nasync def f(): await asyncio.Event().wait()"),
        (DOOR, "from threading import Event\nEvent().wait(1)"),
        (DOOR, "async def f(over): await over.wait()"),
        (DOOR, "import select\nselect.select([], [], [], 1)"),
        (DOOR, "import select as s\ns.poll().poll(1)"),
        (DOOR, "from selectors import DefaultSelector"),
        (DOOR, "import signal\nsignal.pause()"),
        (DOOR, "import os\nos.waitpid(1, 0)"),
        (DOOR, "import asyncio\nasync def f():\n    async with asyncio.timeout(1): pass"),
        (DOOR, "def f(loop): loop.call_later(1, f)"),
        (DOOR, "import queue\nqueue.Queue().get(timeout=1)"),
        (CHECK, "import time\ntime.sleep(1)"),
        ("midsession/batch/workers.py", "import asyncio\nasync def f(): await asyncio.sleep(1)"),
    ],
    "modules": [
        (RUNNER, "from midsession.faults import kill"),
        (RUNNER, "import midsession.faults.kill as k"),
        (RUNNER, "from ..faults.kill import Kill"),
        (RUNNER, "from importlib import import_module\nimport_module('midsession.faults.kill')"),
        (RUNNER, "module = 'midsession.testbeds.docker.engine'"),
        (DOOR, "def f():\n    from midsession.testbeds.netns.trial import try_world"),
        (DOOR, "from midsession.testbeds import compose"),
        (REPORT, "from midsession.checks.every import Every"),
        ("midsession/checks/never.py", "from midsession.checks.count import Count"),
        ("midsession/faults/kill.py", "from midsession.faults.stop import Stop"),
        ("midsession/testbeds/netns/x.py", "from midsession.testbeds.docker import engine"),
    ],
    "faults": [
        (RUNNER, "if step.verb == 'kill': pass"),
        (RUNNER, "match step.verb:\n    case 'partition': pass"),
        (RUNNER, "WORDS = {'power_off': 1}"),
        (REPORT, "colour = COLOURS['delay']"),
        ("midsession/core/conductor.py", "step.verb in ('vanish', 'flap')"),
        ("midsession/core/plan.py", "class P(tag='loss'): pass"),
        ("midsession/agent/protocol.py", "class P(tag='partition'): pass"),
        ("midsession/faults/kill.py", "verb = 'stop'"),
        ("midsession/faults/packets.py", "verb = 'loss'"),
        (SERVER, "verb = 'kill'"),
    ],
    "checks": [
        (RUNNER, "if check.kind == 'every': pass"),
        (REPORT, "KINDS = {'recovery': 1}"),
        ("midsession/core/judge.py", "check.kind == 'latency'"),
        ("midsession/checks/never.py", "kind = 'kept'"),
        ("midsession/rundir.py", "findings['lifecycle']"),
    ],
    "testbeds": [
        ("midsession/cli.py", "if testbed == 'docker': pass"),
        ("midsession/cli.py", "def run(testbed: Annotated[str, Option(help='auto, docker, netns')]): pass"),
        ("midsession/doctor.py", "NETNS, COMPOSE = 'netns', 'compose'"),
        (RUNNER, "remedy = f'run it with `--testbed netns` {x}'"),
        ("midsession/testbeds/netns/__init__.py", "remedy = 'run it with `--testbed docker`'"),
        ("midsession/core/compile.py", "service['compose']"),
    ],
    "programs": [
        (DOOR, "import server"),
        (DOOR, "from client.player import Player"),
        (RUNNER, "def f():\n    import server.serve"),
    ],
    "shell": [
        (DOOR, "import os\nos.system(s)"),
        (DOOR, "from os import popen as ask\nask(s)"),
        (DOOR, "import subprocess\nsubprocess.run(s, shell=True)"),
        (DOOR, "import subprocess\nsubprocess.run(s, **{'shell': True})"),
        (DOOR, "from subprocess import getoutput"),
        (DOOR, "import asyncio\nasync def f(): await asyncio.create_subprocess_shell(s)"),
        (DOOR, "async def f(loop): await loop.subprocess_shell(P, s)"),
        ("midsession/agent/x.py", "spawn(['sh', '-c', s])"),
        ("midsession/agent/x.py", "spawn(('/bin/bash', '-c', s))"),
        ("midsession/agent/x.py", "spawn('/usr/bin/env', 'dash', '-c', s)"),
        ("midsession/agent/x.py", "spawn(shlex.split(f'sh -c {s}'))"),
        (SERVER, "import os\nos.popen(s)"),
    ],
    "evaluates": [
        (DOOR, "eval(s)"),
        (DOOR, "import builtins\nbuiltins.eval(s)"),
        (DOOR, "from builtins import exec as run\nrun(s)"),
        (DOOR, "run = eval\nrun(s)"),
        (DOOR, "compile(s, 'x', 'exec')"),
        (DOOR, "import yaml\nyaml.load(s, yaml.Loader)"),
        (DOOR, "from yaml import unsafe_load"),
        (DOOR, "import pickle"),
        (DOOR, "from importlib import import_module\nimport_module(s)"),
        (DOOR, "from string import Template\nTemplate(s)"),
        (DOOR, "import jinja2"),
        (DOOR, "def f(said): return said.format(x)"),
        (DOOR, "def f(said): return said.format_map(x)"),
        (SERVER, "import runpy"),
    ],
    "network": [
        (RUNNER, "argv = ['nft', '-f', '-']"),
        (RUNNER, "argv = ['/bin/true']; line = 'ip link add br0 type bridge'"),
        ("midsession/testbeds/docker/x.py", "argv = ('tc', 'qdisc', 'add')"),
        ("midsession/testbeds/hosts.py", "argv = ['iptables', '-A', 'INPUT']"),
        ("midsession/testbeds/docker/x.py", "import socket\nsocket.socket(socket.AF_NETLINK)"),
        ("midsession/agent/x.py", "from pyroute2 import NDB"),
        ("midsession/agent/x.py", "open('/proc/sys/net/ipv4/ip_forward', 'w')"),
    ],
    "sleeps": [
        (TEST, "import time\ntime.sleep(1)"),
        (TEST, "from time import sleep as nap\nnap(1)"),
        (TEST, "import asyncio\nasync def f(): await asyncio.sleep(0.1)"),
        (TEST, "import trio\nasync def f(): await trio.sleep(0.1)"),
        (TEST, "import threading\nthreading.Event().wait(0.05)"),
        (TEST, "from threading import Event\nEvent().wait(0.05)"),
        (TEST, "from threading import Event\npause = Event()\ndef test(): pause.wait(0.05)"),
        (TEST, HELD),
        (TEST, "import asyncio\nasync def f(): await asyncio.wait_for(asyncio.Event().wait(), 0.05)"),
        (TEST, "import asyncio\nasync def f(t): await asyncio.wait({t}, timeout=0.01)"),
        (TEST, "import select\nselect.select([], [], [], 0.1)"),
        (TEST, "import time\nwhile not done():\n    assert time.monotonic() < deadline"),
        (TEST, "from time import monotonic as now\nwhile now() < deadline:\n    look()"),
        ("tests/torture/x.py", "import time\ntime.sleep(1)"),
    ],
}  # fmt: skip

INNOCENT: dict[str, list[tuple[str, str]]] = {
    "pure": [
        (CORE, "import re\nre.compile('x')"),
        (CORE, "class A:\n    def open(self): pass\nA().open()"),
        (CORE, "def f(open): return open()"),
        (CORE, "from pathlib import PurePosixPath"),
        (CORE, "import sys\nsys.intern('x')"),
        (CORE, "from midsession.core import plan\nfrom . import units\nfrom ..errors import Problem"),
        (CORE, "def time(): pass\ntime()"),
    ],
    "world": [
        (REPORT, "import os\nos.environ['X']; os.path.exists('x'); os.getpid()"),
        (REPORT, '"""Reads what stands in /proc/1."""'),
        (DOOR, "class Kernel:\n    def kill(self): self.fork()\n    def fork(self): pass"),
        ("midsession/agent/x.py", "import os\nos.fork()"),
        ("midsession/testbeds/x.py", "import subprocess"),
        ("midsession/batch/workers.py", "import asyncio\nasync def f(): await asyncio.create_subprocess_exec('x')"),
    ],
    "waits": [
        (DOOR, "import asyncio\nasyncio.run(main())"),
        (DOOR, "import asyncio\nasync def f(): await asyncio.gather(*work)"),
        (DOOR, "from midsession.select import select\nselect([])"),
        (DOOR, "def wait(): pass\nwait()"),
        (RUNNER, "import asyncio\nasync def f(): await asyncio.sleep(1)"),
        ("midsession/batch/workers.py", "async def f(worker): await worker.wait()"),
    ],
    "modules": [
        (RUNNER, "from midsession.faults import FAULTS, build\nfrom midsession.faults.base import Fault"),
        (RUNNER, "from midsession.testbeds import Host\nfrom midsession.testbeds.registry import make"),
        ("midsession/faults/kill.py", "from midsession.faults.packets import PacketFault"),
        ("midsession/checks/never.py", "from midsession.checks import words"),
        ("midsession/testbeds/docker/x.py", "from midsession.testbeds.docker import engine"),
    ],
    "faults": [
        (RUNNER, '"""After a kill."""\ntext = "kill it"'),
        (RUNNER, "Kill(id=0)"),
        ("midsession/faults/kill.py", "verb = 'kill'"),
        ("midsession/agent/x.py", "class Reset(tag='reset'): pass"),
    ],
    "checks": [
        ("midsession/checks/every.py", "kind = 'every'"),
        ("midsession/core/triggers.py", "when = {'every': group, 'count': 1}"),
        (REPORT, "text = 'every client'"),
    ],
    "testbeds": [
        (DOOR, "testbed = 'auto'"),
        (DOOR, "path = 'docs/netns.md'"),
        ("midsession/testbeds/netns/x.py", "name = 'netns'"),
        ("midsession/testbeds/docker/x.py", "argv = ['docker', 'compose', 'up']"),
        ("midsession/core/plan.py", "class ComposeService(tag='compose'): pass"),
    ],
    "programs": [(DOOR, "server = 1\nserver.close()"), (DOOR, "x.client.name")],
    "shell": [
        (DOOR, "import subprocess\nsubprocess.run(['make', s], check=False)"),
        (DOOR, "text = 'show it'; other = 'push'; path = 'run.sh'"),
        (DOOR, '"""sh -c is never used."""'),
        (DOOR, "import shlex\nshlex.quote(s)"),
    ],
    "evaluates": [
        (DOOR, "import re\nre.compile(s)"),
        (DOOR, "import ast\nast.literal_eval(s)"),
        (DOOR, "'{} {}'.format(1, 2)"),
        (DOOR, "TEXT = 'x {y}'\nTEXT.format(y=1)"),
        (DOOR, "import yaml\nyaml.safe_load(s)"),
        (DOOR, "class Model:\n    def eval(self): pass\nModel().eval()"),
        (DOOR, "import msgspec\nmsgspec.json.format(b'')"),
    ],
    "network": [
        ("midsession/agent/network/x.py", "argv = ['nft', '-f', '-']"),
        (RUNNER, "word = 'ipsum'; other = 'tcp'; key = 'ip=1'"),
        (RUNNER, "import socket\nsocket.AF_INET"),
    ],
    "sleeps": [
        (TEST, "from threading import Event\ngone = Event()\nTimer(1, gone.set)\ngone.wait(10)"),
        (TEST, "import asyncio\nasync def f():\n    news = asyncio.Event()\n    start(news)\n    await news.wait()"),
        (TEST, SET),
        (TEST, "import select\nselect.select([pipe], [], [], 30)"),
        (TEST, "code = 'import time; time.sleep(1)'\nPopen([python, '-c', code])"),
        (TEST, "process.wait(30)"),
        (TEST, "import time\nbegan = time.monotonic()\nwhile read():\n    pass"),
        ("tests/waiting.py", "import time\ntime.sleep(1)"),
    ],
}  # fmt: skip


def named(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(rule, path, text) for rule, cases in table.items() for path, text in cases]


def unexcused(rule: str, path: str, text: str) -> list[str]:
    """What a rule finds in a source at that place, and no exception allows."""
    assert any(is_in(path, where) for where in RULES[rule].where)
    return [found.what for found, but in RULES[rule].broken_by(Source(path, text)) if but is None]


def test_every_rule_is_tried_both_ways() -> None:
    """A new rule comes with what it must find, and with what it must not."""
    assert [*PLANTED] == [*INNOCENT] == [*RULES]


@pytest.mark.parametrize(("rule", "path", "text"), named(PLANTED))
def test_what_is_planted_is_found(rule: str, path: str, text: str) -> None:
    """By whatever name it goes, and however deep it stands."""
    assert unexcused(rule, path, text)


@pytest.mark.parametrize(("rule", "path", "text"), named(INNOCENT))
def test_what_is_innocent_is_left_alone(rule: str, path: str, text: str) -> None:
    """The same word for another thing, or where it may stand."""
    assert unexcused(rule, path, text) == []


def test_an_exception_allows_what_it_says_and_where() -> None:
    """Not another name in the same file, nor the same name in another."""
    but = But("midsession/x.py", ("time.sleep", "*.wait"), "why")
    said = {path: but.allows(path, "time.sleep") for path in ("midsession/x.py", "midsession/y.py", "midsession/x.pyi")}
    assert said == {"midsession/x.py": True, "midsession/y.py": False, "midsession/x.pyi": False}
    assert but.allows("midsession/x.py", "subprocess.Popen().wait")
    assert not but.allows("midsession/x.py", "time.sleeping")
    assert [but.allows("midsession/x.py", what) for what in ("time", "time.time", "ti")] == [True, False, False]
