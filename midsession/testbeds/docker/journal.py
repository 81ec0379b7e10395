"""The journal: what is about to be made in an engine, on disk before it is made; and the subnets that are taken.

One file per project in `$XDG_STATE_HOME/midsession/docker`. It is written before anything is created and removed after
everything is gone, so whatever a killed harness has left is named there. The engine's own labels say the same, for what
another user of the engine, or another state directory, has left.
"""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
import msgspec

from midsession.errors import EnvironmentLacks, HarnessError
from midsession.testbeds.docker.owner import Owner, me

SUBNETS = "10.213.0.0/16"
SUBNETS_VARIABLE = "MIDSESSION_DOCKER_SUBNETS"
_LOCK_S = 30.0
_SPARE_ADDRESSES = 3
"""Of each subnet, the network, the gateway and the broadcast address are no host's."""
_SMALLEST = 27

Network = ipaddress.IPv4Network


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project: whose, in which engine, with which subnets."""

    project: str
    owner: Owner
    engine: str
    subnets: list[str]


class Journal:
    """The entries of one state directory. Every method may raise OSError; what makes something there raises
    EnvironmentLacks instead, since nothing was made by then that would be left."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or state_directory()
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _cannot_write(self.directory, error) from None
        self._lock = filelock.FileLock(self.directory / "lock", timeout=_LOCK_S)

    def begin(
        self, project: str, engine: str, sizes: Iterable[int], taken: Iterable[str], apart: bool = False
    ) -> Entry:
        """Write down a project, and give it a subnet for each of `sizes` (numbers of hosts).

        `taken` are the subnets that the engine has. The first free ones are given; `apart`, those of a random part of
        the range, since others who do not share this journal look for the first ones too.
        Raises EnvironmentLacks when the range is used up.
        """
        try:
            with self._lock:
                claimed = [*taken, *(subnet for entry in self.entries() for subnet in entry.subnets)]
                space = random_part(subnet_range()) if apart else subnet_range()
                subnets = pick_subnets(space, sizes, [Network(subnet) for subnet in claimed])
                entry = Entry(project, me(), engine, [str(subnet) for subnet in subnets])
                self._write(entry)
        except filelock.Timeout:
            raise HarnessError(f"the lock {self._lock.lock_file}: not within {_LOCK_S:g} s", "journal-locked") from None
        except OSError as error:
            raise _cannot_write(self.directory, error) from None
        return entry

    def end(self, project: str) -> None:
        """Nothing is left of it."""
        self._path(project).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """All that are whole. (One that is not was being written when its writer died: it had made nothing.)"""
        for path in sorted(self.directory.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Entry)
            except (FileNotFoundError, msgspec.MsgspecError):
                continue

    def _write(self, entry: Entry) -> None:
        fresh = self._path(entry.project).with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(entry))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path(entry.project))

    def _path(self, project: str) -> Path:
        return self.directory / f"{project}.json"


def _cannot_write(directory: Path, error: OSError) -> EnvironmentLacks:
    return EnvironmentLacks(
        f"{directory} cannot be written ({error.strerror or error}), where it is noted what is made in the engine",
        "set XDG_STATE_HOME to a folder that can", "state-folder",
    )  # fmt: skip


def state_directory() -> Path:
    """$XDG_STATE_HOME/midsession/docker, by default below ~/.local/state (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "midsession" / "docker"


def subnet_range() -> Network:
    """Where subnets are taken from. Raises EnvironmentLacks for a setting that is no IPv4 network."""
    text = os.environ.get(SUBNETS_VARIABLE, SUBNETS)
    try:
        return Network(text)
    except ValueError as error:
        raise EnvironmentLacks(
            f"{SUBNETS_VARIABLE}={text} is no IPv4 network ({error})", f"set it to one, like {SUBNETS}", "bad-subnets"
        ) from None


def random_part(space: Network) -> Network:
    """A sixteenth of it; all of it, where that would be too small for a project of some hosts."""
    return random.choice(list(space.subnets(4))) if space.prefixlen <= 20 else space


def pick_subnets(space: Network, sizes: Iterable[int], taken: Iterable[Network]) -> list[Network]:
    """The first free subnets for so many hosts each. Raises EnvironmentLacks when there are not enough."""
    used, found = [t for t in taken if t.overlaps(space)], []
    for size in sizes:
        prefix = min(_SMALLEST, 32 - (size + _SPARE_ADDRESSES - 1).bit_length())
        free = _first_free(space, prefix, used)
        if free is None:
            raise EnvironmentLacks(
                f"no subnet for {size} hosts is free in {space} ({len(used)} are taken)",
                f"set {SUBNETS_VARIABLE} to a larger or another range, or run `midsession prune`",
                "no-subnet",
            )
        used.append(free)
        found.append(free)
    return found


def _first_free(space: Network, prefix: int, used: list[Network]) -> Network | None:
    """Steps over what is in the way rather than through it: a large network may be taken as one."""
    step, last = 1 << (32 - prefix), int(space.broadcast_address)
    at = int(space.network_address)
    while at + step - 1 <= last:
        candidate = Network((at, prefix))
        hindrance = next((u for u in used if u.overlaps(candidate)), None)
        if hindrance is None:
            return candidate
        beyond = max(int(hindrance.broadcast_address) + 1, at + step)
        at = -(-beyond // step) * step
    return None
