"""Which plans to run: seeds, names of plans, and expressions over them as `-k` takes them (and, or, not, words)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from midsession import language
from midsession.core.plan import Plan
from midsession.errors import Problem, ScenarioError

Predicate = Callable[[str], bool]

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


def fresh_seed() -> int:
    """A seed from the system's randomness: the one draw that is made outside a plan."""
    return secrets.randbelow(2**32)


def variant(plan: Plan) -> str:
    """The combination of the matrix, `[clients=50,server=a]`; empty without a matrix."""
    inner = ",".join(f"{key}={value}" for key, value in plan.matrix.items())
    return f"[{inner}]" if inner else ""


def plan_id(plan: Plan) -> str:
    """The plan's name among all: its file and its variant."""
    return f"{plan.source}{variant(plan)}"


def select(paths: Iterable[Path], seed: int, keyword: str = "", tags: Sequence[str] = ()) -> list[Plan]:
    """The plans of these files and folders whose id or title fits `keyword`, with one of `tags` (if there are any).

    Raises ScenarioError, with the problems of every file together.
    """
    fits, plans, problems = expression(keyword), list[Plan](), list[Problem]()
    for path in language.collect(paths):
        try:
            plans += language.plans(path, seed)
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems)
    wanted = set(tags)
    return [p for p in plans if fits(f"{plan_id(p)} {p.name}") and (not wanted or wanted & set(p.tags))]


def expression(text: str) -> Predicate:
    """Compile `kill and not (slow or [clients=1])`: each word asks whether it stands in the name, upper or lower case
    alike. The empty expression fits everything. Raises ScenarioError."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        return lambda _: True
    parser = _Parser(text, tokens)
    result = parser.either()
    if parser.tokens:
        parser.fail(f"nothing was expected where {parser.tokens[0]!r} stands")
    return result


class _Parser:
    """Recursive descent: either := both (or both)*; both := one (and one)*; one := not one | ( either ) | word."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text, self.tokens = text, tokens

    def either(self) -> Predicate:
        parts = [self.both()]
        while self._take("or"):
            parts.append(self.both())
        return lambda name: any(part(name) for part in parts)

    def both(self) -> Predicate:
        parts = [self.one()]
        while self._take("and"):
            parts.append(self.one())
        return lambda name: all(part(name) for part in parts)

    def one(self) -> Predicate:
        if self._take("not"):
            inner = self.one()
            return lambda name: not inner(name)
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                self.fail("a bracket is not closed")
            return inner
        if not self.tokens or self.tokens[0] in {")", "and", "or"}:
            self.fail("a word is missing")
        word = self.tokens.pop(0).lower()
        return lambda name: word in name.lower()

    def _take(self, token: str) -> bool:
        if self.tokens[:1] != [token]:
            return False
        self.tokens.pop(0)
        return True

    def fail(self, message: str) -> None:
        raise ScenarioError([Problem(f"the expression {self.text!r} cannot be read: {message}", "bad-keyword")])
