"""Write docs/checks.md from the checks themselves: their docstrings are their exact meaning. A test compares.

python tools/checks_page.py [docs/checks.md]
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from midsession.checks import ALWAYS, CHECKS
from midsession.checks.base import Check
from midsession.core.units import split_name

PAGE = Path(__file__).parents[1] / "docs" / "checks.md"
HEAD = """# Checks

A check is a promise over the history of a run. Its finding is one of four words: *pass*, *fail*, *inconclusive*,
*error*. The worst word of all findings is the run's.

- **Nothing in scope is never a pass.** Each finding says how many cases it looked at.
- **Absence is believed only of whole logs and living observers.** A log that is cut, a client that nobody heard of, a
  step that never fired: inconclusive, with the reason.
- **What relies on a fault that proves nothing has no say**, for or against: see
  [when a fault counts](faults.md#when-a-fault-counts). A check relies on the steps from which it counts (`since`; one
  in Python on those of which it asks the history), and on those that these came after (by `after` or `since`). Have
  each check count from the fault whose effect it is about: what was not broken is then not called a failure.
- **A check that crashes is an error**, and an error is worse than a failure.
- **A check that cannot fail can be found**: `midsession audit RUN` judges each check again over the same run, spoilt;
  with `--without-faults` it also runs the scenario with nothing broken, where one check at least must not pass.

`midsession check RUN` judges a stored run again; the same checks over the same run give the same findings, byte for
byte.

*This page is made from the code by `python tools/checks_page.py`.*
"""
ALWAYS_HEAD = """
## Always on

These cannot be named in a scenario; they are judged in every run.
"""


def page() -> str:
    """The whole page."""
    named = [_entry(check) for check in CHECKS.values()]
    always = [f"\n### {check.kind}\n\n{inspect.getdoc(check)}\n" for check in ALWAYS.values()]
    return "".join([HEAD, *named, ALWAYS_HEAD, *always])


def _entry(check: type[Check]) -> str:
    """One check: what it means, what its mapping holds, and what it looks like."""
    nested = "".join(f"\n{text}\n" for text in _mappings(check))
    return f"\n## {check.kind}\n\n{inspect.getdoc(check)}\n{nested}\n```yaml\nchecks:\n{_indented(check.example)}```\n"


def _mappings(check: type[Check]) -> Iterator[str]:
    hints = get_type_hints(check)
    for field in dataclasses.fields(check):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            keys = ", ".join(f"`{split_name(key.name)[0]}`" for key in dataclasses.fields(inner))
            said = " ".join((inspect.getdoc(inner) or "").split())
            yield textwrap.fill(f"`{split_name(field.name)[0]}` holds {keys}. {said}", 120, break_on_hyphens=False)


def _indented(yaml: str) -> str:
    return "".join(f"  {line}\n" for line in yaml.splitlines())


if __name__ == "__main__":
    Path(*(sys.argv[1:2] or [str(PAGE)])).write_text(page(), encoding="utf-8")
