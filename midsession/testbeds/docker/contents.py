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
    """Raises EnvironmentLacks for a content that is nowhere, for nobody, or to go where nobody can write."""
    for name, service in (model.get("services") or {}).items():
        for family, use, made in _uses(service, model):
            what = f"the {family[:-1]} {use['source']!r} of {file}"
            if _is_of_env(made) and made["environment"] not in environment:
                raise _refused(
                    f"{what} is the environment variable {made['environment']}, which is not set here",
                    f"set it ({made['environment']}=…), or say it in the .env file beside that file",
                )
            for word in ("uid", "gid"):
                if not str(use.get(word) or 0).isdecimal():
                    raise _refused(f"{what} is for the {word} {use[word]!r} in {name!r}", "give that by its number")
            if service.get("read_only"):
                raise _refused(
                    f"{what} cannot be put into the service {name!r}, which is read_only",
                    "give its content by `file:`, which is mounted",
                )


def _refused(what: str, remedy: str) -> EnvironmentLacks:
    return EnvironmentLacks(what, remedy, slug="compose-content")


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
