"""Why a machine does not let namespaces be made, and the command or option that allows them.

`Machine.look` reads what the kernel tells about the obstacles that there are in practice; `explain` is pure. Sources:
user_namespaces(7), Docker's seccomp profile and masked paths, Ubuntu's restriction of unprivileged user namespaces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from midsession.testbeds.netns import kernel
from midsession.testbeds.netns.world import Answer

UNSHARE, MAP, MOUNT, MOUNT_PROC = range(4)
"""The steps of making a world, in their order: what stands in the way of a later one is worth saying at an earlier."""
_STEPS = {"unshare": UNSHARE, "mount proc": MOUNT_PROC}
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io")
_SECCOMP_FILTER = 2  # of `Seccomp:` in proc_pid_status(5)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What may be in the way. The sysctls are None where the kernel has none of that name."""

    contained: bool = False
    root: bool = False
    may_map_root: bool = True
    seccomp: bool = False
    apparmor: str = ""
    proc_is_covered: bool = False
    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restrict_unprivileged_userns: int | None = None

    @staticmethod
    def look() -> Machine:
        """This one, for this process."""
        status = dict(line.split(":\t", 1) for line in _text("/proc/self/status").splitlines() if ":\t" in line)
        mounts = [line.split()[4] for line in _text("/proc/self/mountinfo").splitlines()]
        return Machine(
            contained=any(os.path.exists(mark) for mark in _CONTAINER_MARKS),
            root=os.geteuid() == 0,
            may_map_root=bool(int(status.get("CapEff", "0"), 16) >> kernel.CAP_SETFCAP & 1),
            seccomp=status.get("Seccomp", "").strip() == str(_SECCOMP_FILTER),
            apparmor=_text("/proc/self/attr/current").removesuffix("\n").removesuffix("unconfined"),
            proc_is_covered=any(mount.startswith("/proc/") for mount in mounts),
            max_user_namespaces=_sysctl("user/max_user_namespaces"),
            unprivileged_userns_clone=_sysctl("kernel/unprivileged_userns_clone"),
            apparmor_restrict_unprivileged_userns=_sysctl("kernel/apparmor_restrict_unprivileged_userns"),
        )


class Obstacle(NamedTuple):
    """What is in the way of which step, and the command, or the option for whoever starts the container."""

    step: int
    what: str
    remedy: str
    is_option: bool = False


def explain(answer: Answer, machine: Machine) -> tuple[str, str]:
    """From what the kernel refused to do: what is missing, and the remedy."""
    missing = f"namespaces cannot be made here: {answer.error}"
    if not answer.refused:
        return missing, "see docs/netns.md for what a host is made of"
    step = _STEPS.get(answer.refused, MAP if answer.refused.endswith("_map") else MOUNT)
    found = [obstacle for obstacle in _obstacles(machine) if obstacle.step >= step]
    if not found:
        return missing, "see docs/netns.md for what may forbid it"
    options = [obstacle.remedy for obstacle in found if obstacle.is_option]
    commands = [obstacle.remedy for obstacle in found if not obstacle.is_option]
    if options:
        commands.append(f"start the container with {' '.join(options)}")
    return f"{missing} (in the way: {', '.join(o.what for o in found)})", "; and ".join(commands)


def _obstacles(machine: Machine) -> Iterator[Obstacle]:
    if machine.max_user_namespaces == 0:
        sysctl = "sysctl -w user.max_user_namespaces=10000"
        yield Obstacle(UNSHARE, "user.max_user_namespaces is 0", sysctl)
    if machine.unprivileged_userns_clone == 0 and not machine.root:
        sysctl = "sysctl -w kernel.unprivileged_userns_clone=1"
        yield Obstacle(UNSHARE, "kernel.unprivileged_userns_clone is 0", sysctl)
    if machine.seccomp and machine.contained:
        yield Obstacle(UNSHARE, "the container's seccomp profile", "--security-opt seccomp=unconfined", True)
    elif machine.seccomp:
        yield Obstacle(UNSHARE, "a seccomp filter", "take off SystemCallFilter= and RestrictNamespaces= (systemd)")
    if machine.root and not machine.may_map_root:
        remedy = "--cap-add SETFCAP (or run as an ordinary user: --user 1000)"
        yield Obstacle(MAP, "root without CAP_SETFCAP", remedy, machine.contained)
    if machine.apparmor_restrict_unprivileged_userns == 1 and not machine.root:
        sysctl = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        yield Obstacle(MAP, "kernel.apparmor_restrict_unprivileged_userns is 1", sysctl)
    if machine.apparmor:
        remedy = "--security-opt apparmor=unconfined"
        yield Obstacle(MOUNT, f"the AppArmor profile {machine.apparmor}", remedy, True)
    if machine.proc_is_covered:
        remedy = "--security-opt systempaths=unconfined"
        yield Obstacle(MOUNT_PROC, "the container's masked paths in /proc", remedy, True)


def _sysctl(name: str) -> int | None:
    text = _text(f"/proc/sys/{name}").strip()
    return int(text) if text.isdecimal() else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").rstrip("\0")
    except OSError:
        return ""
