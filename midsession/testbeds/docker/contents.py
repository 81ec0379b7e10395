"""Secrets and configs whose content stands in a Compose file or in an environment variable. Pure.

They are no files that could be mounted. Compose writes them into a container before it starts it; a service of the
scenario is started by the run, so what it is to have is packed here, as Compose would (`pkg/compose/secrets.go`).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from midsession.errors import EnvironmentLacks

_FOLDERS = {"secrets": "/run/secrets/", "configs": "/"}


def variables(model: Mapping[str, Any]) -> set[str]:
    """The environment variables that contents are taken from."""
    services = (model.get("services") or {}).values()
    return {made["environment"] for service in services for _, _, made in _uses(service, model) if _is_of_env(made)}


def require(file: str, model: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Raises EnvironmentLacks for a content that is nowhere, and for one that is to go where nobody can write."""
    for name, service in (model.get("services") or {}).items():
        for family, _, made in _uses(service, model):
            variable = made.get("environment")
            if _is_of_env(made) and variable not in environment:
                raise EnvironmentLacks(
                    f"the {family[:-1]} {made['name']!r} of {file} is the environment variable {variable}, which is "
                    "not set here", f"set it ({variable}=…), or say it in the .env file beside that file",
                    slug="compose-content",
                )  # fmt: skip
            if service.get("read_only"):
                raise EnvironmentLacks(
                    f"the service {name!r} of {file} is read_only, so no content of a {family[:-1]} can be put into it",
                    "give it by `file:`, which is mounted", slug="compose-content",
                )  # fmt: skip


def packed(service: Mapping[str, Any], model: Mapping[str, Any], environment: Mapping[str, str]) -> bytes | None:
    """An archive for the root of a service's container; None when there is nothing to put into it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for family, use, made in _uses(service, model):
            content = _content(made, environment).encode()
            target = use.get("target") or use["source"]
            path = target if target.startswith("/") else _FOLDERS[family] + target
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), int(str(use.get("mode") or "444"), 8)
            entry.uid, entry.gid = int(use.get("uid") or 0), int(use.get("gid") or 0)
            tar.addfile(entry, io.BytesIO(content))
        return data.getvalue() if tar.getmembers() else None


def _uses(
    service: Mapping[str, Any], model: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """What a service uses of this kind: the family, how it is used, and what it is."""
    for family in _FOLDERS:
        for use in service.get(family) or ():
            made = (model.get(family) or {}).get(use["source"]) or {}
            if "content" in made or "environment" in made:
                yield family, use, made


def _is_of_env(made: Mapping[str, Any]) -> bool:
    return bool(made.get("environment"))


def _content(made: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """A canonical model doubles each `$`."""
    return environment[made["environment"]] if "environment" in made else made["content"].replace("$$", "$")
