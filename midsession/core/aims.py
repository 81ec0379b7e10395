"""Whom a step is aimed at: is there such a name, and can the fault hit it, as its fields stand?

A name is that of a service, of a client group, or of one client of a group (`talkers-3`); a choice (`{one: …}`) is made
among a list of names, or among the clients of a group.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from midsession.core.choice import LEAST
from midsession.core.loader import Node
from midsession.core.scenario import Language
from midsession.core.wrong import Wrong, did_you_mean, quoted
from midsession.errors import Problem

_NUMBER = re.compile("[1-9][0-9]{0,6}")
_SLUGS = {"service": "unknown-service", "client group": "unknown-group"}


class Parties:
    """Who there is in a scenario, by name; `programs` are the groups whose clients are programs of their own."""

    def __init__(self, tree: Node) -> None:
        self.services, self.groups = (dict(node.items() if (node := tree.get(k)) else ()) for k in _SECTIONS)
        self.programs = [name for name, group in self.groups.items() if group.get("command") or group.get("image")]

    def kind(self, name: str) -> str | None:
        """What a name stands for: `talkers-3` is a client of a group that has so many.

        One that is a program has a host of its own, so it can be hit as a group can.
        """
        if name in self.services:
            return "service"
        group = self.group_of(name)
        if group is None:
            return None
        return "client group" if group == name or group in self.programs else "client"

    def group_of(self, name: str) -> str | None:
        """The client group that a name means, itself or one of its clients."""
        if name in self.groups:
            return name
        group, _, number = name.rpartition("-")
        if group not in self.groups or not _NUMBER.fullmatch(number):
            return None
        count = self.count(group)
        return group if count is None or int(number) <= count else None

    def count(self, group: str) -> int | None:
        """How many clients a group has; None where that is wrong itself."""
        node = self.groups[group].get("count")
        if node is None:
            return 1
        return node.value if isinstance(node.value, int) else None


_SECTIONS = ("services", "clients")


def aim_problems(verb: str, body: Node, parties: Parties, language: Language) -> list[Problem]:
    """What is wrong with the `target` in the body of a fault."""
    target = body.get("target")
    if target is None:
        return []
    aim = _Aim(verb, parties, language)
    found = list(aim.problems(target))
    return found or list(aim.unfit(body, target))


class _Aim:
    def __init__(self, verb: str, parties: Parties, language: Language) -> None:
        self._verb, self._parties, self._language = verb, parties, language
        self._allowed: Collection[str] = getattr(language.faults.get(verb), "targets", {"service"})

    def problems(self, target: Node) -> Iterator[Problem]:
        """Of the name, or of every name among which it is chosen."""
        if isinstance(target.value, str):
            yield from self._name(target)
        for how, among in target.items():
            if how in LEAST:
                yield from self._choice(how, among)

    def unfit(self, body: Node, target: Node) -> Iterator[Problem]:
        """Of the fault as a whole, whose names are right. What is wrong with its fields, its model says."""
        try:
            refuse = getattr(self._language.fault(self._verb, body.data), "refuse_kinds", None)
        except ValueError:
            return
        if refuse is None:
            return
        for kinds in self._kinds(target):
            try:
                refuse(kinds)
            except Wrong as wrong:
                yield Problem(wrong.message, wrong.slug, target.place, wrong.remedy)
                return

    def _kinds(self, target: Node) -> list[set[str]]:
        """What it may hit at once: of what kinds those are who may be chosen together."""
        ((how, among),) = target.items() if isinstance(target.value, dict) else [("all", Node([target], target.place))]
        if isinstance(among.value, str):
            names = [f"{among.value}-1"]
        else:
            names = [name for node in among.each() if isinstance(name := node.value, str)]
        kinds = [kind for name in names if (kind := self._parties.kind(name))]
        return [{kind} for kind in kinds] if how == "one" else [{*kinds}]

    def _choice(self, how: str, among: Node) -> Iterator[Problem]:
        names, count = list(among.each()), len(list(among.each()))
        if isinstance(among.value, str):
            if among.value not in self._parties.groups:
                yield from self._alone(how, among)
                return
            names = [Node(f"{among.value}-1", among.place)]
            number = self._parties.count(among.value)
            count = LEAST[how] if number is None else number
        for name in names:
            yield from self._name(name)
        if count < LEAST[how]:
            yield Problem(f"a {how} of {count} is nobody", "out-of-range", among.place, f"name {LEAST[how]} at least")

    def _alone(self, how: str, node: Node) -> Iterator[Problem]:
        """One name that is no group's: there is nobody to choose among."""
        name = str(node.value)
        if (kind := self._parties.kind(name)) is None:
            yield from self._name(node)
            return
        remedy = f"write '{self._verb}: {name}', or a list of names"
        yield Problem(
            f"'{how}' chooses among the clients of a group, and {quoted(name)} is a {kind}",
            "wrong-target",
            node.place,
            remedy,
        )

    def _name(self, node: Node) -> Iterator[Problem]:
        """It must be of a kind that the fault can hit."""
        name = node.value
        if not isinstance(name, str):
            return
        kind = self._parties.kind(name)
        if kind is None:
            said = " or ".join(sorted({*self._allowed} - {"client"}, reverse=True))
            fitting = [one for one in self._everybody if self._parties.kind(one) in self._allowed]
            remedy = did_you_mean(name, fitting)
            slug = _SLUGS.get(said, "unknown-subject")
            yield Problem(f"there is no {said} {quoted(name)}", slug, node.place, remedy)
        elif kind not in self._allowed:
            message = f"'{self._verb}' cannot target the {kind} {quoted(name)}"
            yield Problem(message, "wrong-target", node.place, self._instead(kind))

    def _instead(self, kind: str) -> str:
        if kind == "client" and "client group" in self._allowed:
            return "it hits whole hosts: give that client a group of its own, and name the group"
        first = "service" if "service" in self._allowed else "client group"
        known = self._parties.services if first == "service" else self._parties.groups
        return f"it must be a {first}, like {quoted(next(iter(known), 'server'))}"

    @property
    def _everybody(self) -> list[str]:
        return [*self._parties.services, *self._parties.groups]
