"""Print requirements of pyproject.toml, one a line, for `pip install -r`.

The images are made from this list, so that a version bound stands in one place. Knows nothing of the project's code
and needs only the standard library: it runs before anything is installed.

    python3 requirements.py pyproject.toml                     all runtime dependencies
    python3 requirements.py pyproject.toml --only msgspec      these, of all runtime and development dependencies
    python3 requirements.py pyproject.toml --also pytest       all runtime dependencies and these
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def name_of(requirement: str) -> str:
    """The project name in a requirement, normalised (PEP 503)."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def select(project: Mapping[str, Any], only: Sequence[str], also: Sequence[str]) -> list[str]:
    """The wanted requirements. Raises KeyError for a name that the project does not list."""
    runtime: list[str] = project["dependencies"]
    optional = [line for lines in project["optional-dependencies"].values() for line in lines]
    known = {name_of(line): line for line in [*optional, *runtime]}
    return [known[name] for name in only] if only else [*runtime, *(known[name] for name in also)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME")
    wanted = parser.parse_args()
    project = tomllib.loads(wanted.pyproject.read_text("utf-8"))["project"]
    try:
        lines = select(project, wanted.only, wanted.also)
    except KeyError as absent:
        sys.exit(f"{wanted.pyproject} lists no dependency {absent}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
