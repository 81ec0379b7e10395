"""Take a Compose file of the user's into the project of a run. Pure: values in, values out.

`docker compose config` has made the file canonical: absolute paths, no variables, long forms. Of each service that the
scenario names, the network side (names, addresses, hosts, DNS) goes to the agent that owns its network namespace, and
everything else stays with the service, which joins that namespace. All other services, the neighbours, come up beside
it, as they are.

What is taken away: what collides between runs (`container_name`, which stays a name on the service's networks, and
published ports, unless the file asks us for them); the names of the file's own networks and volumes (each run has its
own); and, of a service that the scenario names, what would start it or end it besides the timeline, or make several of
it.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midsession.core.plan import ComposeService, Service
from midsession.core.wrong import nearest
from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker import contents, dependencies, extension, networks, published
from midsession.testbeds.docker.extension import wants_ports
from midsession.testbeds.docker.model import DATA, HostOrder, Project

_OF_THE_NETWORK = (
    *("hostname", "domainname", "dns", "dns_opt", "dns_search", "extra_hosts", "mac_address"),
    *("links", "external_links", "ports"),
)
_COLLIDES = ("container_name", "profiles")
_OF_ITS_LIFE = ("restart", "scale", "tty", "expose")
"""Of a service that the scenario names. A terminal would put both streams into one, and what is exposed is the
agent's to say; a run's networks hide no port."""
_OF_ITS_DEPLOYMENT = ("restart_policy", "replicas")


@dataclass(frozen=True, slots=True)
class UsersFile:
    """A Compose file: its canonical model, and the environment variables from which its secrets and configs come."""

    model: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)


def chosen(active: Mapping[str, Any], everything: Mapping[str, Any], named: Sequence[str]) -> Mapping[str, Any]:
    """The model of a file: what its active profiles hold, and what the scenario names with all that this needs.

    `everything` is its model with every profile. So `docker compose up SERVICE` takes a service whatever its profile.
    """
    there = _services(everything)
    if not set(named) <= set(there):
        return everything  # it will be said what there is
    wanted = dependencies.with_dependencies(everything, named)
    return {**everything, "services": {**_services(active), **{name: there[name] for name in sorted(wanted)}}}


def adopt(
    project: Project,
    services: Sequence[Service],
    theirs: UsersFile,
    subnets: Mapping[str, ipaddress.IPv4Network],
    labels: Mapping[str, str],
) -> None:
    """Add a Compose file to a project. Raises EnvironmentLacks for what it cannot hold."""
    model = theirs.model
    named = {s.service: s for s in services if isinstance(s, ComposeService)}
    hosts = {key: next(h for h in project.hosts if h.name == s.name) for key, s in named.items()}
    where = networks.networks_of(model, named)
    _require(named, model, project, hosts, where)
    contents.require(next(iter(named.values())).file, model, theirs.variables)
    agents = {key: host.agent for key, host in hosts.items()}
    ours = project.model["services"]
    for key, service in _services(model).items():
        image = f"{model.get('name', 'compose')}-{key}"
        ours[key] = _taken_in(service, agents, image, labels) | _network_side(service, agents, where)
    for key, host in hosts.items():
        _join(ours[key], ours[host.agent], host, key)
    _add_networks(project, model, where, subnets, labels)
    for family in ("volumes", "secrets", "configs"):
        if model.get(family):
            project.model[family] = {k: _resource(family, v or {}, labels) for k, v in model[family].items()}
    project.beside = dependencies.needs(model, named)
    project.waits = dependencies.waits(model)
    inner = {host.name: contents.packed(_services(model)[key], model, theirs.variables) for key, host in hosts.items()}
    project.variables = theirs.variables
    project.put_in = {name: archive for name, archive in inner.items() if archive is not None}


def has_builds(project: Project) -> list[str]:
    """The services whose images are to be built."""
    return sorted(key for key, service in project.model["services"].items() if "build" in service)


def _services(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return model.get("services") or {}


# --- what cannot be held -------------------------------------------------------------------------------------------


def _require(
    named: Mapping[str, ComposeService],
    model: Mapping[str, Any],
    project: Project,
    hosts: Mapping[str, HostOrder],
    where: networks.Networks,
) -> None:
    for key, service in named.items():
        _require_service(key, service, model)
        _require_reach(service, hosts[key], networks.out_of_reach(model, key, where))
    _require_order(named, model)
    both = set(_services(model)) & set(project.model["services"])
    both |= (set(model.get("networks") or {}) - set(where.under_test)) & set(project.model["networks"])
    if both:
        raise EnvironmentLacks(
            f"the Compose file and the run both have {sorted(both)[0]!r}", "call one of them otherwise", "name-taken"
        )
    file = next(iter(named.values())).file
    extension.require(file, model)
    published.require(file, model, where)
    networks.require_free_addresses(file, model)
    _require_agents(file, model, project, hosts, where)
    called = {key: host.name for key, host in hosts.items()}
    networks.require_clear_names(file, model, called, [host.name for host in project.hosts], where)


def _require_service(key: str, service: ComposeService, model: Mapping[str, Any]) -> None:
    there = _services(model)
    if key not in there:
        near = nearest(key, there)
        raise EnvironmentLacks(
            f"the Compose file {service.file} has no service {key!r}",
            f"it has {', '.join(sorted(there)) or 'none at all'}{f'; did you mean {near!r}?' if near else ''}",
            slug="no-such-compose-service",
        )  # fmt: skip
    if there[key].get("network_mode"):
        raise EnvironmentLacks(
            f"the service {key!r} of {service.file} has a network_mode of its own, so its network cannot be ours",
            "name a service with networks of its own", slug="compose-network-mode",
        )  # fmt: skip
    if there[key].get("post_start"):
        raise EnvironmentLacks(
            f"the service {key!r} of {service.file} has a post_start, which Compose runs when it starts a service, and "
            "the run starts this one", "do that in its entrypoint, and take it away (in an override: `!reset []`)",
            slug="compose-hook",
        )  # fmt: skip


def _require_reach(service: ComposeService, host: HostOrder, beyond: Sequence[str]) -> None:
    if beyond and host.breaks:
        raise EnvironmentLacks(
            f"a step breaks the network of {service.name!r}, and what passes {beyond[0]!r} of {service.file} would not "
            "be hit: that network is external, or of another driver than bridge",
            f"take {service.service!r} off it, or leave such steps out", slug="compose-network-out-of-reach",
        )  # fmt: skip


def _require_agents(
    file: str,
    model: Mapping[str, Any],
    project: Project,
    hosts: Mapping[str, HostOrder],
    where: networks.Networks,
) -> None:
    """Raises EnvironmentLacks for a neighbour who would look in vain for a host that moves: nobody answers it there."""
    moving = [host.name for host in project.hosts if host.spare]
    strangers = [key for key in _services(model) if key not in hosts and networks.is_on(model, key, where.under_test)]
    if moving and strangers:
        raise EnvironmentLacks(
            f"a step gives {moving[0]!r} another address, and {strangers[0]!r} of {file}, which is on its network, "
            "would not be told: the engine's resolver goes on with the old one, and only a service of the scenario has "
            "an agent that answers in its place",
            f"name {strangers[0]!r} as a service of the scenario, too, or take it off that network",
            slug="compose-not-told",
        )  # fmt: skip


def _require_order(named: Mapping[str, ComposeService], model: Mapping[str, Any]) -> None:
    late = dependencies.out_of_order(model, {key: service.autostart for key, service in named.items()})
    if late is not None:
        wait, other = late
        raise EnvironmentLacks(
            f"in {named[wait.who].file} {wait.who!r} waits for {wait.on!r}, and the scenario starts {other!r} later",
            f"put the service of {other!r} before that of {wait.who!r}", slug="compose-order",
        )  # fmt: skip


# --- services ------------------------------------------------------------------------------------------------------


def _taken_in(
    service: Mapping[str, Any], agents: Mapping[str, str], image: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A service of the file, but for its network side."""
    kept = {key: copy.deepcopy(value) for key, value in service.items() if key not in _COLLIDES}
    if not wants_ports(service):
        kept.pop("ports", None)
    if "build" in kept:
        kept.setdefault("image", image)  # as Compose calls it, so that it is built once and not once a run
    depends = {key: how for key, how in (kept.pop("depends_on", None) or {}).items() if key not in agents}
    kept["labels"] = {**(kept.get("labels") or {}), **labels}
    return kept | ({"depends_on": depends} if depends else {})


def _network_side(service: Mapping[str, Any], agents: Mapping[str, str], where: networks.Networks) -> dict[str, Any]:
    """The keys of a service that say where it is in the run's network. The scenario's are where their agents are."""
    side: dict[str, Any] = {}
    if service.get("networks"):
        side["networks"] = networks.memberships(service, where)
    if links := service.get("links"):
        side["links"] = [_link(link, agents) for link in links]
    mode = service.get("network_mode", "")
    if (shared := mode.removeprefix("service:")) in agents and shared != mode:
        side["network_mode"] = f"service:{agents[shared]}"
    return side


def _link(link: str, agents: Mapping[str, str]) -> str:
    name, _, alias = link.partition(":")
    return f"{agents[name]}:{alias or name}" if name in agents else link


def _join(program: dict[str, Any], agent: dict[str, Any], host: HostOrder, key: str) -> None:
    """Give the program's network side to the agent, and its life to the timeline."""
    for word in _OF_ITS_LIFE:
        program.pop(word, None)
    if deployed := program.get("deploy"):
        program["deploy"] = {word: value for word, value in deployed.items() if word not in _OF_ITS_DEPLOYMENT}
    joined: dict[str, Any] = {DATA: {}, **(program.pop("networks", None) or {})}
    for name, how in joined.items():
        own = agent["networks"].get(name, {})
        aliases = dict.fromkeys([*own.get("aliases", ()), key, *how.get("aliases", ())])
        agent["networks"][name] = {**how, **own, "aliases": list(aliases)}
    for word in _OF_THE_NETWORK:
        if word in program:
            own, theirs = agent.get(word), program.pop(word)
            agent[word] = [*own, *theirs] if isinstance(own, list) else theirs
    _share_sysctls(program, agent)
    program["network_mode"] = f"service:{host.agent}"


def _share_sysctls(program: dict[str, Any], agent: dict[str, Any]) -> None:
    """Those of the network are a matter of its namespace, which is the agent's; all others stay."""
    asked = program.pop("sysctls", None) or {}
    agent["sysctls"] = {**agent.get("sysctls", {}), **{k: v for k, v in asked.items() if k.startswith("net.")}}
    if own := {k: v for k, v in asked.items() if not k.startswith("net.")}:
        program["sysctls"] = own


# --- networks, volumes, secrets, configs ---------------------------------------------------------------------------


def _add_networks(
    project: Project,
    model: Mapping[str, Any],
    where: networks.Networks,
    subnets: Mapping[str, ipaddress.IPv4Network],
    labels: Mapping[str, str],
) -> None:
    made = project.model["networks"]
    made[DATA] = networks.under_test(made[DATA], model, where)
    for key, theirs in (model.get("networks") or {}).items():
        if key not in where.under_test:
            made[key] = networks.beside(theirs, subnets.get(key), labels)


def _resource(family: str, made: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    if made.get("external"):
        return dict(made)
    kept = {key: value for key, value in made.items() if key != "name"}
    return {**kept, "labels": {**(kept.get("labels") or {}), **labels}} if family == "volumes" else kept
