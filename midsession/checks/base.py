"""What a check is: a frozen dataclass whose fields are its YAML, and a function from a history to a finding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from midsession.core.history import History
from midsession.core.record import Record
from midsession.core.verdict import Finding


@dataclass(frozen=True, slots=True)
class Check(ABC):
    """Base of every check: a frozen dataclass whose fields are its YAML. The class docstring is its exact meaning.

    The field that is called as the `kind` is the key that names the check; a field `within_s` is `within: 1s`, a field
    `as_` is `as: …` (`midsession.core.units`). Values that contradict each other are a ValueError of `__post_init__`.

    The rules of truth: nothing in scope is inconclusive; absence is believed only of complete logs and a living
    observer; a pass has a support of at least one. Where the history cannot answer, a check lets the history's
    `CannotTell` through, and the finding is inconclusive with its text. Anything else that it raises makes the run an
    error.
    """

    kind: ClassVar[str]
    """The key that names it in YAML (`every`, `never`, …)."""

    example: ClassVar[str] = ""
    """YAML for the docs: a list of such checks, as in a scenario."""

    files: ClassVar[tuple[str, ...]] = ()
    """The fields that name a file of the scenario's folder, as `path` or `path::what`: scenarios with a path that leads
    out of it are refused."""

    @classmethod  # noqa: B027 - most checks name no file, and have nothing to refuse
    def refuse(cls, value: str, path: Path) -> None:
        """Look at the file of such a field, before any run. Raises Wrong when it will not do."""

    @property
    @abstractmethod
    def promise(self) -> str:
        """The promise as one short sentence."""

    @abstractmethod
    def judge(self, history: History) -> Finding:
        """Judge the history. `place` is filled in by the caller."""

    def claims(self, history: History) -> Sequence[Record]:
        """The records that are this check's business alone: what is judged in every run leaves them to it."""
        return ()
