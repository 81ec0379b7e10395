"""What becomes of the networks of a Compose file of the user's, and of the names on them. Pure: values in, values out.

The networks on which the scenario's services are become one: the network under test, on which every host of the run is.
So such a service has one address and one interface, and whatever it says to its clients or to a neighbour passes the
place where faults stand. The file's other networks are made as the file has them, for the services that are on them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker.extension import is_internal
from midsession.testbeds.docker.model import DATA, network

_NAME_OF_THE_BRIDGE = "com.docker.network.bridge.name"
_FIXED = ("ipv4_address", "ipv6_address")


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of one file. `under_test` are those that become one, `apart` those that are made beside it."""

    under_test: Sequence[str]
    apart: Sequence[str]


def networks_of(model: Mapping[str, Any], named: Collection[str]) -> Networks:
    """Which they are where these services of the file are the scenario's.

    An external network is nobody's to make, and one of another driver than the engine's own bridge cannot be the
    network under test: they stay what they are.
    """
    made = model.get("networks") or {}
    used = {key for name in named for key in _of(model, name)}
    bridges = [key for key in sorted(used) if not _is_external(made.get(key)) and _is_bridge(made.get(key))]
    apart = [key for key in sorted(made) if key not in bridges and not _is_external(made[key])]
    return Networks(bridges, apart)


def hosts_on(model: Mapping[str, Any], keys: Collection[str]) -> int:
    """How many containers of the file are on one of these networks."""
    services = model.get("services") or {}
    return sum(_replicas(services[name]) for name in services if set(_of(model, name)) & set(keys))


def is_on(model: Mapping[str, Any], name: str, keys: Collection[str]) -> bool:
    """Whether a service of the file is on one of these networks."""
    return not set(_of(model, name)).isdisjoint(keys)


def out_of_reach(model: Mapping[str, Any], name: str, where: Networks) -> list[str]:
    """The networks of a service that are not the network under test: what passes there meets no fault."""
    return [key for key in _of(model, name) if key not in where.under_test]


def has_way_out(model: Mapping[str, Any], name: str, where: Networks) -> bool:
    """Whether a service is on a network of the run from which its ports can be published.

    What an external network is, only the engine knows.
    """
    if mode := model["services"][name].get("network_mode"):
        return bool(mode == "bridge")
    made = model.get("networks") or {}
    inner = all(is_internal(made.get(key) or {}) for key in where.under_test)
    return any(
        _is_external(made.get(key)) or not (inner if key in where.under_test else is_internal(made.get(key) or {}))
        for key in _of(model, name)
    )


def memberships(service: Mapping[str, Any], where: Networks) -> dict[str, Any]:
    """On which networks of the run a service is, with its settings there; a `container_name` is a name there, too."""
    named = [service["container_name"]] if service.get("container_name") else []
    found = {key: dict(how or {}) for key, how in (service.get("networks") or {}).items()}
    inside = [found.pop(key) for key in where.under_test if key in found]
    if inside:
        merged = {key: value for how in inside for key, value in how.items()}
        found[DATA] = {**merged, "aliases": [alias for how in inside for alias in how.get("aliases") or ()]}
    for how in found.values():
        if aliases := list(dict.fromkeys([*(how.pop("aliases", None) or ()), *named])):
            how["aliases"] = aliases
    return found


def under_test(made: Mapping[str, Any], model: Mapping[str, Any], where: Networks) -> dict[str, Any]:
    """The run's network under test, as what the file's networks that it stands for say makes it.

    It has a way out if one of them has.
    """
    theirs = [(model.get("networks") or {}).get(key) or {} for key in where.under_test]
    options = {key: value for one in theirs for key, value in _options(one).items()}
    labels = {key: value for one in theirs for key, value in (one.get("labels") or {}).items()}
    inner = all(is_internal(one) for one in theirs)
    return {**made, "internal": inner, "labels": {**labels, **made["labels"]}, **_if("driver_opts", options)}


def beside(
    made: Mapping[str, Any] | None, subnet: ipaddress.IPv4Network | None, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Another network of the file: internal unless it says `x-midsession: {internal: false}`; an external one stays.

    (Compose leaves a plain `internal: false` out of its canonical model, as the default that it is there.)
    """
    made = made or {}
    if subnet is None:
        return dict(made)
    gone = ("name", "ipam", "enable_ipv6", "driver_opts")
    kept = {key: value for key, value in made.items() if key not in gone} | _if("driver_opts", _options(made))
    ours = network(subnet, {**(made.get("labels") or {}), **labels})
    return {**ours, **kept, "labels": ours["labels"], "internal": is_internal(made)}


# --- what cannot be held -------------------------------------------------------------------------------------------


def require_free_addresses(file: str, model: Mapping[str, Any]) -> None:
    """Raises EnvironmentLacks for a service with a fixed address: parallel runs would want it at once."""
    made = model.get("networks") or {}
    for name in model.get("services") or {}:
        for key, how in _of(model, name).items():
            fixed = [how[word] for word in _FIXED if (how or {}).get(word)]
            if fixed and not _is_external(made.get(key)):
                raise EnvironmentLacks(
                    f"the service {name!r} of {file} has the fixed address {fixed[0]} on {key!r}, and a run's networks "
                    "have subnets of their own",
                    "let it be found by its name: take the address away, or name a file that includes this one with an "
                    "override (`ipv4_address: !reset null`)", slug="compose-fixed-address",
                )  # fmt: skip


def require_clear_names(
    file: str, model: Mapping[str, Any], named: Mapping[str, str], hosts: Iterable[str], where: Networks
) -> None:
    """Raises EnvironmentLacks for a name that would mean somebody else on the network under test than it does now.

    `named` are the scenario's services of the file, each with the name of its host.
    """
    known = {key: _names_on(model, key) for key in where.under_test}
    for a, b in combinations(where.under_test, 2):
        for name in sorted(known[a].keys() & known[b].keys()):
            if known[a][name] != known[b][name]:
                raise EnvironmentLacks(
                    f"{name!r} is one thing on the network {a!r} of {file} and another on {b!r}, and both become the "
                    "network under test", "call one of them otherwise", slug="name-taken",
                )  # fmt: skip
    everybody = {name: whose for names in known.values() for name, whose in names.items()}
    for host in hosts:
        own = {key for key, name in named.items() if name == host}
        if everybody.get(host, own) != own:
            raise EnvironmentLacks(
                f"the run has a host {host!r}, and in {file} that is a name of {sorted(everybody[host])[0]!r}",
                "call one of them otherwise", slug="name-taken",
            )  # fmt: skip


def _names_on(model: Mapping[str, Any], key: str) -> dict[str, set[str]]:
    """Who is meant by each name on a network of the file."""
    found: dict[str, set[str]] = {}
    for name, service in (model.get("services") or {}).items():
        if key in _of(model, name):
            for word in _names(name, service, key):
                found.setdefault(word, set()).add(name)
    return found


def _names(name: str, service: Mapping[str, Any], key: str) -> Iterator[str]:
    yield name
    yield from ((service["networks"] or {}).get(key) or {}).get("aliases") or ()
    if service.get("container_name"):
        yield service["container_name"]


# --- small things --------------------------------------------------------------------------------------------------


def _of(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    networks: Mapping[str, Any] = ((model.get("services") or {}).get(name) or {}).get("networks") or {}
    return networks


def _replicas(service: Mapping[str, Any]) -> int:
    return max(int(service.get("scale") or 1), int((service.get("deploy") or {}).get("replicas") or 1))


def _options(made: Mapping[str, Any]) -> dict[str, Any]:
    """Without the bridge's name, which two runs at once would both want."""
    return {key: value for key, value in (made.get("driver_opts") or {}).items() if key != _NAME_OF_THE_BRIDGE}


def _is_external(made: Mapping[str, Any] | None) -> bool:
    return bool((made or {}).get("external"))


def _is_bridge(made: Mapping[str, Any] | None) -> bool:
    return (made or {}).get("driver") in (None, "", "bridge")


def _if(key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(value)} if value else {}
