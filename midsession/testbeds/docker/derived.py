"""Take a Compose file of the user's into the project of a run. Pure: values in, values out.

`docker compose config` has made the file canonical: absolute paths, no variables, long forms. Of each service that the
scenario names, the network side (names, addresses, hosts, DNS) goes to the agent that owns its network namespace, and
everything else stays with the service, which joins that namespace. All other services come up beside it, as they are.

What is taken away: `container_name` and published ports (they collide between runs), the names of the file's own
networks and volumes (each run has its own), and everybody's `depends_on` on a service that the scenario starts (the
timeline says when it runs).
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from midsession.core.plan import ComposeService, Service
from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker.model import DATA, Project, network

_OF_THE_NETWORK = ("hostname", "domainname", "dns", "dns_opt", "dns_search", "extra_hosts", "sysctls", "mac_address")
_COLLIDES = ("container_name", "ports", "links", "external_links", "restart")


def own_networks(model: Mapping[str, Any]) -> list[str]:
    """The networks that Compose would make for this file, each of which wants a subnet."""
    return sorted(key for key, made in (model.get("networks") or {}).items() if not (made or {}).get("external"))


def hosts_on(model: Mapping[str, Any], name: str) -> int:
    """How many containers of the file are on a network, with some room for replicas."""
    return sum(_replicas(service) for service in _services(model).values() if name in (service.get("networks") or {}))


def adopt(
    project: Project,
    services: Sequence[Service],
    model: Mapping[str, Any],
    subnets: Mapping[str, ipaddress.IPv4Network],
    labels: Mapping[str, str],
) -> None:
    """Add a canonical Compose model to a project. Raises EnvironmentLacks for what it cannot hold."""
    named = {s.service: s for s in services if isinstance(s, ComposeService)}
    _require(named, model, project)
    ours = project.model["services"]
    for key, service in _services(model).items():
        ours[key] = _without_collisions(service, named, f"{model.get('name', 'compose')}-{key}", labels)
    for key, asked in named.items():
        host = next(h for h in project.hosts if h.name == asked.name)
        _join(ours[key], ours[host.agent], host.agent, [asked.name, key])
    project.beside += [key for key in _services(model) if key not in named]
    for key, made in (model.get("networks") or {}).items():
        project.model["networks"][key] = _network(made or {}, subnets.get(key), labels)
    for family in ("volumes", "secrets", "configs"):
        if model.get(family):
            project.model[family] = {k: _resource(family, v or {}, labels) for k, v in model[family].items()}


def has_builds(project: Project) -> list[str]:
    """The services whose images are to be built."""
    return sorted(key for key, service in project.model["services"].items() if "build" in service)


def _services(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return model.get("services") or {}


def _replicas(service: Mapping[str, Any]) -> int:
    return max(int(service.get("scale") or 1), int((service.get("deploy") or {}).get("replicas") or 1))


def _require(named: Mapping[str, ComposeService], model: Mapping[str, Any], project: Project) -> None:
    there = _services(model)
    for key, service in named.items():
        if key not in there:
            raise EnvironmentLacks(
                f"the Compose file {service.file} has no service {key!r}", f"it has {', '.join(sorted(there))}",
                slug="no-such-compose-service",
            )  # fmt: skip
        if there[key].get("network_mode"):
            raise EnvironmentLacks(
                f"the service {key!r} of {service.file} has a network_mode of its own, so its network cannot be ours",
                "name a service with networks of its own", slug="compose-network-mode",
            )  # fmt: skip
    both = (set(there) & set(project.model["services"])) | ({DATA} & set(model.get("networks") or {}))
    if both:
        raise EnvironmentLacks(
            f"the Compose file and the run both have {sorted(both)[0]!r}", "call one of them otherwise", "name-taken"
        )


def _without_collisions(
    service: Mapping[str, Any], named: Mapping[str, Any], image: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    kept = {key: copy.deepcopy(value) for key, value in service.items() if key not in _COLLIDES}
    if "build" in kept:
        kept.setdefault("image", image)  # as Compose calls it, so that it is built once and not once a run
    depends = {key: how for key, how in (kept.pop("depends_on", None) or {}).items() if key not in named}
    kept["labels"] = {**(kept.get("labels") or {}), **labels}
    return kept | ({"depends_on": depends} if depends else {})


def _join(program: dict[str, Any], agent: dict[str, Any], agent_key: str, names: Sequence[str]) -> None:
    """Give the program's network side to the agent."""
    networks = program.pop("networks", None) or {}
    for key in _OF_THE_NETWORK:
        if key in program:
            agent[key] = program.pop(key)
    program["network_mode"] = f"service:{agent_key}"
    agent["networks"][DATA]["aliases"] = list(dict.fromkeys([*agent["networks"][DATA]["aliases"], *names]))
    for key, how in networks.items():
        settings = {k: v for k, v in (how or {}).items() if k in ("aliases", "driver_opts", "priority")}
        settings["aliases"] = list(dict.fromkeys([*names[1:], *settings.get("aliases", [])]))
        agent["networks"][key] = settings


def _network(
    made: Mapping[str, Any], subnet: ipaddress.IPv4Network | None, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A network of the file: internal unless it says `x-midsession: {internal: false}`; an external one stays as it is.

    (Compose leaves a plain `internal: false` out of its canonical model, as the default that it is there.)
    """
    if subnet is None:
        return dict(made)
    kept = {key: value for key, value in made.items() if key not in ("name", "ipam")}
    ours = network(subnet, {**(made.get("labels") or {}), **labels})
    return {
        **ours,
        **kept,
        "labels": ours["labels"],
        "internal": (made.get("x-midsession") or {}).get("internal", True),
    }


def _resource(family: str, made: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    if made.get("external"):
        return dict(made)
    kept = {key: value for key, value in made.items() if key != "name"}
    return {**kept, "labels": {**(kept.get("labels") or {}), **labels}} if family == "volumes" else kept
