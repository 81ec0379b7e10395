"""Where our two programs are, and how a host's agent starts a service or a fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from midsession.agent.protocol import Start
from midsession.core.contract import service_environment
from midsession.core.job import READY_LINE, Job
from midsession.core.plan import CommandService, ComposeService, ImageService, Program, ReferenceService, Service
from midsession.errors import EnvironmentLacks

_JOB = "job.json"
_SERVER_ENDS_WITHIN = 0.8
"""The share of a service's grace that the reference server gives its clients to end, before it is killed."""


class _Python(Protocol):
    """What is needed of a `Host`, see `midsession.testbeds`."""

    @property
    def python(self) -> Sequence[str]: ...

    @property
    def programs(self) -> str | None: ...


def programs_directory() -> Path:
    """The directory on this machine that holds `server/` and `client/`: in the wheel, or the root of the checkout.

    Raises EnvironmentLacks when neither is there.
    """
    package = Path(__file__).parent
    for directory in (package / "_programs", package.parent):
        if (directory / "server").is_dir() and (directory / "client").is_dir():
            return directory
    raise EnvironmentLacks(
        "Midsession's programs `server` and `client` are not beside it", "install it again", slug="no-programs"
    )


def start_service(service: Service, host: _Python, run: str, seed: int, fault: str = "") -> Start:
    """How the host starts a service's program in that run; `fault` is the step that starts it.

    An `image` or `compose` service has no argv here: its container holds what it runs. Testbeds without containers
    refuse a plan with such a service when they open.
    """
    port = service.port if service.ready_line is None else None
    match service:
        case ReferenceService():
            grace_s = f"{service.grace_s * _SERVER_ENDS_WITHIN:g}"
            options = ["--port", str(service.port), "--behaviour", service.behaviour, "--grace", grace_s]
            argv = [*host.python, "-m", "server", *options]
            return Start(id=0, argv=argv, cwd=host.programs, fault=fault)
        case CommandService():
            return Start(
                id=0,
                argv=service.argv,
                env={**service.env, **service_environment(service, run, seed)},
                cwd=service.cwd,
                files=service.files,
                ready_line=service.ready_line,
                ready_port=port,
                logs=True,
                fault=fault,
            )
        case ImageService() | ComposeService():
            return Start(id=0, argv=[], ready_line=service.ready_line, ready_port=port, fault=fault)


def start_client(program: Program, environment: Mapping[str, str]) -> Start:
    """How the host of a client program starts it. That of an image has no argv here: see `start_service`."""
    if program.image is not None:
        return Start(id=0, argv=[])
    assert program.argv is not None
    env = {**program.env, **environment}
    return Start(id=0, argv=program.argv, env=env, cwd=program.cwd, files=program.files, logs=True)


def start_fleet(job: Job, host: _Python) -> Start:
    """How the agent starts a fleet with its share of the clients; it is `listening` once it hears orders."""
    argv = [*host.python, "-m", "client", "--job", _JOB]
    files = {_JOB: msgspec.json.encode(job).decode()}
    return Start(id=0, argv=argv, cwd=host.programs, files=files, ready_line=READY_LINE)
