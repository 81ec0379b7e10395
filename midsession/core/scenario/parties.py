"""Who takes part: services and client groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from midsession.core.scenario.script import Script
from midsession.core.scenario.values import MAX_CLIENTS, Command, Port
from midsession.core.shape import Duration, Model, Share
from midsession.core.texts import Address, Argument, ComposePath, FileName, InnerPath
from midsession.core.wrong import Wrong, quoted


class Reconnect(Model):
    """Backoff after a loss: the n-th delay is min(first * factor^(n-1), max), times 1 ± jitter."""

    empty: ClassVar[bool] = True

    first_s: Duration = 0.1
    """The delay before the first attempt."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Each further delay is this many times the one before."""
    max_s: Duration = 5.0
    """No delay is longer than this, but for the jitter."""
    jitter: Share = 0.0
    """Each delay is up to this share shorter or longer, drawn from the seed."""
    attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """So many in a row may fail before the client gives up."""


class OnLoss(Model):
    """What a client does when its connection is lost. Without it, the session ends there."""

    reconnect: Reconnect


class Arrive(Model):
    """When the group's sessions begin. Without it, all at once at the start."""

    one_of: ClassVar[tuple[str, ...]] = ("over", "at", "every")

    over_s: Duration | None = None
    """Spread evenly over this time, in a seeded order, each somewhere in its own slot."""
    at_s: Duration | None = None
    """All at once, that long after the start."""
    every_s: Duration | None = None
    """One after the other, in the order of their numbers, that far apart."""


class Program(Model):
    """A program of the user's: a command on a host of ours, or a container image."""

    command: Command | None = None
    """A program and its arguments; with `image`, in place of the image's own command."""
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")] | None = None
    """A container image."""
    env: Annotated[dict[str, Argument], Field(max_length=1000)] = Field(default={})
    """Environment variables."""
    files: Annotated[list[FileName], Field(max_length=20)] = Field(default=[])
    """UTF-8 files beside the scenario that are copied to the host; their names are of letters, digits, `.`, `_` and
    `-`, a letter or digit first. A word of the command that names one becomes its path there."""
    cwd: InnerPath | None = None
    """The folder in which a command runs, in the scenario's folder or below it; without it, where Midsession was called
    on a host that has this machine's files, and its container's own folder on any other."""
    grace_s: Duration = 5.0
    """From SIGTERM to SIGKILL; `0s`: SIGKILL at once."""

    @classmethod
    def alternative(cls, key: str) -> dict[str, Any]:
        """A command stands alone, or beside an image."""
        chosen = super().alternative(key)
        return {**chosen, "not": {"required": ["image"]}} if key == "command" else chosen

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        with_image = "image" in mapping and "command" in mapping
        yield from super()._odd({k: v for k, v in mapping.items() if k != "command"} if with_image else mapping)
        yield from cls._without_meaning(mapping)
        for key in mapping.get("env", {}) if isinstance(mapping.get("env"), dict) else ():  # type: ignore[attr-defined]
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key):
                yield ("env", key), Wrong("bad-name", f"{quoted(key)} is not the name of an environment variable")

    @classmethod
    def _without_meaning(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        """Keys that say something about a program where there is none."""
        owners = {key: "a command or an image" for key in ("env", "files") if not cls._is_program(mapping)}
        if "command" not in mapping or "image" in mapping:
            owners["cwd"] = "a command on a host of ours"
        yield from _meaningless(mapping, owners)

    @staticmethod
    def _is_program(mapping: Mapping[str, object]) -> bool:
        return "command" in mapping or "image" in mapping


def _meaningless(mapping: Mapping[str, object], owners: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
    """Complain of each of these keys that is there; `owners` says what they belong to."""
    for key, owner in owners.items():
        if key in mapping:
            yield (key,), Wrong("choose-one", f"'{key}' means nothing here", f"it belongs to {owner}")


class Clients(Program):
    """A group of clients: all run the same script, or each is a program of yours on a host of its own."""

    one_of: ClassVar[tuple[str, ...]] = ("script", "command", "image")

    count: Annotated[int, Field(ge=1, le=MAX_CLIENTS)] = 1
    """How many; they are called `<group>-1`, `<group>-2`, and so on."""
    connect: Address | None = None
    """Where they connect to: `service:port`. A program may do without; it gets it as `MIDSESSION_HOST` and
    `MIDSESSION_PORT`."""
    arrive: Arrive | None = None
    on_loss: OnLoss | None = None
    connect_timeout_s: Duration = 10.0
    """How long an attempt to connect may take."""
    script: Script | None = None
    """What each of them does."""

    @classmethod
    def alternative(cls, key: str) -> dict[str, Any]:
        """A script has somewhere to connect to."""
        return {"required": ["script", "connect"]} if key == "script" else super().alternative(key)

    @classmethod
    def _without_meaning(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._without_meaning(mapping)
        if cls._is_program(mapping):
            yield from _meaningless(mapping, dict.fromkeys(("on_loss", "connect_timeout"), "a script"))
        elif "script" in mapping:
            yield from _meaningless(mapping, {"grace": "a command or an image"})
            if "connect" not in mapping:
                yield (), Wrong("missing-key", "the key 'connect' is missing", "write connect: service:port")


class Reference(Model):
    """Midsession's own server."""

    scalar: ClassVar[str | None] = "behaviour"

    behaviour: Literal["greet", "reply", "echo", "chat", "sink", "silent", "kv", "kv_volatile", "nonsense"] = "reply"
    """`greet` says hello and ends its side; `reply` answers each line; `echo` gives every byte back; `chat` passes each
    line to all others; `sink` hears and says nothing; `silent` neither; `nonsense` answers with nonsense. `kv` is a
    store (`SET key value`, `GET key`, `SCAN n` for the n-th entry) that has each entry on the disk before it says OK;
    `kv_volatile` forgets all when it dies."""


class Compose(Model):
    """A service of your own Compose file."""

    file: ComposePath
    """The Compose file, in the scenario's folder or below it. One that lies elsewhere can be included by one that
    lies there."""
    service: Annotated[str, Field(min_length=1, max_length=200)]
    """The service's name in it."""


class Ready(Model):
    """When a service counts as up: once a line of its output contains `line`; without it, once its port listens."""

    line: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """A part of a line on stdout or stderr. Take a whole phrase: `ready` stands in `Address already in use`, too."""
    within_s: Duration = 10.0
    """How long it may take; else the run is an error."""


class Service(Program):
    """A server under test, on a host of its own."""

    one_of: ClassVar[tuple[str, ...]] = ("reference", "command", "image", "compose")

    reference: Reference | None = None
    compose: Compose | None = None
    port: Port
    """The TCP port that it listens on: on 0.0.0.0 or its host's address, since no other host reaches 127.0.0.1."""
    autostart: bool = True
    """false: absent until the timeline starts it."""
    ready: Ready = Ready.model_construct()

    @classmethod
    def _without_meaning(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._without_meaning(mapping)
        ready = mapping.get("ready")
        if "reference" in mapping and isinstance(ready, Mapping):
            wrong = _meaningless(
                ready, {"line": "a program of yours: the reference server tells by itself when it is up"}
            )
            yield from ((("ready", *path), complaint) for path, complaint in wrong)
