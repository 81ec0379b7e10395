"""The kinds of wrong that are not ours.

`ScenarioError` is the user's: bad input, with place and remedy. `EnvironmentLacks` is the machine's: something that
must be installed or allowed. `HarnessError` is a part of Midsession that failed while a run was under way (an agent
that died, a disk that is full); the run is then an `error`, never a `pass`. What a *peer* does wrong is no exception
at all: it is a record in the history. Our own mistakes are `assert`s and are never caught.

Every error carries a slug; each slug is a heading in `docs/errors.md`, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EMFILE


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a source text something stands. Line and column count from 1; `snippet` is the whole source line.

    In Python objects it is a `path` from the whole, like `.clients.talkers.script[0]`.
    """

    file: str
    line: int
    column: int
    snippet: str = ""
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.file}{self.path}"
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a scenario: where, what, and what to do about it."""

    message: str
    slug: str
    place: Place | None = None
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        head = f"{where}{self.message}{remedy}  [{self.slug}]"
        if self.place and self.place.snippet:
            return f"{head}\n    {self.place.snippet}\n    {' ' * (self.place.column - 1)}^"
        return head


class MidsessionError(Exception):
    """Base of the errors that a user can mend; the doors print them without a traceback."""

    exit_code = 3


class ScenarioError(MidsessionError):
    """A scenario cannot be used. Holds every problem that was found, in the order of their places."""

    exit_code = 4

    def __init__(self, problems: list[Problem]) -> None:
        assert problems
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


class NothingSelected(MidsessionError):
    """No plan is there to be run, or none fits what was asked for."""

    exit_code = 5

    def __init__(self, missing: str, remedy: str, slug: str = "nothing-selected") -> None:
        self.slug = slug
        super().__init__(f"{missing}; {remedy}  [{slug}]")


class EnvironmentLacks(MidsessionError):
    """This machine (kernel, engine, project) lacks what the run needs. Says what, and the remedy."""

    exit_code = 10

    def __init__(self, missing: str, remedy: str, slug: str = "environment-lacks") -> None:
        self.missing, self.remedy, self.slug = missing, remedy, slug
        super().__init__(f"{missing}; {remedy}  [{slug}]")


def few_files(seen: str, needed: int = 1024) -> EnvironmentLacks:
    """A process may not have as many files open as it must."""
    return EnvironmentLacks(seen, f"allow more: ulimit -n {needed}", "open-files")


def lacks_files(error: OSError) -> EnvironmentLacks | None:
    """What an error lacks that says so (EMFILE); None for any other."""
    return few_files(str(error.strerror)) if error.errno == EMFILE else None


class HarnessError(MidsessionError):
    """A part of the harness failed while a run was under way; the run cannot be trusted."""

    exit_code = 3

    def __init__(self, message: str, slug: str = "harness-error") -> None:
        self.slug = slug
        super().__init__(f"{message}  [{slug}]")
