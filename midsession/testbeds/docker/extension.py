"""What a Compose file of the user's says to us: `x-midsession`, in its services and networks. Pure.

Compose leaves extensions out of the services and networks of its canonical model in JSON, and has them in YAML only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from midsession.core.loader import Limits, parse
from midsession.core.wrong import did_you_mean, quoted
from midsession.errors import EnvironmentLacks, ScenarioError

KEY = "x-midsession"
_WORDS = {"services": "ports", "networks": "internal"}
"""The one word that each may say, true or false."""
_LIMITS = Limits(bytes=16 * 1024 * 1024, nodes=1_000_000)


def restored(model: Mapping[str, Any], text: str, file: str) -> Mapping[str, Any]:
    """The canonical model of a file with our key, which stands in `text`, the same in YAML. Raises EnvironmentLacks."""
    if KEY not in text:
        return model
    try:
        whole: Any = parse(text.encode(), f"{file}, as docker compose config has it", _LIMITS).data
    except ScenarioError as error:
        raise _refused(f"the {KEY} of {file} cannot be read ({error.problems[0]})", "mend it there") from None
    return {**model, **{family: _family(model, whole, family) for family in _WORDS if model.get(family)}}


def _family(model: Mapping[str, Any], whole: Mapping[str, Any], family: str) -> dict[str, Any]:
    theirs = whole.get(family) or {}
    said = {name: one[KEY] for name, one in theirs.items() if KEY in (one or {})}
    return {name: {**(one or {}), KEY: said[name]} if name in said else one for name, one in model[family].items()}


def require(file: str, model: Mapping[str, Any]) -> None:
    """Raises EnvironmentLacks for our key where it means nothing, and for what it may not say."""
    if KEY in model:
        raise _refused(f"{KEY} of the whole {file} means nothing", "say it in a service or in a network")
    for family, name, said in _all_said(model):
        where, word = f"{KEY} of the {family[:-1]} {name!r} of {file}", _WORDS[family]
        if not isinstance(said, dict):
            raise _refused(f"{where} is {quoted(said)}", f"write it like {{{word}: true}}")
        for key in said:
            if key != word:
                raise _refused(f"{where} has an unknown key {quoted(key)}", did_you_mean(key, [word]))
            if not isinstance(said[key], bool):
                raise _refused(f"{word!r} in {where} is {quoted(said[key])}", "write true or false")


def _all_said(model: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for family in _WORDS:
        for name, one in (model.get(family) or {}).items():
            if KEY in (one or {}):
                yield family, name, one[KEY]


def _refused(what: str, remedy: str) -> EnvironmentLacks:
    return EnvironmentLacks(what, remedy, slug="compose-extension")


def wants_ports(service: Mapping[str, Any]) -> bool:
    """Whether a service asks that its ports be published."""
    return bool((service.get(KEY) or {}).get("ports"))


def is_internal(network: Mapping[str, Any]) -> bool:
    """Whether a network has no way out: each has none, unless it says so."""
    internal: bool = (network.get(KEY) or {}).get("internal", True)
    return internal
