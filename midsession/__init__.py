"""Midsession: break a TCP service in the middle of its clients' sessions, and judge what each client saw.

Importing this package is cheap on purpose: agents and fleets import `midsession.core` from inside every host. What the
public door needs is imported when it is first used:

    run = midsession.run("kill.scenario.yaml", seed=7)
    assert run.events("lost").of("talkers").since("crash").within(1.0)
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would take longer to import than all that the program does before it can be left
if TYPE_CHECKING:
    from typing import Any

    from midsession.core.history import History
    from midsession.core.verdict import Verdict
    from midsession.door import Run, run
    from midsession.errors import EnvironmentLacks, MidsessionError, NothingSelected, ScenarioError

__version__ = "0.1.0"

__all__ = [
    "EnvironmentLacks",
    "History",
    "MidsessionError",
    "NothingSelected",
    "Run",
    "ScenarioError",
    "Verdict",
    "__version__",
    "run",
]

_HOMES = {
    "History": "midsession.core.history",
    "Verdict": "midsession.core.verdict",
    "Run": "midsession.door",
    "run": "midsession.door",
    "EnvironmentLacks": "midsession.errors",
    "MidsessionError": "midsession.errors",
    "NothingSelected": "midsession.errors",
    "ScenarioError": "midsession.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
