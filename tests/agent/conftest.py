from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conductor import Agent, TestConductor


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent on pipes, gone after the test whatever happens."""
    process = Agent("--stdio")
    yield process
    process.end()


@pytest.fixture
def conductor(agent: Agent, tmp_path: Path) -> TestConductor:
    """A conductor of that agent; the run directory is the test's own."""
    return agent.conductor(tmp_path)
