"""What a packet is, for the faults that count, hold and measure them: what goes over a wire, and nothing larger.

Programs send more in one piece: a stream in up to 64 KiB (GSO), a datagram of any length. `tests/test_calibration.py`
has the streams; here are the datagrams.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from midsession.door import Bench, Run
from midsession.language import plans

pytestmark = pytest.mark.netns

ECHO = """
import socket
door = socket.create_server(('0.0.0.0', 4000))
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(('0.0.0.0', 4000))
print('listening', flush=True)
while True:
    data, asker = echo.recvfrom(65536)
    echo.sendto(data, asker)
"""
ASK = """
import socket, signal
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.connect(('echo', 4000))
asker.settimeout(2.0)
print('begun', flush=True)
answered = 0
for number in range(5):
    datagram = bytes([number]) * SIZE
    asker.send(datagram)
    try:
        while asker.recv(65536) != datagram:  # the copy of one before
            pass
        answered += 1
    except TimeoutError:
        pass
print('answered', answered, flush=True)
signal.pause()
"""
TEMPLATE = """
name: Datagrams that are longer than a packet
timeout: 30s
services:
  echo: {{command: [python3, -c, {echo}], port: 4000, ready: {{line: listening}}}}
  asker: {{command: [python3, -c, {ask}], port: 4001, autostart: false, ready: {{line: begun}}}}
clients:
  idlers:
    count: 1
    connect: echo:4000
    script: [{{wait: {{signal: over}}}}, abort]
timeline:
  - id: fault
    when: {{every: idlers, event: connected}}
    {fault}
  - when: {{event: injected, of: echo}}
    start: asker
  - id: cure
    when: {{log: {{service: asker, contains: answered}}}}
    heal: fault
  - when: {{after: cure}}
    signal: over
checks:
  - count: {{event: injected}}
    at_least: 1
"""


def perform(netns: tuple[asyncio.Runner, Bench], folder: Path, fault: str, size: int) -> tuple[Run, str]:
    """The run, and what the asker says in the end."""
    path = folder / "datagrams.scenario.yaml"
    ask = ASK.replace("SIZE", str(size))
    path.write_text(TEMPLATE.format(fault=fault, echo=json.dumps(ECHO), ask=json.dumps(ask)))
    (plan,) = plans(path, 1)
    runner, bench = netns
    run = runner.run(bench.perform(plan))
    return run, [str(r.fields["text"]) for r in run.events("line").on("asker")][-1]


HELD = [
    "delay: {target: echo, latency: 20ms}",
    "delay: {target: echo, direction: from, latency: 20ms}",
    "duplicate: {target: echo, every: 2}",
    "rate: {target: echo, bandwidth: 1MB/s}",
]


@pytest.mark.parametrize("fault", HELD)
@pytest.mark.parametrize("size", [1000, 4000, 60000])
def test_a_long_datagram_comes_through_what_holds_packets(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path, fault: str, size: int
) -> None:
    """A host cuts it behind the place where it is held: so it is held whole, and cut by whoever sends it then."""
    run, said = perform(netns, tmp_path, fault, size)
    assert run.verdict.status == "pass", run.verdict
    assert said == "answered 5"


def test_a_datagram_in_pieces_that_are_small_enough_is_not_too_long(
    netns: tuple[asyncio.Runner, Bench], tmp_path: Path
) -> None:
    """What vanishes under `mtu` is what is too long on the wire, not what was put together from there."""
    run, said = perform(netns, tmp_path, "mtu: {target: echo, size: 1500B}", 4000)
    assert said == "answered 5"
    (healed,) = run.events("healed")
    assert healed.fields["packets"] == 0


def test_each_piece_counts(netns: tuple[asyncio.Runner, Bench], tmp_path: Path) -> None:
    """Three to a datagram of 4000 bytes: five datagrams have fifteen, of which each fifteenth is lost."""
    run, said = perform(netns, tmp_path, "loss: {target: echo, with: asker, every: 15}", 4000)
    assert run.verdict.status == "pass", run.verdict
    assert said == "answered 4"
    (healed,) = run.events("healed")
    assert (healed.fields["packets"], healed.fields["seen"]) == (1, 15)
