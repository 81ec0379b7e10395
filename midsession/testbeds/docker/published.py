"""Ports that a Compose file of the user's asks to have published (`x-midsession: {ports: true}`). Pure.

They are kept where the service is: for a service of the scenario on its agent's container, which owns the network
namespace, so that what comes in passes the host's one interface, where faults stand. An engine publishes nothing on an
internal network, and says nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker.extension import KEY, wants_ports
from midsession.testbeds.docker.networks import Networks, has_way_out

_TAKEN = ("already allocated", "already in use", "Ports are not available")
"""How the engine says that a port is taken: by a container, by another program, and on Docker Desktop."""
_ANY = {"", "0.0.0.0", "::"}


def require(file: str, model: Mapping[str, Any], where: Networks) -> None:
    """Raises EnvironmentLacks for a service that asks for its ports, and where none of them could be published."""
    for name, service in (model.get("services") or {}).items():
        if wants_ports(service) and (why := _why_nowhere(model, name, service, where)):
            what, remedy = why
            raise EnvironmentLacks(
                f"the service {name!r} of {file} asks that its ports be published ({KEY}), and {what}", remedy,
                slug="compose-ports-nowhere",
            )  # fmt: skip


def _why_nowhere(
    model: Mapping[str, Any], name: str, service: Mapping[str, Any], where: Networks
) -> tuple[str, str] | None:
    """Why the ports of a service cannot be published, and what to do about it."""
    mode = service.get("network_mode") or ""
    if not service.get("ports"):
        return "it has none", f"give it `ports:`, or take its {KEY} away"
    if not has_way_out(model, name, where):
        if mode:
            return f"its network is not its own ({mode})", "ask it of the service whose network it is"
        on = ", ".join(map(repr, service.get("networks") or ())) or "none"
        return f"no network that it is on ({on}) has a way out", f"give one of them `{KEY}: {{internal: false}}`"
    return None


def taken(name: str, service: Mapping[str, Any], error: HarnessError) -> HarnessError | None:
    """What an engine's refusal to start a service means when a port that it publishes is taken; else None."""
    said = str(error).removesuffix(f"  [{error.slug}]").rpartition("): ")[2]  # the endpoint's long name comes before
    ports = [str(port["published"]) for port in service.get("ports") or () if port.get("published")]
    named = [port for port in ports if any(re.search(rf":{end}\b", said) for end in port.split("-"))]
    if not named or not any(words in said for words in _TAKEN):
        return None
    return HarnessError(
        f"port {', '.join(named)} is taken, and the service {name!r} of the Compose file is to be published "
        f"there ({said}); end what holds it (another run?), or let the engine choose a port (`ports: "
        f"[{_targets(service)}]`), which the run notes",
        "port-taken",
    )


def _targets(service: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(f'"{_port(one["target"], one.get("protocol", "tcp"))}"' for one in service["ports"]))


def told(name: str, service: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Where each port of a service is published, in words, as the engine tells of its container (`found`).

    Nothing for one that has ended already. Raises HarnessError for a port that is published nowhere.
    """
    if not service.get("ports") or not found["State"]["Running"]:
        return []
    bound: Mapping[str, Sequence[Mapping[str, str]] | None] = found["NetworkSettings"]["Ports"] or {}
    said = [f"published {name}:{_port(*_split(port))} at {at}" for port in bound for at in _places(bound[port] or ())]
    for one in service["ports"]:
        target = f"{one['target']}/{one.get('protocol', 'tcp')}"
        if not bound.get(target):
            raise HarnessError(
                f"the engine has not published the port {target} of {name}, as `{KEY}: {{ports: true}}` asks: its "
                "networks have no way out; put it on one that has", "port-not-published",
            )  # fmt: skip
    return said


def _places(bound: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """One for IPv4 and IPv6, where it is the same port of all addresses."""
    seen = set()
    for one in bound:
        address, port = one.get("HostIp", ""), one["HostPort"]
        key = ("" if address in _ANY else address, port)
        if key not in seen:
            seen.add(key)
            yield f"[{address}]:{port}" if ":" in address else f"{address or '0.0.0.0'}:{port}"


def _split(port: str) -> tuple[str, str]:
    number, _, protocol = port.partition("/")
    return number, protocol


def _port(number: object, protocol: str) -> str:
    return f"{number}" if protocol == "tcp" else f"{number}/{protocol}"


__all__ = ["require", "taken", "told"]
