"""How the suite is dealt to two workers (`tools/test`): what uses the engine to one, each other file to either.

An engine does one thing at a time, and most of those tests wait for it; the other worker has the rest meanwhile. The
tests of one file stay together, because they share fixtures.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name each test's group, before pytest-xdist looks for it."""
    for item in items:
        group = "engine" if item.get_closest_marker("docker") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
