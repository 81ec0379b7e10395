"""Every slug that a message can end with has its heading in docs/errors.md, and every heading its slug."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from midsession.errors import Place, Problem, ScenarioError

ROOT = Path(__file__).parent.parent
# The call → where in its arguments the slug stands, by position; by keyword it is always `slug`.
CALLS = {"Wrong": 0, "_wrong": 0, "Problem": 1, "HarnessError": 1, "EnvironmentLacks": 2}
MADE_BY_NOUN = {"unknown-key", "unknown-verb", "unknown-action"}  # f"unknown-{cls.noun}"
TABLES = {"_SLUGS"}
AT_THE_END = re.compile(r"  \[([a-z][a-z0-9-]+)\]$")
"""A message that is printed as it stands."""


def raised() -> Iterator[str]:
    """Every slug literal of the package: arguments of the errors' constructors, defaults, and tables of slugs."""
    for path in sorted((ROOT / "midsession").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from AT_THE_END.findall(node.value)
            if isinstance(node, ast.Call):
                yield from _of_call(node)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in TABLES:
                yield from ast.literal_eval(node.value).values()
            if isinstance(node, ast.FunctionDef):
                yield from _of_defaults(node)


def _of_call(call: ast.Call) -> Iterator[str]:
    position = CALLS.get(ast.unparse(call.func).rpartition(".")[2])
    if position is None:
        return
    given = [k.value for k in call.keywords if k.arg == "slug"] + call.args[position : position + 1]
    yield from (a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _of_defaults(function: ast.FunctionDef) -> Iterator[str]:
    names = [a.arg for a in function.args.args][-len(function.args.defaults) or None :]
    for name, default in zip(names, function.args.defaults, strict=False):
        if name == "slug" and isinstance(default, ast.Constant):
            yield default.value


def test_slugs_and_headings_are_the_same() -> None:
    """A message's last word can be looked up; a heading whose error is gone goes too."""
    slugs = set(raised()) | MADE_BY_NOUN
    headings = re.findall(r"^### (\S+)$", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.M)
    assert len(slugs) > 40
    assert sorted(headings) == sorted(slugs)


def test_a_slug_is_words_and_hyphens() -> None:
    """Slugs are lower-case words, fit for a link."""
    assert [slug for slug in raised() if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", slug)] == []


def test_a_problem_prints_its_place_remedy_slug_and_caret() -> None:
    """The whole form of a message, as the documentation shows it."""
    place = Place("kill.scenario.yaml", 14, 5, "    kil: server")
    problem = Problem("unknown action 'kil'", "unknown-action", place, "did you mean 'kill'?")
    assert str(ScenarioError([problem])) == (
        "kill.scenario.yaml:14:5: unknown action 'kil'; did you mean 'kill'?  [unknown-action]\n"
        "        kil: server\n"
        "        ^"
    )
