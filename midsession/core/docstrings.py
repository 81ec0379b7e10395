"""The docstrings of attributes: the text below a field's annotation. Python forgets it, so the source is read."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise


def of_attributes(cls: type) -> dict[str, str]:
    """The docstrings of a class's annotated attributes by name, those of its bases included."""
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        found |= _classes(kind.__module__).get(kind.__name__, {})
    return found


@cache
def _classes(module: str) -> Mapping[str, Mapping[str, str]]:
    """Class → attribute → docstring, of the classes at the top of a module; empty for a module without a source."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (KeyError, OSError, TypeError):
        return {}
    return {node.name: _attributes(node) for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def _attributes(body: ast.ClassDef) -> dict[str, str]:
    found = {}
    for field, below in pairwise(body.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
