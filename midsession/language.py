"""The door of the scenario language: files in, plans out. The only part of it that reads files and the environment.

`load` reads a scenario and finds everything that is wrong with it; `plans` draws its plans; `collect` finds scenario
files; `json_schema` describes the language to editors. The registries of faults and checks meet the model here.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from midsession.core.compile import compile_checks, compile_plan
from midsession.core.loader import LIMITS, Node, in_order, parse, replace_variables
from midsession.core.objects import tree_of
from midsession.core.outline import outline
from midsession.core.plan import CheckPlan, Plan
from midsession.core.references import file_nodes, reference_problems
from midsession.core.scalars import Scalar
from midsession.core.scenario import CheckEntry, Language, Scenario
from midsession.core.shape import problems_of
from midsession.core.texts import MAX_PAYLOAD_BYTES, compose_path, inner_path
from midsession.core.units import split_name
from midsession.core.wrong import Wrong, quoted
from midsession.errors import Place, Problem, ScenarioError
from midsession.regular import read_regular

SUFFIX = ".scenario.yaml"
SCHEMA_FILE = "midsession.schema.json"
MAX_COMBINATIONS = 256


@cache
def language() -> Language:
    """The language with every fault and check that Midsession has."""
    from midsession.checks import CHECKS
    from midsession.faults import FAULTS

    return Language(FAULTS, CHECKS)


@dataclass(frozen=True, slots=True)
class Variant:
    """A scenario with one combination of its matrix filled in."""

    matrix: dict[str, Scalar]
    scenario: Scenario
    tree: Node


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A scenario file that was found to be right. `files` holds the bytes of the files that it names."""

    path: Path
    variants: list[Variant]
    files: dict[str, bytes]

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.variants[0].scenario.name

    @property
    def tags(self) -> list[str]:
        """The scenario's tags."""
        return list(self.variants[0].scenario.tags)

    @property
    def about(self) -> str:
        """The scenario's story."""
        return self.variants[0].scenario.about

    def plans(self, seed: int) -> list[Plan]:
        """One plan for each combination of the matrix, in the order of the file."""
        return [
            compile_plan(v.scenario, v.tree, path=str(self.path), seed=seed, matrix=v.matrix, files=self.files)
            for v in self.variants
        ]


def load(path: Path, env: Mapping[str, str] | None = None, using: Language | None = None) -> ScenarioFile:
    """Read a scenario. Raises ScenarioError with everything that is wrong, in the order of the file.

    `env` is what `${{ env.X }}` sees (the process's own environment by default), `using` another language than
    Midsession's.
    """
    return _read(parse(_source(path), str(path)), path, env, using or language())


def load_objects(scenario: Mapping[str, object], path: Path) -> ScenarioFile:
    """Read a scenario from Python objects: the same keys and values as in YAML. `path` is where its file would be.

    Raises ScenarioError with everything that is wrong; places are paths into the objects.
    """
    return _read(tree_of(scenario), path, None, language())


def _read(tree: Node, path: Path, env: Mapping[str, str] | None, spoken: Language) -> ScenarioFile:
    readings = [
        _Reading(tree, matrix, os.environ if env is None else env, spoken) for matrix in _combinations(tree, env)
    ]
    files, problems = _files(path.parent, [reading.tree for reading in readings], spoken)
    problems += [problem for reading in readings for problem in reading.problems]
    if problems:
        raise ScenarioError(in_order(problems))
    return ScenarioFile(path, [reading.variant() for reading in readings], files)


def plans(path: Path, seed: int) -> list[Plan]:
    """Read a scenario and draw its plans. Raises ScenarioError."""
    return load(path).plans(seed)


def read_checks(path: Path, plan: Plan, env: Mapping[str, str] | None = None) -> list[CheckPlan]:
    """The checks of a file with a list `checks` (a whole scenario has one, too), for a run of this plan.

    What they name must be in the plan; files of theirs are looked for beside its scenario. Raises ScenarioError with
    everything that is wrong, at its place in this file.
    """
    spoken = language()
    alone = _without(parse(_source(path), str(path)), spoken.scenario.yaml_keys().keys() - {"checks"})
    tree, problems = replace_variables(alone, plan.matrix, os.environ if env is None else env)
    read, found = list[CheckEntry](), list[Problem]()
    try:
        read = spoken.checks_file.model_validate(tree.data).checks  # type: ignore[attr-defined]
    except ValidationError as error:
        found += problems_of(error, tree)
    whole = outline(plan, tree.get("checks") or Node([], tree.place))
    found += [*reference_problems(whole, spoken), *_files(Path(plan.source).parent, [whole], spoken)[1]]
    unread = {problem.place for problem in problems}
    problems += [problem for problem in found if problem.place not in unread]
    if problems:
        raise ScenarioError(in_order(problems))
    return compile_checks(read, tree)


def _without(tree: Node, keys: Collection[str]) -> Node:
    """A mapping without some of its keys; any other node as it is."""
    if not isinstance(tree.value, dict):
        return tree
    return replace(tree, value={key: node for key, node in tree.items() if key not in keys})


def collect(paths: Iterable[Path]) -> list[Path]:
    """The scenario files among and under these paths, sorted within each, each once.

    A file that is named counts whatever its name; folders are searched for `*.scenario.yaml`, hidden ones and symbolic
    links to folders left out. Raises ScenarioError for a path that does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not os.path.exists(path):
            raise ScenarioError([Problem(f"there is no file or folder {quoted(str(path))}", "unreadable")])
        found.update(dict.fromkeys(sorted(_under(path)) if path.is_dir() else [path]))
    return list(found)


def _under(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if name.endswith(SUFFIX))


def json_schema() -> dict[str, Any]:
    """The language as a JSON Schema (draft 7) for editors."""
    from midsession.core.schema import draft7
    from midsession.core.shape import Model
    from midsession.docstrings import describe

    scenario = language().scenario
    describe(Model)
    return draft7(scenario)


def schema_text() -> str:
    """The text of `midsession.schema.json`."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


# --- the matrix ----------------------------------------------------------------------------------------------------


class _Reading:
    """One combination of the matrix: the tree with it filled in, its model, and what is wrong with them."""

    def __init__(self, tree: Node, matrix: dict[str, Scalar], env: Mapping[str, str], spoken: Language) -> None:
        self.matrix = matrix
        self.tree, self.problems = replace_variables(tree, matrix, env)
        wrong = {problem.place for problem in self.problems}
        self._scenario: Scenario | None = None
        try:
            self._scenario = spoken.scenario.model_validate(self.tree.data)
        except ValidationError as error:
            self.problems += [p for p in problems_of(error, self.tree) if p.place not in wrong]
        self.problems += [p for p in reference_problems(self.tree, spoken) if p.place not in wrong]

    def variant(self) -> Variant:
        """The reading of a file without problems."""
        assert self._scenario is not None
        return Variant(self.matrix, self._scenario, self.tree)


def _combinations(tree: Node, env: Mapping[str, str] | None) -> list[dict[str, Scalar]]:
    """Every combination of the matrix; raises ScenarioError for one that is not a matrix, or too large."""
    node = tree.get("matrix")
    if node is None:
        return [{}]
    node, problems = replace_variables(node, {}, os.environ if env is None else env)
    axes: dict[str, list[Scalar]] = {}
    for key, values in node.items():
        axes[key] = [v.value for v in values.each() if not isinstance(v.value, list | dict) and v.value is not None]
        if not axes[key] or len(axes[key]) != len(list(values.each())):
            said = f"the matrix key {quoted(key)} must have a list of numbers, texts or booleans"
            problems.append(Problem(said, "bad-matrix", values.place, "write it like clients: [1, 50]"))
    if not isinstance(node.value, dict):
        problems.append(Problem("the matrix must be a mapping", "bad-matrix", node.place, "like clients: [1, 50]"))
    if (count := prod(map(len, axes.values()))) > MAX_COMBINATIONS:
        said = f"the matrix has {count} combinations; at most {MAX_COMBINATIONS} are run"
        problems.append(Problem(said, "bad-matrix", node.place, "shorten its lists"))
    if problems:
        raise ScenarioError(in_order(problems))
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


# --- files ---------------------------------------------------------------------------------------------------------


def _source(path: Path) -> bytes:
    try:
        return read_regular(_writable(path), LIMITS.bytes + 1)
    except (OSError, ValueError, Wrong) as error:
        raise ScenarioError([Problem(_reason(error), "unreadable", Place(str(path), 1, 1))]) from None


def _writable(path: Path) -> Path:
    """The path, if plans, logs and reports can hold it. Raises Wrong."""
    if not str(path).isprintable():
        raise Wrong("unreadable", "its path holds what is no text, and would stand in logs and reports: rename it")
    return path


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"the file cannot be read: {said}"


def _files_of_checks(tree: Node, spoken: Language) -> Iterator[tuple[Any, Node]]:
    """Every file that a check names: the check's class, and the node of the name."""
    checks = tree.get("checks")
    for node in checks.each() if checks else ():
        cls = spoken.checks.get(spoken.check_kind(dict(node.items())) or "")
        for key in getattr(cls, "files", ()):
            if named := node.get(split_name(key)[0]):
                yield cls, named


def _files(folder: Path, trees: list[Node], spoken: Language) -> tuple[dict[str, bytes], list[Problem]]:
    """Read what the scripts send from files, and see that every path stays in the scenario's folder."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    for check, node in (found for tree in trees for found in _files_of_checks(tree, spoken)):
        named = node.value if isinstance(node.value, str) else ""
        try:
            inner = inner_path(named.partition("::")[0])
        except Wrong:
            continue  # the check itself has said so
        try:
            check.refuse(named, _inside(folder, inner))
        except (OSError, ValueError) as error:
            problems.append(_unusable(error, node))
    for kind, node in (found for tree in trees for found in file_nodes(tree)):
        if not isinstance(node.value, str):
            continue
        try:
            inside = _inside(folder, (compose_path if kind == "compose" else inner_path)(node.value))
            if kind in ("send", "copy"):
                files[node.value] = _payload(inside, folder)
            elif kind == "compose":
                _payload(inside, folder)
            elif not inside.is_dir():
                raise Wrong("unreadable", f"{quoted(node.value)} is no folder")
            if kind == "copy":
                _text(files[node.value])
        except (OSError, ValueError) as error:
            problems.append(_unusable(error, node))
    return files, problems


def _unusable(error: Exception, node: Node) -> Problem:
    wrong = error if isinstance(error, Wrong) else Wrong("unreadable", _reason(error))
    return Problem(wrong.message, wrong.slug, node.place, wrong.remedy)


def _inside(folder: Path, text: str) -> Path:
    """The real path of a file named in a scenario; Wrong when a symbolic link leads out of its folder."""
    root = Path(os.path.realpath(folder))
    real = Path(os.path.realpath(root / text, strict=True))
    if not real.is_relative_to(root):
        remedy = "copy it into the scenario's folder"
        raise Wrong("outside", f"the path {quoted(text)} leaves the scenario's folder by a link", remedy)
    return real


def _text(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Wrong("encoding", "a file that is copied to a host must be UTF-8 text", "save it as UTF-8") from None


def _payload(path: Path, folder: Path) -> bytes:
    data = read_regular(path, MAX_PAYLOAD_BYTES + 1, within=folder)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise Wrong("out-of-range", f"the file has more than {MAX_PAYLOAD_BYTES} bytes")
    return data


def main() -> None:
    """Write the schema: `python -m midsession.language [FILE]`."""
    parser = argparse.ArgumentParser(description="Write the JSON Schema of the scenario language.")
    parser.add_argument("file", nargs="?", type=Path, default=Path(SCHEMA_FILE))
    parser.parse_args().file.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
