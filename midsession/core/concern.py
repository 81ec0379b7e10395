"""Whose business a service is, besides that of the clients that connect to it: what the plan alone can tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from midsession.core.plan import CommandService, ComposeService, ImageService, Plan, Program
from midsession.core.whose import OF_AGENTS

_LIFE = OF_AGENTS - {"injected", "witnessed", "healed", "stalled"}
"""What a program does, or is done to; of what the others are, a check says by its `of`."""
_WHOM = {"of", "every", "service", "clients", "event", "meets", "read_by"}


def is_told(plan: Plan, names: Collection[str]) -> bool:
    """Whether some program of the user's may speak with one of these services though no client is to connect to it.

    Its words, its environment or a file of its own say the name; or both stand in the user's Compose file, which the
    plan does not show.
    """
    composed = {service.name for service in plan.services if isinstance(service, ComposeService)}
    if len(composed) > 1 and composed & {*names}:
        return True
    word = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names))
    return any(word.search(text) for text in _texts(plan, names))


def _texts(plan: Plan, besides: Collection[str]) -> Iterator[str]:
    programs: list[CommandService | ImageService | Program] = [
        service
        for service in plan.services
        if isinstance(service, CommandService | ImageService) and service.name not in besides
    ]
    programs += [group.program for group in plan.foreign if group.program]
    for program in programs:
        yield from (*(program.argv or ()), *program.env.values(), *program.files.values())


def is_asked_about(plan: Plan, names: Collection[str]) -> bool:
    """Whether a check asks what becomes of one of their programs, or may do so, since it does not say whom it is about.

    What sessions meet is another matter.
    """
    return any(_asks(check.args, names) for check in plan.checks)


def _asks(args: Mapping[str, Any], names: Collection[str]) -> bool:
    said = list(_mappings(args))
    if not any(_WHOM & mapping.keys() for mapping in said):
        return True
    return any(_asks_here(mapping, names) for mapping in said)


def _asks_here(mapping: Mapping[str, Any], names: Collection[str]) -> bool:
    if mapping.get("service") in names or mapping.get("clients") in names:
        return True
    events, whom = {mapping.get("event"), mapping.get("meets")}, mapping.get("of", mapping.get("every"))
    return bool(events & OF_AGENTS) if whom in names else whom is None and bool(events & _LIFE)


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _mappings(one)
