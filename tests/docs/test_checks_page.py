"""docs/checks.md says what the code says, and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from midsession import language
from midsession.checks import CHECKS
from tools import checks_page

PROMISES = Path(__file__).parents[1] / "checks" / "promises" / "promises.py"
SCENARIO = """\
name: An example
services: {server: {reference: reply, port: 4000}}
clients:
  talkers: {connect: server:4000, script: [end]}
  writers: {connect: server:4000, script: [end]}
  reader: {connect: server:4000, script: [end]}
  drivers: {command: [driver]}
timeline:
  - {id: crash, when: {at: 1s}, kill: server}
  - {id: return, when: {at: 2s}, start: server}
checks:
"""


def test_the_page_is_made_from_the_code() -> None:
    """Run `python tools/checks_page.py` after a change of a check."""
    assert checks_page.PAGE.read_text(encoding="utf-8") == checks_page.page()


def test_every_check_has_its_heading_and_an_example_of_itself() -> None:
    """So that the links of the other pages lead somewhere."""
    headings = re.findall(r"^## (\S+)$", checks_page.page(), re.M)
    assert headings == [*CHECKS]
    assert [kind for kind, check in CHECKS.items() if f"- {kind}:" not in check.example] == []


@pytest.mark.parametrize("kind", CHECKS)
def test_an_example_is_a_right_scenario(kind: str, tmp_path: Path) -> None:
    """As the page shows it."""
    (tmp_path / "promises.py").write_text(PROMISES.read_text())
    path = tmp_path / "x.scenario.yaml"
    path.write_text(SCENARIO + "".join(f"  {line}\n" for line in CHECKS[kind].example.splitlines()))
    (plan,) = language.plans(path, 1)
    assert {check.kind for check in plan.checks} == {kind}
