"""The table of testbeds: what they are called, what each is and has, and how a run on it is run again.

Imports none of them, and nothing else that takes long: doors ask it for their help.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from midsession.errors import MidsessionError, Problem, ScenarioError
from midsession.testbeds import Pruned, Testbed

if TYPE_CHECKING:
    from midsession.core.plan import Plan
    from midsession.testbeds.probe import Probe

AUTO = "auto"
HOSTS, CONTAINERS = "hosts", "containers"
"""What a plan may need besides the abilities of agents: hosts of the run's own; programs in containers of their own."""
_NETWORK = frozenset({"filter", "packets", "links", "sockets", "queue", "shape", "names", "addresses"})
"""The abilities (see `midsession.faults.base`) of agents that may change the network of their hosts."""


@dataclass(frozen=True, slots=True)
class TestbedEntry:
    """A testbed: one sentence about it, where its class is, and the command that runs a scenario on it.

    `command` is in parts, in which `{source}`, `{seed}`, `{variant}`, `{runs}` and `{fleets}` stand for the path, the
    seed, the name of one combination of the matrix, the folder for the runs' directories, and the number of client
    hosts, where it is not `fleets`, which is what it is unless told; all quoted for a shell. A part whose value is
    empty is left out.

    Its module has a function `probes`: what the doctor looks for on behalf of this testbed.
    """

    name: str
    about: str
    module: str
    class_name: str
    command: tuple[str, ...]
    offers: frozenset[str]
    """What plans can have of it: `HOSTS`, `CONTAINERS`, and abilities of agents on a machine that has all it needs."""
    more_fleets: str = ""
    """What its user says to get `{count}` hosts that play scripted clients; empty: there are always enough."""
    fleets: int = 0
    many: bool = True
    """Whether it can serve several runs beside each other."""
    pruner: str = ""
    """The function of its module that removes what dead runs have left, or one project, and returns `Pruned`."""


TESTBEDS = {
    entry.name: entry
    for entry in (
        TestbedEntry(
            "compose",
            "the containers of the Compose project that Midsession is a service of (`make up`)",
            "midsession.testbeds.compose",
            "ComposeTestbed",
            ("SCENARIO={source}", "SEED={seed}", "VARIANT={variant}", "CLIENTS={fleets}", "make up"),
            offers=frozenset(),
            more_fleets="--scale client={count}",
            fleets=2,
            many=False,
        ),
        TestbedEntry(
            "netns",
            "network namespaces on this machine; no Docker, no root",
            "midsession.testbeds.netns.testbed",
            "NetnsTestbed",
            ("midsession run {source}", "--testbed netns", "--seed {seed}", "-k {variant}", "--runs {runs}"),
            offers=_NETWORK | {HOSTS},
        ),
        TestbedEntry(
            "docker",
            "containers of a Compose project of the run's own; any image, your own Compose file",
            "midsession.testbeds.docker",
            "DockerTestbed",
            ("midsession run {source}", "--testbed docker", "--seed {seed}", "-k {variant}", "--runs {runs}"),
            offers=_NETWORK | {HOSTS, CONTAINERS},
            more_fleets="MIDSESSION_DOCKER_CLIENTS={count}",
            pruner="prune",
        ),
    )
}
NAMES = (AUTO, *TESTBEDS)
"""What `--testbed` takes."""

_NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "true")
_ENGINE = ("docker", "version", "--format", "{{.Server.Version}}")
_PROBE_S = 10.0
_INSIDE_COMPOSE = Path("/control")
"""The volume of the control token: it is mounted where Midsession is a service of its own project."""


def choose(name: str, plans: Iterable[Plan] = ()) -> str:
    """The testbed that a name means for these plans. Raises ScenarioError for an unknown name.

    `auto` is compose inside its project; else docker when a plan has a program in a container of its own, or when this
    machine cannot make namespaces and has an engine; else netns, which says what is in its way.
    """
    if name == AUTO:
        if _INSIDE_COMPOSE.is_dir():
            return "compose"
        foreign = any(map(has_containers, plans))
        return "docker" if foreign or (not _works(_NAMESPACES) and _works(_ENGINE)) else "netns"
    if name not in TESTBEDS:
        remedy = f"there are {', '.join(NAMES)}"
        raise ScenarioError([Problem(f"unknown testbed {name!r}", "unknown-testbed", remedy=remedy)])
    return name


def offering(*needs: str) -> list[str]:
    """The testbeds that have all of this."""
    return [entry.name for entry in TESTBEDS.values() if entry.offers.issuperset(needs)]


def elsewhere(need: str) -> str:
    """The remedy of a testbed that has not what a plan needs: those that have it."""
    return f"run it with {' or '.join(f'`--testbed {name}`' for name in offering(need))}"


def more_fleets(testbed: str, count: int) -> str:
    """What its user says to get so many hosts that play scripted clients; empty where nothing needs saying."""
    entry = TESTBEDS.get(testbed)
    return entry.more_fleets.format(count=count) if entry else ""


def has_containers(plan: Plan) -> bool:
    """Whether the plan has a program in a container of its own."""
    from midsession.core.plan import ComposeService, ImageService

    services = any(isinstance(service, ImageService | ComposeService) for service in plan.services)
    return services or any(group.program and group.program.image for group in plan.foreign)


def prune(project: str = "") -> Pruned:
    """Remove what the runs of dead processes have left, on every testbed that leaves something; or what one run has
    made, by the name of its `project`, whether or not its process is known to be dead. Raises EnvironmentLacks."""
    done = [getattr(import_module(entry.module), entry.pruner)(project) for entry in TESTBEDS.values() if entry.pruner]
    return Pruned(*([thing for part in parts for thing in part] for parts in zip(*done, strict=True)))


def probes(name: str) -> tuple[Probe, ...]:
    """What the doctor looks for on behalf of a testbed."""
    asked: tuple[Probe, ...] = import_module(TESTBEDS[name].module).probes()
    return asked


@cache
def _works(command: Sequence[str]) -> bool:
    """Whether a command is there and succeeds."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=_PROBE_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def warm_up(name: str) -> None:
    """Have the testbed of that name start now what takes a while, beside what its user does first.

    `auto` most often is netns. It is a service to the impatient: what is wrong comes to light when the testbed opens.
    """
    if name == "netns" or (name == AUTO and not _INSIDE_COMPOSE.is_dir()):
        with suppress(MidsessionError, OSError):
            import_module("midsession.testbeds.netns.warmth").warm_up()


def make(name: str) -> Testbed:
    """A testbed by its name in the table; imports its module."""
    entry = TESTBEDS[name]
    testbed: Testbed = getattr(import_module(entry.module), entry.class_name)()
    return testbed


def replay_command(testbed: str, source: str, seed: int, variant: str = "", runs: str = "", fleets: int = 0) -> str:
    """The command that makes the same run again, on so many client hosts (0: nobody knows).

    Empty for a testbed that is not in the table.
    """
    entry = TESTBEDS.get(testbed)
    if entry is None:
        return ""
    other = str(fleets) if fleets not in (0, entry.fleets) else ""
    values = {"source": source, "seed": str(seed), "variant": variant, "runs": runs, "fleets": other}
    empty = [f"{{{name}}}" for name, value in values.items() if not value]
    parts = [part for part in entry.command if not any(name in part for name in empty)]
    return " ".join(parts).format(**{name: shlex.quote(value) for name, value in values.items()})
