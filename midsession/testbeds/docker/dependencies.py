"""What the services of a Compose file wait for before they start (`depends_on`), and who comes up when. Pure.

The scenario's services are started by the run; all others, the neighbours, come up beside them in waves: at first those
that need none of the scenario's services, then, whenever one of these is up, those that now have all that they need.
Compose writes what a service implies (`links`, `volumes_from`, `network_mode: service:…`) into `depends_on`, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


@dataclass(frozen=True, slots=True)
class Wait:
    """`who` waits for `on`. `required`: it does not start without."""

    who: str
    on: str
    condition: Condition
    required: bool = True


Seen = Literal["yes", "not yet", "never"]


def waits(model: Mapping[str, Any]) -> list[Wait]:
    """What every service waits for."""
    return [
        Wait(name, on, how.get("condition") or "service_started", how.get("required", True))
        for name in _services(model)
        for on, how in _depends(model, name)
    ]


def needs(model: Mapping[str, Any], named: Collection[str]) -> dict[str, frozenset[str]]:
    """Every neighbour with the services of the scenario that must be up before it, however it comes to need them."""
    known: dict[str, frozenset[str]] = {key: frozenset({key}) for key in named}

    def of(name: str) -> frozenset[str]:
        if name not in known:
            known[name] = frozenset().union(*(of(on) for on, _ in _depends(model, name)))
        return known[name]

    return {name: of(name) for name in _services(model) if name not in named}


def out_of_order(model: Mapping[str, Any], named: Mapping[str, bool]) -> tuple[Wait, str] | None:
    """What one of the scenario's services waits for, and the later one that this needs: that can never be.

    `named` are in the order in which the run starts them; False: a step does, and the timeline says when.
    """
    behind, started = needs(model, named), list[str]()
    for name in (name for name, autostart in named.items() if autostart):
        for wait in waits(model):
            if wait.who == name and wait.required:
                late = behind.get(wait.on, frozenset({wait.on})) - set(started)
                if first := sorted(key for key in late if named.get(key)):
                    return wait, first[0]
        started.append(name)
    return None


def with_dependencies(model: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """These services of the file, and all that they need."""
    found: set[str] = set()
    open_ = [name for name in names if name in _services(model)]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += [on for on, _ in _depends(model, name)]
    return found


def holds(condition: Condition, state: Mapping[str, Any]) -> tuple[Seen, str]:
    """Whether a container in this state (the engine's `State`) is what was waited for, and what it is, in words."""
    status, code = state.get("Status"), state.get("ExitCode")
    ran = status in ("exited", "dead")
    what = f"it has exited with code {code}" if ran else f"it is {status}"
    if condition == "service_started":
        return ("not yet" if status == "created" else "yes"), what
    if condition == "service_completed_successfully":
        return ("not yet" if not ran else "yes" if code == 0 else "never"), what
    if status != "running":
        return ("never" if ran else "not yet"), what
    health = (state.get("Health") or {}).get("Status", "none")
    answers: dict[str, Seen] = {"healthy": "yes", "unhealthy": "never", "none": "never"}
    return answers.get(health, "not yet"), "it has no health check" if health == "none" else f"it is {health}"


def _services(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return model.get("services") or {}


def _depends(model: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Its own `depends_on`; one that need not be there may name what is not."""
    for on, how in (_services(model)[name].get("depends_on") or {}).items():
        if on in _services(model):
            yield on, how or {}
