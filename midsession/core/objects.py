"""A scenario as Python objects to the same tree of nodes that YAML text becomes; places are paths into the objects.

Dicts, lists (or tuples), texts, numbers, booleans and None, nested as in YAML. The same limits hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from midsession.core.loader import LIMITS, Limits, Node, in_order
from midsession.core.scalars import is_in_range
from midsession.core.wrong import quoted
from midsession.errors import Place, Problem, ScenarioError

NAME = "scenario"
"""What a path begins with in messages: `scenario.clients.talkers.script[0]`."""


def tree_of(value: object, limits: Limits = LIMITS) -> Node:
    """The tree of a scenario. Raises ScenarioError for what YAML could not hold either."""
    objects = _Objects(limits)
    node = objects.node(value, "", 0)
    if objects.problems:
        raise ScenarioError(in_order(objects.problems))
    return node


class _Objects:
    """One pass over the objects; each gets its number as its line, so that problems can be told in order."""

    def __init__(self, limits: Limits) -> None:
        self.problems: list[Problem] = []
        self._limits, self._number = limits, 0

    def node(self, value: object, path: str, depth: int) -> Node:
        place = self._place(path)
        if self._number > self._limits.nodes:
            raise ScenarioError([Problem(f"there are more than {self._limits.nodes} values", "too-many-nodes", place)])
        if depth > self._limits.depth:
            message = f"the objects are nested deeper than {self._limits.depth} levels"
            raise ScenarioError([Problem(message, "too-deep", place, "does one of them hold itself?")])
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth, place)
        if isinstance(value, list | tuple):
            return Node([self.node(inner, f"{path}[{n}]", depth + 1) for n, inner in enumerate(value)], place)
        if value is None or isinstance(value, str | bool):
            return Node(value, place)
        if isinstance(value, int | float):
            if not is_in_range(value):
                text = "the number is infinite, not a number, or absurdly long"
                self.problems.append(Problem(text, "number-range", place, "as in YAML"))
                return Node(None, place)
            return Node(value, place)
        remedy = "use dicts, lists, texts, numbers and booleans, as in YAML"
        self.problems.append(
            Problem(f"a {type(value).__name__} cannot stand in a scenario", "wrong-type", place, remedy)
        )
        return Node(None, place)

    def _mapping(self, value: Mapping[object, object], path: str, depth: int, place: Place) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                message = f"a key must be text, not {quoted(key)}"
                self.problems.append(Problem(message, "bad-key", place, "quote it"))
                continue
            keys[key] = self._place(f"{path}.{key}")
            items[key] = self.node(inner, f"{path}.{key}", depth + 1)
        return Node(items, place, keys)

    def _place(self, path: str) -> Place:
        self._number += 1
        return Place(NAME, self._number, 1, path=path)
