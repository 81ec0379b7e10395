"""Which plans to run: names of plans, and expressions over them as `-k` takes them (and, or, not, words)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from midsession.core.plan import Plan
from midsession.errors import NothingSelected, Problem, ScenarioError
from midsession.report.text import count, visible

if TYPE_CHECKING:
    from midsession.language import ScenarioFile

Predicate = Callable[[str], bool]

_DEEPEST = 100
"""How many brackets and `not` may lie in each other: nobody reads more, and each is a call in the next."""
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


def variant(plan: Plan) -> str:
    """The combination of the matrix, `[clients=50,server=a]`; empty without a matrix."""
    return _combination(plan.matrix)


def plan_id(plan: Plan) -> str:
    """The plan's name among all: its file and its variant."""
    return f"{plan.source}{variant(plan)}"


def _combination(matrix: Mapping[str, object]) -> str:
    inner = ",".join(f"{key}={value}" for key, value in matrix.items())
    return f"[{inner}]" if inner else ""


@dataclass(frozen=True, slots=True)
class Selected:
    """Some scenario files, read once, with the variants that are wanted: their plans can be drawn for any seed."""

    files: list[ScenarioFile]

    def plans(self, seed: int) -> list[Plan]:
        """The plans with their draws, in the order of the files."""
        return [plan for file in self.files for plan in file.plans(seed)]


def narrowed(files: Sequence[ScenarioFile], keyword: str = "", tags: Sequence[str] = ()) -> Selected:
    """Of these files, the plans whose id or title fits `keyword`, with one of `tags` (if there are any).

    Raises ScenarioError for a keyword that cannot be read, NothingSelected when no plan is left.
    """
    fits = expression(keyword)
    chosen = [_narrowed(file, fits, set(tags)) for file in files]
    if not any(file.variants for file in chosen):
        raise _nothing(files, keyword, tags)
    return Selected([file for file in chosen if file.variants])


def select(paths: Iterable[Path], keyword: str = "", tags: Sequence[str] = ()) -> Selected:
    """Read these files and folders, and narrow them down, see `narrowed`.

    Raises ScenarioError, with the problems of every file together, and NothingSelected when no plan is left.
    """
    from midsession import language  # a worker never needs it

    expression(keyword)  # a wrong one is told before any file is read
    files: list[ScenarioFile] = []
    problems: list[Problem] = []
    for path in language.collect(paths):
        try:
            files.append(language.load(path))
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems)
    return narrowed(files, keyword, tags)


def _narrowed(file: ScenarioFile, fits: Predicate, tags: set[str]) -> ScenarioFile:
    """The file with those of its variants that fit."""
    known = not tags or tags & set(file.tags)
    named = [v for v in file.variants if known and fits(f"{file.path}{_combination(v.matrix)} {v.scenario.name}")]
    return replace(file, variants=named)


def _nothing(files: Sequence[ScenarioFile], keyword: str, tags: Sequence[str]) -> NothingSelected:
    if not files:
        return NothingSelected("there is no *.scenario.yaml", "name a file, or a folder that has some")
    asked = [*([f"-k {keyword!r}"] if keyword else []), *(f"-t {tag!r}" for tag in tags)]
    fits = f"none of {count(sum(len(file.variants) for file in files), 'plan')} fits {' '.join(asked)}"
    return NothingSelected(fits, "`midsession list` names the plans with their tags")


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
        self.depth = 0

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
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"brackets and `not` lie in each other more than {_DEEPEST} deep")
        result = self._one()
        self.depth -= 1
        return result

    def _one(self) -> Predicate:
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
        shown = visible(repr(self.text), 200)
        raise ScenarioError([Problem(f"the expression {shown} cannot be read: {message}", "bad-keyword")])
