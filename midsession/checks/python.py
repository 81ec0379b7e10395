"""A check that the user writes in Python."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import msgspec

from midsession.checks.base import Check
from midsession.core.history import CannotTell, History
from midsession.core.texts import MAX_PAYLOAD_BYTES, inner_path
from midsession.core.verdict import Finding, Status
from midsession.core.wrong import Wrong, did_you_mean, quoted
from midsession.regular import read_regular


@dataclass(frozen=True, slots=True)
class Python(Check):
    """The function of `file.py::function` finds the history right; the file is in the scenario's folder or below it.

    The function is given the `History`. It returns True or nothing (kept), False (broken), or a `Finding` of its own;
    a failed `assert` is a failure with its text, `CannotTell` is inconclusive, anything else that it raises or returns
    is an error. It runs in the harness, when the run is judged, and each time that it is judged again; nothing but a
    second Ctrl-C ends one that does not end by itself. A history in which no client did anything is inconclusive
    whatever it returns.
    """

    kind: ClassVar[str] = "python"
    example: ClassVar[str] = """\
- python: promises.py::everybody_was_answered
"""
    files: ClassVar[tuple[str, ...]] = ("python",)

    python: str

    def __post_init__(self) -> None:
        """Raises Wrong for what is not `file.py::function` under the scenario's folder."""
        path, _, function = self.python.partition("::")
        if not path.endswith(".py") or not function.isidentifier():
            remedy = "write it like checks.py::nothing_is_lost"
            raise Wrong("bad-value", f"{quoted(self.python)} names no function", remedy)
        inner_path(path)

    @classmethod
    def refuse(cls, value: str, path: Path) -> None:
        """Raises Wrong when the file cannot be read as Python, or does not define the function."""
        try:
            tree = ast.parse(read_regular(path, MAX_PAYLOAD_BYTES))
        except Wrong:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Wrong("unreadable", f"the file {quoted(path.name)} is no Python: {error}") from None
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        function = value.partition("::")[2]
        if function not in defined:
            message = f"the file {quoted(path.name)} defines no function {quoted(function)}"
            raise Wrong("unknown-function", message, did_you_mean(function, defined))

    @property
    def promise(self) -> str:
        """The promise as one short sentence: the first line of the function's docstring is in the finding."""
        return f"{self.python} holds"

    def judge(self, history: History) -> Finding:
        """Ask the function."""
        function = self._function(history)
        support = sum(1 for client in history.plan.clients if history.of_client(client))
        if not support:
            raise CannotTell("nothing in scope: no client did anything")
        promise = next(iter((function.__doc__ or "").strip().splitlines()), self.promise)
        try:
            answer = function(history)
        except AssertionError as broken:
            text = str(broken).encode("utf-8", "backslashreplace").decode()
            return self._finding(Status.FAIL, promise, text or "an assert without a text failed", 1)
        except SystemExit as left:
            raise RuntimeError(f"it tried to exit ({left.code})") from left
        if isinstance(answer, Finding):
            return msgspec.structs.replace(answer, check=self.kind)
        if answer is None or answer is True:
            return self._finding(Status.PASS, promise, f"{self.python} says so", support)
        if answer is False:
            return self._finding(Status.FAIL, promise, f"{self.python} says no", support)
        raise TypeError(f"it returned {quoted(answer)}, which is neither True, False, nothing nor a Finding")

    def _finding(self, status: Status, promise: str, seen: str, support: int) -> Finding:
        return Finding(check=self.kind, status=status, promise=promise, seen=seen, support=support)

    def _function(self, history: History) -> Callable[[History], Any]:
        name, _, function = self.python.partition("::")
        folder = Path(history.plan.source).parent
        path = (folder / name).resolve()
        if not path.is_file():
            raise CannotTell(f"{folder / name} is not here: judge the run where its scenario is")
        if not path.is_relative_to(folder.resolve()):
            raise PermissionError(f"{self.python} leads out of the scenario's folder by a link")
        found: Callable[[History], Any] = getattr(_module(path), function)
        return found


def _module(path: Path) -> Any:
    """The file as a module of its own, made anew each time; it is entered nowhere and leaves no bytecode behind."""
    loader = _WithAsserts(f"midsession_check_{path.stem}", str(path))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of what it imports
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = kept
    return module


class _WithAsserts(SourceFileLoader):
    """Loads from the source alone, with its asserts, whatever `python -O` and PYTHONOPTIMIZE say."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True, optimize=0)
