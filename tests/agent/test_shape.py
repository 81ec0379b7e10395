"""What netem's mechanism asks of the kernel's tools; what they do is seen on a kernel that has it, see `shaping.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from midsession.agent.answer import Refused
from midsession.agent.loop import Loop
from midsession.agent.network import shape
from midsession.agent.network.impairment import Delay
from midsession.agent.protocol import Impair


class Tools:
    """ip and tc of a kernel with one link, whose address goes when the host has `moved`."""

    def __init__(self) -> None:
        self.devices: dict[str, None] = {}
        self.filters: dict[str, None] = {}
        self.moved = False

    def run(self, argv: Sequence[str], text: str = "") -> str:
        for line in text.splitlines():
            match line.split():
                case ["link", "add", device, *_]:
                    self.devices[device] = None
                case ["link", "del", device]:
                    del self.devices[device]
                    self.filters.pop(f"{device} egress", None)
                case ["filter", "add", "dev", link, hook, *_]:
                    self.filters[f"{link} {hook}"] = None
                case ["filter", "del", "dev", link, hook, *_]:
                    del self.filters[f"{link} {hook}"]
        if "filter" in argv:
            return json.dumps([{"pref": 1}] if " ".join(argv[-2:]) in self.filters else [])
        return json.dumps([{"dev": device, "root": True, "packets": 1} for device in self.devices])

    def interface_of(self, address: str) -> str:
        if self.moved:
            raise Refused(f"no interface of this host has the address {address}")
        return "eth0"


def test_an_impairment_ends_where_it_began_though_the_host_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is the same, whatever address it has by now."""
    tools = Tools()
    monkeypatch.setattr(shape.tool, "run", tools.run)
    monkeypatch.setattr(shape, "interface_of", tools.interface_of)
    nobody: Any = None  # no packet is seen, so nothing is told
    shaping = shape.Shaping(Loop(), nobody)
    shaping.put(Impair(id=0, fault="slow", own="10.9.0.1", how=Delay(latency_s=0.05)), "")
    assert list(tools.filters) == ["eth0 ingress", "eth0 egress"]
    tools.moved = True
    assert shaping.take("slow") == {"packets": 2, "lost": 0}
    assert (shaping.remains_of("slow"), tools.filters) == ("", {})
