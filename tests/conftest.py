"""How the suite is dealt to two workers (`tools/test`): files that use the engine to one, each other file to either.

An engine does one thing at a time, and most of those tests wait for it; the other worker has the rest meanwhile. The
tests of one file stay together, because they share fixtures. (Not pytest-xdist's own `loadgroup`: it deals as if there
were no groups, and says nothing, with pytest 9.2; https://github.com/pytest-dev/pytest-xdist/issues/1386.)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parents[1]
_ENGINE = "mark.docker"


class ByFile(LoadScopeScheduling):
    """Deals whole files, and those that use the engine as if they were one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "engine" if uses_engine(_ROOT / file) else file


@cache
def uses_engine(file: Path) -> bool:
    """Whether tests of this file say that they need an engine."""
    return _ENGINE in file.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Instead of what `--dist` names."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    items.sort(key=lambda item: not uses_engine(item.path))
