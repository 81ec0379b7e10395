"""Take away what a project left in an engine; and find the projects whose owner is dead.

Only what carries our label is ever touched. Everything goes on past errors, which are returned, not swallowed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from midsession.testbeds.docker.engine import errors, explain, not_found
from midsession.testbeds.docker.journal import Journal
from midsession.testbeds.docker.owner import Owner, me

if TYPE_CHECKING:
    import docker

PROJECT = "midsession.project"
OWNER = "midsession.owner"
_SCANS = 3
_PAUSE_S = 0.3
_UNDER_WAY = (409,)
"""The engine's words for a thing that somebody else is removing at this moment; the next scan tells."""


def labels(project: str, owner: Owner) -> dict[str, str]:
    """What everything of a project is marked with."""
    return {PROJECT: project, OWNER: str(owner)}


def remove_project(api: docker.APIClient, project: str) -> list[str]:
    """Remove every container, network and volume of a project; returns what went wrong, in sentences."""
    filters = {"label": f"{PROJECT}={project}"}
    problems = _remove_all((c["Id"] for c in _containers(api, filters)), lambda i: _remove_container(api, i))
    problems += _remove_all((n["Id"] for n in _networks(api, filters)), api.remove_network)
    return problems + _remove_all((v["Name"] for v in _volumes(api, filters)), api.remove_volume)


def left_of(api: docker.APIClient, project: str) -> list[str]:
    """What there still is of a project."""
    filters = {"label": f"{PROJECT}={project}"}
    return [
        *(f"container {c['Names'][0].lstrip('/') if c['Names'] else c['Id']}" for c in _containers(api, filters)),
        *(f"network {n['Name']}" for n in _networks(api, filters)),
        *(f"volume {v['Name']}" for v in _volumes(api, filters)),
    ]


def remove_unsettled(
    api: docker.APIClient, projects: Collection[str], within_s: float, scans: int = _SCANS
) -> list[str]:
    """Remove projects of which a request that is still under way may yet make something.

    An engine carries out what it was asked for though nobody waits for the answer any more (seen with Engine 20.10,
    whose client was killed while a network was being made). So this goes on until so many scans in a row, 0.3 s apart,
    have found nothing; after `within_s` it returns what is left or went wrong.
    """
    deadline_s = time.monotonic() + within_s
    empty = 0
    while True:
        found = [thing for project in projects for thing in left_of(api, project)]
        problems = [problem for project in projects for problem in remove_project(api, project)]
        empty = 0 if found or problems else empty + 1
        if empty == scans:
            return []
        if time.monotonic() >= deadline_s:
            return problems or found
        time.sleep(_PAUSE_S)


def owners(api: docker.APIClient) -> dict[str, Owner]:
    """Every project in the engine that says whose it is, by its labels."""
    filters = {"label": [PROJECT, OWNER]}
    marked = [
        *(c.get("Labels") for c in _containers(api, filters)),
        *(n.get("Labels") for n in _networks(api, filters)),
        *(v.get("Labels") for v in _volumes(api, filters)),
    ]
    parsed = [(found[PROJECT], Owner.parse(found.get(OWNER, ""))) for found in marked if found and found.get(PROJECT)]
    return {project: owner for project, owner in parsed if owner is not None}


def sweep(api: docker.APIClient, engine: str, journal: Journal) -> tuple[list[str], list[str]]:
    """Remove every project whose owner is dead: those removed, and what went wrong.

    A project of the journal that is in another engine stays there until a sweep of that one.
    """
    removed, problems = [], []
    for project, owner in sorted(_known(api, engine, journal).items()):
        if owner.is_dead(_is_local(engine)):
            found, wrong = clear(api, journal, project)
            removed += found
            problems += wrong
    return removed, problems


def clear(api: docker.APIClient, journal: Journal, project: str) -> tuple[list[str], list[str]]:
    """Remove one project, whoever owns it: what was removed, and what went wrong."""
    found = left_of(api, project)
    wrong = remove_project(api, project)
    if wrong or left_of(api, project):
        return [], wrong
    journal.end(project)
    return found, []


def undecided(api: docker.APIClient, engine: str, journal: Journal) -> list[str]:
    """The projects whose owner cannot be looked at from here: of another machine, or in another PID namespace."""
    here = me()
    return [
        project
        for project, owner in sorted(_known(api, engine, journal).items())
        if (owner.boot, owner.namespace) != (here.boot, here.namespace) and not owner.is_dead(_is_local(engine))
    ]


def _known(api: docker.APIClient, engine: str, journal: Journal) -> dict[str, Owner]:
    return {entry.project: entry.owner for entry in journal.entries() if entry.engine == engine} | owners(api)


def _is_local(engine: str) -> bool:
    """Whether only processes of this machine reach the engine: by a socket in its file system."""
    return engine.startswith("unix://")


def _containers(api: docker.APIClient, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(api.containers(all=True, filters=dict(filters)))


def _networks(api: docker.APIClient, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(api.networks(filters=dict(filters)))


def _volumes(api: docker.APIClient, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(api.volumes(filters=dict(filters)).get("Volumes") or [])


def _remove_container(api: docker.APIClient, container: str) -> None:
    api.remove_container(container, v=True, force=True)


def _remove_all(names: Iterable[str], remove: Callable[[str], None]) -> list[str]:
    def attempt(name: str) -> str | None:
        try:
            remove(name)
        except not_found():
            return None
        except errors() as error:
            response = getattr(error, "response", None)
            if getattr(response, "status_code", None) in _UNDER_WAY and "already in progress" in explain(error):
                return None
            return f"{name[:12]} cannot be removed: {explain(error)}"
        return None

    all_names = list(names)
    if not all_names:
        return []
    with ThreadPoolExecutor(min(16, len(all_names))) as pool:
        return [problem for problem in pool.map(attempt, all_names) if problem]
