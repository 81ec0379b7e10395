"""Which client is played where: a pure function of the plan's groups and the number of fleet hosts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from midsession.core.plan import GroupPlan


def deal(groups: Sequence[GroupPlan], hosts: int) -> list[list[GroupPlan]]:
    """What each host plays: groups, each with only the clients that fall to it. Hosts that get none are left out.

    With at least as many hosts as groups, every group has hosts of its own, so that a fault can have it for a target:
    one each, and each further host for the group whose hosts have the most clients. With fewer, all groups share all
    hosts. In either case the clients are dealt out one by one, in the plan's order.
    """
    peopled = [group for group in groups if group.clients]
    if hosts < len(peopled):
        return _shared(peopled, hosts)
    return [[share] for group, own in zip(peopled, _allot(peopled, hosts), strict=True) for share in _split(group, own)]


def _allot(groups: Sequence[GroupPlan], hosts: int) -> list[int]:
    """How many hosts each group gets; never more than it has clients."""
    sizes = [len(group.clients) for group in groups]
    allotted = [1] * len(sizes)
    for _ in range(min(hosts, sum(sizes)) - len(sizes)):
        neediest = max(range(len(sizes)), key=lambda at: (sizes[at] / allotted[at], -at))
        allotted[neediest] += 1
    return allotted


def _split(group: GroupPlan, hosts: int) -> list[GroupPlan]:
    return [msgspec.structs.replace(group, clients=group.clients[at::hosts]) for at in range(hosts)]


def _shared(groups: Sequence[GroupPlan], hosts: int) -> list[list[GroupPlan]]:
    cards = [(group, client) for group in groups for client in group.clients]
    hands = [cards[at::hosts] for at in range(min(hosts, len(cards)))]
    return [
        [
            msgspec.structs.replace(group, clients=clients)
            for group in groups
            if (clients := [client for g, client in hand if g is group])
        ]
        for hand in hands
    ]
