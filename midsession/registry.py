"""A registry of classes that scenarios call by name, each in a file of its own that bears that name.

A run uses few of the many there are, so each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")


class Registry(Mapping[str, type[T]]):
    """Name → class, in the order of the docs. `classes` are the classes' own names; the files are in `package`."""

    def __init__(self, package: str, classes: Mapping[str, str]) -> None:
        self._package, self._classes = package, dict(classes)

    def __getitem__(self, name: str) -> type[T]:
        class_name = self._classes[name]
        found: type[T] = getattr(import_module(f"{self._package}.{name}"), class_name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes
