"""Clients over hosts: everybody is played exactly once, and a group has hosts of its own where there are enough."""

from __future__ import annotations

from collections import Counter

import pytest

from midsession.core.placement import deal
from midsession.core.plan import ClientPlan, End, GroupPlan


def group(name: str, count: int) -> GroupPlan:
    return GroupPlan(name, "server", 4000, [End()], [ClientPlan(n, 0.0, "") for n in range(1, count + 1)])


def names(hands: list[list[GroupPlan]]) -> list[list[str]]:
    return [[f"{g.name}-{c.number}" for g in hand for c in g.clients] for hand in hands]


def test_with_enough_hosts_no_two_groups_share_one() -> None:
    """The larger group gets the hosts that are over."""
    assert names(deal([group("a", 1), group("b", 4)], 3)) == [["a-1"], ["b-1", "b-3"], ["b-2", "b-4"]]


def test_with_too_few_hosts_all_groups_share_them() -> None:
    """Round robin in the plan's order."""
    assert names(deal([group("a", 1), group("b", 3), group("c", 1)], 2)) == [["a-1", "b-2", "c-1"], ["b-1", "b-3"]]


def test_a_host_without_clients_is_not_used() -> None:
    """Neither for a group that is smaller than its share, nor for one without clients."""
    assert names(deal([group("a", 2), group("nobody", 0)], 5)) == [["a-1"], ["a-2"]]


@pytest.mark.parametrize("hosts", range(1, 9))
@pytest.mark.parametrize("sizes", [(1,), (7,), (1, 1), (1, 9), (3, 4, 5), (1, 1, 1, 1, 40)])
def test_every_client_is_played_exactly_once(sizes: tuple[int, ...], hosts: int) -> None:
    """However many hosts there are; and the loads are even: a group's on its hosts, and all where hosts are shared."""
    groups = [group(f"g{n}", size) for n, size in enumerate(sizes)]
    hands = deal(groups, hosts)
    played = Counter(name for hand in names(hands) for name in hand)
    assert played == Counter(f"{g.name}-{c.number}" for g in groups for c in g.clients)
    shared = hosts < len(groups)
    assert all(len(hand) == 1 for hand in hands) or shared
    loads = [sum(len(g.clients) for g in hand) for hand in hands]
    assert not shared or max(loads) - min(loads) <= 1
    for one in groups:
        own = [sum(len(g.clients) for g in hand if g.name == one.name) for hand in hands]
        of_group = own if shared else [load for load in own if load]
        assert max(of_group) - min(of_group) <= 1


def test_a_host_per_8000_clients_is_enough_for_no_host_to_have_more() -> None:
    """What netns makes of a plan fits."""
    groups = [group("a", 1), group("b", 8001), group("c", 16000), group("d", 20)]
    hosts = sum(-(-len(g.clients) // 8000) for g in groups)
    loads = [sum(len(g.clients) for g in hand) for hand in deal(groups, hosts)]
    assert max(loads) <= 8000
    assert sum(loads) == 24022
