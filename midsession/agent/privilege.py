"""Become an ordinary user who may still configure the network: CAP_NET_ADMIN without root, see capabilities(7).

An engine gives a capability to a container's root alone (an ordinary user's first exec loses it). So an agent that has
to break its network starts as root, with that capability and what it takes to become somebody else; here it becomes
that user and keeps CAP_NET_ADMIN, and CAP_NET_RAW, with which packets that were held back are sent. The programs that
it starts are the same user, without any capability.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from midsession.agent import libc

USER_VARIABLE = "MIDSESSION_USER"
"""The number of the user, and of the group, that the agent becomes."""

_NET_ADMIN = 1 << libc.CAP_NET_ADMIN
_KEPT = _NET_ADMIN | 1 << libc.CAP_NET_RAW


def become(user: int) -> None:
    """Be that user and its group from now on, with these two capabilities and no other. Raises OSError."""
    libc.keep_capabilities(True)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    libc.set_capabilities(_KEPT, inheritable=0)
    libc.keep_capabilities(False)


def may_administer() -> bool:
    """Whether this process has CAP_NET_ADMIN over its network."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _NET_ADMIN)


@contextmanager
def lent() -> Iterator[None]:
    """What is started meanwhile has both capabilities too: for tools like `nft`, never for a program under test.

    iptables speaks with the kernel about its older tables over a raw socket, and so needs CAP_NET_RAW. Root's children
    have what root has. Raises OSError for a user who has them not.
    """
    if os.geteuid() == 0:
        yield
        return
    libc.set_capabilities(_KEPT, inheritable=_KEPT)
    for capability in (libc.CAP_NET_ADMIN, libc.CAP_NET_RAW):
        libc.raise_ambient(capability)
    try:
        yield
    finally:
        libc.set_capabilities(_KEPT, inheritable=0)  # what is not inheritable is not ambient
