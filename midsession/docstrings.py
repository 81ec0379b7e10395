"""The docstrings of attributes: the text below a field's annotation. Python forgets it, so the source is read.

Only what explains the language does so (pydantic's `use_attribute_docstrings` would read it at every start), and the
core, which reads no files, is told.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def describe(base: type[BaseModel]) -> None:
    """Make docstrings the descriptions of the fields that have no other, in all models that derive from this one."""
    for model in base.__subclasses__():
        for name, said in of_attributes(model).items():
            if name in model.model_fields and model.model_fields[name].description is None:
                model.model_fields[name].description = said
        describe(model)


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
