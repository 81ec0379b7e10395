"""What the tests of faults share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from midsession.door import Bench
from midsession.testbeds.netns.testbed import NetnsTestbed


@pytest.fixture(scope="module")
def netns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Bench]]:
    """One warm testbed for the tests of a module, and the loop that it runs on."""
    bench = Bench(NetnsTestbed(), tmp_path_factory.mktemp("runs"))
    with asyncio.Runner() as runner:
        yield runner, bench
        runner.run(bench.shut())
