"""What the doctor looks for on behalf of testbeds of containers."""

from __future__ import annotations

from midsession.errors import EnvironmentLacks
from midsession.testbeds.docker.engine import INSTALL_COMPOSE, compose_command
from midsession.testbeds.docker.images import BUILD, CLIENT_IMAGE, SERVER_IMAGE
from midsession.testbeds.docker.journal import pick_subnets, subnet_range
from midsession.testbeds.probe import Missing, Probe, first_line

_BASE_IMAGES = ("midsession-base:local", "python:3.13-slim")
_NO_PERMISSION = "run as root, or as a member of its group: usermod -aG docker USER, and log in again"


def _engine() -> str:
    try:
        return first_line("docker", "version", "--format", "{{.Server.Version}} (API {{.Server.APIVersion}})")
    except Missing as missing:
        if "permission denied" in str(missing):
            raise Missing("it is there, but this user may not speak with it", _NO_PERMISSION) from None
        raise


def _plugin() -> str:
    try:
        return first_line(*compose_command(), "version", "--short")
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing) from None


def _is_here(image: str) -> bool:
    try:
        first_line("docker", "image", "inspect", "--format", "{{.Id}}", image)
    except Missing:
        return False
    return True


def _look_with_the_engine() -> None:
    """Nothing that it has can be looked for without it; what it lacks, its own probe has said."""
    try:
        _engine()
    except Missing:
        raise Missing("cannot be looked for without an engine", "see to the engine first, above") from None


def _own_images() -> str:
    _look_with_the_engine()
    for image in (SERVER_IMAGE, CLIENT_IMAGE):
        if not _is_here(image):
            raise Missing(f"there is no {image}")
    return f"{SERVER_IMAGE}, {CLIENT_IMAGE}"


def _base_image() -> str:
    _look_with_the_engine()
    for image in _BASE_IMAGES:
        if _is_here(image):
            return image
    raise Missing(f"none of {', '.join(_BASE_IMAGES)} is here")


def _subnets() -> str:
    try:
        pick_subnets(subnet_range(), [8], [])
    except EnvironmentLacks as lacks:
        raise Missing(lacks.missing) from None
    return f"taken from {subnet_range()}"


ENGINE = Probe("Docker Engine", _engine, "install it and start it (Debian: apt-get install docker.io)")
PLUGIN = Probe("Docker Compose", _plugin, INSTALL_COMPOSE)
BASE_IMAGE = Probe("base image", _base_image, "`make base` in a clone of Midsession")
"""What the images of a project of Compose's own are built on."""

PROBES = (
    ENGINE,
    PLUGIN,
    Probe("agents' images", _own_images, BUILD),
    Probe("subnets", _subnets, "midsession prune; or MIDSESSION_DOCKER_SUBNETS=…"),
)
