"""What one part of a scenario says about another: names, signals, ids, and whether they fit.

Works on the tree of nodes, not on the models, so that a file's wrong values do not hide its wrong references: both are
reported at once. What has the wrong type is passed over here; the models complain of it.

What the fields of faults and checks refer to stands in their types (`core/refers.py`). `target`, and each name that a
choice is drawn from, refers to what the fault allows: a service unless its class says otherwise. `event` and `meets`
beside a name must be an event that it can have, and with `each: true` the names are those of clients.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from midsession.core.aims import Parties, aim_problems
from midsession.core.choice import LEAST
from midsession.core.compile import step_id
from midsession.core.ended import stranded_steps
from midsession.core.fields import NOUNS, can_be, fields_of, known_words
from midsession.core.loader import Node
from midsession.core.record import Event
from midsession.core.refers import Kind, references_of
from midsession.core.scenario import MAX_CLIENTS, OWN_VERBS, Language, When
from midsession.core.whose import OF_AGENTS, OF_CLIENTS, OF_PROGRAMS, OF_SERVERS, WRITERS, Writer
from midsession.core.wrong import did_you_mean, quoted
from midsession.errors import Place, Problem

_FOREIGN = ("command", "image", "compose")
"""The kinds of services that write no records of their own."""
RESERVED = ("all", "conductor")
FLEETS = "client"
"""Testbeds call the hosts that play scripted clients `client-1`, `client-2`, …"""
_FLEET = re.compile(rf"{FLEETS}-[1-9][0-9]*")
_OF_FLEETS = f"the hosts of all fleets are called '{FLEETS}-…'"

_OR_ONE_CLIENT = frozenset(
    {"service, client group or client", "group or client with a script", "group of client programs"}
)
_SLUGS = {
    "service": "unknown-service",
    "client group": "unknown-group",
    "group or client with a script": "unknown-group",
    "group of client programs": "unknown-group",
    "service or client group": "unknown-subject",
    "service, client group or client": "unknown-subject",
    "step": "unknown-step",
}


def reference_problems(tree: Node, language: Language) -> list[Problem]:
    """Everything that refers to something that is not there, or that does not fit."""
    return _References(tree, language).problems()


def file_nodes(tree: Node) -> Iterator[tuple[str, Node]]:
    """Every path in a scenario that the outside must look at: ("send" | "compose" | "cwd" | "copy", node)."""
    for _, group in _items(tree, "clients"):
        for verb, body in _verbs(group.get("script")):
            if verb == "send" and (node := body.get("file")):
                yield "send", node
        yield from _files_of_program(group)
    for _, service in _items(tree, "services"):
        compose = service.get("compose")
        if compose and (node := compose.get("file")):
            yield "compose", node
        yield from _files_of_program(service)


def _files_of_program(program: Node) -> Iterator[tuple[str, Node]]:
    if node := program.get("cwd"):
        yield "cwd", node
    if copied := program.get("files"):
        yield from (("copy", node) for node in copied.each())


def _items(tree: Node, key: str) -> Iterator[tuple[str, Node]]:
    node = tree.get(key)
    return node.items() if node else iter(())


def _verbs(script: Node | None) -> Iterator[tuple[str, Node]]:
    """Every (verb, body) of a script, those inside `repeat` too."""
    for step in script.each() if script else ():
        for verb, body in step.items():
            yield verb, body
            if verb == "repeat":
                yield from _verbs(body.get("script"))


def _text(node: Node | None) -> str | None:
    return node.value if node and isinstance(node.value, str) else None


@dataclass
class _Step:
    """A step of the timeline as far as it can be read."""

    id: str
    place: Place
    node: Node
    verbs: list[str]
    needs: list[str] = field(default_factory=list)


class _References:
    """One pass over a tree. `_found` grows; the order is put right by the caller."""

    def __init__(self, tree: Node, language: Language) -> None:
        self._tree, self._language = tree, language
        self._found: list[Problem] = []
        self._parties = Parties(tree)
        self._services, self._groups, self._foreign = (
            self._parties.services,
            self._parties.groups,
            self._parties.programs,
        )
        self._steps = self._read_steps()
        scripted = [name for name in self._groups if name not in self._foreign]
        self._known: Mapping[Kind, Collection[str]] = {
            "service": self._services,
            "client group": self._groups,
            "group or client with a script": scripted,
            "group of client programs": self._foreign,
            "service or client group": [*self._services, *self._groups],
            "service, client group or client": [*self._services, *self._groups],
            "step": [step.id for step in self._steps],
        }

    def problems(self) -> list[Problem]:
        self._names()
        self._hosts()
        self._compose_services()
        self._clients()
        for step in self._steps:
            self._step(step)
        self._cycles()
        self._signals()
        checks = self._tree.get("checks")
        for check in checks.each() if checks else ():
            self._check(check)
        return self._found

    def _read_steps(self) -> list[_Step]:
        timeline = self._tree.get("timeline")
        known = self._language.action.one_of
        return [
            _Step(
                step_id(n, _text(node.get("id"))), _place(node, "id"), node, [v for v, _ in node.items() if v in known]
            )
            for n, node in enumerate(timeline.each() if timeline else ())
        ]

    def _wrong(self, slug: str, message: str, place: Place, remedy: str = "") -> None:
        self._found.append(Problem(message, slug, place, remedy))

    # --- names ---

    def _names(self) -> None:
        for section in ("services", "clients"):
            node = self._tree.get(section)
            for name, place in node.keys.items() if node else ():
                if name in RESERVED:
                    self._wrong("bad-name", f"the name '{name}' has a meaning of its own", place, "choose another")
                if section == "clients" and name in self._services:
                    self._wrong("duplicate-id", f"'{name}' is a service already", place, "choose another name")
        seen: dict[str, _Step] = {}
        for step in self._steps:
            if step.id in seen:
                first = seen[step.id].place.line
                self._wrong(
                    "duplicate-id", f"the id '{step.id}' stands in line {first} already", step.place, "rename it"
                )
            elif step.id in RESERVED:
                self._wrong("bad-name", f"the id '{step.id}' has a meaning of its own", step.place, "choose another")
            seen.setdefault(step.id, step)

    def _hosts(self) -> None:
        """A client's name is nobody else's: steps and checks use it, and so does the host of a client program."""
        places = self._tree.at(("clients",)).keys
        if FLEETS in self._foreign:
            self._wrong("bad-name", _OF_FLEETS, places[FLEETS], "choose another name")
        for service in self._services:
            group = self._parties.group_of(service)
            if group is None and _FLEET.fullmatch(service):
                place = self._tree.at(("services",)).keys[service]
                self._wrong("bad-name", _OF_FLEETS, place, "choose another name")
            if group is not None and group != service:
                message = f"'{service}' is a service already, and would be a client of '{group}'"
                self._wrong("duplicate-id", message, places[group], "choose another name")

    def _compose_services(self) -> None:
        """Two services cannot be one program."""
        seen: dict[tuple[str, str], str] = {}
        for name, service in self._services.items():
            compose = service.get("compose")
            file, key = (_text(compose.get("file")), _text(compose.get("service"))) if compose else (None, None)
            if compose is None or file is None or key is None:
                continue
            first = seen.setdefault((file, key), name)
            if first != name:
                message = f"'{first}' is the Compose service {quoted(key)} already"
                self._wrong("duplicate-id", message, compose.place, "name each Compose service once")

    def _refer(self, kind: Kind, node: Node | None) -> str | None:
        """Check one reference; the name where it is known."""
        name = _text(node)
        if node is None or name is None:
            return None
        known = self._known[kind]
        if name in known or (kind in _OR_ONE_CLIENT and self._parties.group_of(name) in known):
            return name
        remedy = self._what_it_is(name) or did_you_mean(name, known)
        self._wrong(_SLUGS[kind], f"there is no {kind} {quoted(name)}", node.place, remedy)
        return None

    def _what_it_is(self, name: str) -> str:
        """What a name stands for that does not fit where it stands; empty for one that stands for nothing."""
        group = self._parties.group_of(name)
        if group is None:
            return f"'{name}' is a service" if name in self._services else ""
        foreign = group in self._foreign
        if name == group:
            return f"'{name}' is a client group {'of programs' if foreign else 'with a script'}"
        return f"'{name}' is a client {'that is a program' if foreign else 'with a script'}"

    # --- clients ---

    def _clients(self) -> None:
        total = 0
        for _, group in self._groups.items():
            self._address(group.get("connect"))
            count = group.get("count")
            total += count.value if count and isinstance(count.value, int) else 1
            if total > MAX_CLIENTS and count:
                self._wrong("out-of-range", f"the groups have more than {MAX_CLIENTS} clients together", count.place)
            for verb, body in _verbs(group.get("script")):
                if verb == "connect":
                    self._address(body.get("to") or body)
            for step in stranded_steps(group.get("script")):
                message = f"'{step.verb}' has no connection: the '{step.ended}' before it has closed it"
                self._wrong("not-connected", message, step.place, "put '- connect' between them")

    def _address(self, node: Node | None) -> None:
        host, colon, port = (_text(node) or "").rpartition(":")
        if node is None or not colon:
            return
        if host not in self._services:
            remedy = did_you_mean(host, self._services)
            self._wrong("unknown-service", f"there is no service {quoted(host)} to connect to", node.place, remedy)
        own = self._services[host].get("port") if host in self._services else None
        if own and self._services[host].get("reference") and port != str(own.value):
            message = f"the service '{host}' does not listen on port {port}"
            self._wrong("wrong-port", message, node.place, f"its port is {quoted(own.value)}")

    def _signals(self) -> None:
        raised = [signal for step in self._steps if (signal := _text(step.node.get("signal")))]
        for group in self._groups.values():
            for verb, body in _verbs(group.get("script")):
                node = body.get({"wait": "signal", "repeat": "until"}.get(verb, ""))
                name = _text(node)
                if node and name is not None and name not in raised:
                    remedy = did_you_mean(name, raised) if raised else "add a step '- signal: …' to the timeline"
                    self._wrong("signal-never-raised", f"no step raises the signal {quoted(name)}", node.place, remedy)

    # --- the timeline ---

    def _step(self, step: _Step) -> None:
        when = step.node.get("when")
        if when:
            self._trigger(step, when)
        for verb in step.verbs:
            body = step.node.get(verb)
            assert body is not None
            if verb in OWN_VERBS:
                self._own(verb, body)
            else:
                if isinstance(body.value, str) or (body.value and dict(body.items()).keys() <= LEAST.keys()):
                    body = Node({"target": body}, body.place)
                self._body(self._language.faults[verb], body)
                self._found += aim_problems(verb, body, self._parties, self._language)
        for_node = step.node.get("for")
        if for_node and step.verbs and not set(step.verbs) & self._language.healable:
            remedy = f"'for' fits {', '.join(sorted(self._language.healable)) or 'no action yet'}"
            self._wrong("not-healable", f"'{step.verbs[0]}' does not heal", _place(step.node, "for"), remedy)

    def _own(self, verb: str, body: Node) -> None:
        if verb == "run":
            self._refer("client group", body)
            runs = [node for step in self._steps if (node := step.node.get("run")) and node.value == body.value]
            if len(runs) > 1 and runs[0] is not body:
                self._wrong("duplicate-id", f"the group {quoted(body.value)} is run a second time", body.place)
        if verb == "heal" and body.value != "all" and (name := self._refer("step", body)):
            step = next(step for step in self._steps if step.id == name)
            if step.verbs and not set(step.verbs) & self._language.healable:
                able = [step.id for step in self._steps if set(step.verbs) & self._language.healable]
                remedy = f"what heals: {', '.join(able or sorted(self._language.healable))}"
                self._wrong("not-healable", f"the step '{name}' does what does not heal", body.place, remedy)

    def _trigger(self, step: _Step, when: Node) -> None:
        keys = dict(when.items())
        kind = When.kind_of(keys)
        for key in ("after", "since"):
            if name := self._refer("step", when.get(key)):
                step.needs.append(name)
        if kind in ("event", "every"):
            self._subject(when, self._refer("client group", when.get("every")), "event")
            self._subject(when, self._refer("service, client group or client", when.get("of")), "event")
            self._mark(when)
            self._fields(when)
        if kind == "log" and (log := when.get("log")):
            self._refer("service", log.get("service"))
            self._refer("group of client programs", log.get("clients"))
        for inner in (*keys.get("all", when).each(), *keys.get("any", when).each()):
            self._trigger(step, inner)

    def _cycles(self) -> None:
        """A step that waits for itself, by way of `after` and `since`, never happens."""
        times = Counter(step.id for step in self._steps)
        once = [step for step in self._steps if times[step.id] == 1]  # of two of one name, nobody knows which is meant
        needs = {step.id: step.needs for step in once}
        for step in once:
            if _reaches(step.id, step.id, needs):
                self._wrong("cycle", f"the step '{step.id}' waits for itself", step.place, "break the circle")

    # --- the bodies of faults and checks ---

    def _check(self, check: Node) -> None:
        kind = self._language.check_kind(dict(check.items()))
        if kind is None:
            return
        self._body(self._language.checks[kind], check)
        each, inner = check.get("each"), check.get(kind)
        subject = inner.get("of") if inner else None
        if each and each.value is True and subject and subject.value in self._services:
            message, remedy = f"there is no client group {quoted(subject.value)}", "name one, or leave 'each' out"
            self._wrong("unknown-group", message, subject.place, remedy)

    def _body(self, cls: type[Any], body: Node) -> None:
        meant = references_of(cls)
        for key, node in body.items():
            refers = meant.get(key)
            if isinstance(refers, type):
                for inner in (node, *node.each()):
                    self._body(refers, inner)
            elif refers is not None:
                names = [self._refer(refers, one) for one in (node, *node.each())]
                for word in ("event", "meets") if refers != "step" else ():
                    self._subject(body, names[0], word)
        self._mark(body)
        self._fields(body)

    def _fields(self, mapping: Node) -> None:
        """A field or a value that no record of the event can have would make a check that cannot fail."""
        word = _text(mapping.get("event")) or _text(mapping.get("meets"))
        if word not in {e.value for e in Event}:
            return
        subject = _text(mapping.get("of")) or _text(mapping.get("every"))
        if subject is None and WRITERS[Event(word)] == {"server"} and self._are_all_foreign():
            message = f"no service here is a reference server, so there is no '{word}'"
            remedy = "ask for what its clients see, or what it writes (`line`)"
            node = mapping.get("event") or mapping.get("meets")
            assert node is not None
            self._wrong("impossible-event", message, node.place, remedy)
        kinds = fields_of(Event(word), self._writer(subject) if subject else None)
        way = mapping.get("as")
        if way is not None:
            self._field(word, "how", way, kinds)
        where = mapping.get("where")
        for key, node in where.items() if where else ():
            self._field(word, key, node, kinds)

    def _are_all_foreign(self) -> bool:
        """Whether each service is somebody else's program."""
        return all(any(service.get(key) for key in _FOREIGN) for service in self._services.values())

    def _field(self, event: str, key: str, node: Node, kinds: Mapping[str, Any]) -> None:
        if key not in kinds:
            remedy = did_you_mean(key, kinds) or f"it has {', '.join(kinds) or 'none'}"
            self._wrong("unknown-field", f"'{event}' has no field {quoted(key)}", node.place, remedy)
        elif node.value is not None and not can_be(kinds[key], node.value):
            words = known_words(kinds[key])
            remedy = f"it can be {', '.join(words)}" if words else f"it is {NOUNS[kinds[key]]}"
            said = str(node.value) if isinstance(node.value, str | int | float | bool) else node.value
            message = f"the field '{key}' of '{event}' is never {quoted(said)}"
            self._wrong("impossible-value", message, node.place, remedy)

    def _subject(self, mapping: Mapping[str, Node] | Node, name: str | None, key: str) -> None:
        """Can this service or group have this event at all?"""
        node = mapping.get(key)
        event = _text(node)
        if node is None or name is None or event not in {e.value for e in Event}:
            return
        what, possible = self._possible(name)
        if event not in possible:
            remedy = f"it can have {', '.join(sorted(possible))}"
            message = f"the {what} '{name}' never has the event '{event}'"
            if name in self._services and event in OF_SERVERS:
                message = f"'{name}' is not a reference server, so it has no '{event}'"
            self._wrong("impossible-event", message, node.place, remedy)

    def _writer(self, name: str) -> Writer | None:
        """Who writes the records of what a service or a client does; None for a name that is nobody's."""
        group = self._parties.group_of(name)
        if group is None and name not in self._services:
            return None
        if group is not None:
            return "agent" if group in self._foreign else "client"
        return "server" if self._services[name].get("reference") else "agent"

    def _possible(self, name: str) -> tuple[str, frozenset[Event]]:
        """What a group or a service is, and the events that it can have: only reference servers write records."""
        group = self._parties.group_of(name)
        if group is not None:
            what = "client group" if name == group else "client"
            return what, OF_PROGRAMS if group in self._foreign else OF_CLIENTS
        if self._services[name].get("reference"):
            return "service", OF_SERVERS | OF_AGENTS
        return "service", OF_AGENTS

    def _mark(self, mapping: Node) -> None:
        """A mark that no script sets never comes."""
        where = mapping.get("where")
        node = where.get("name") if where else None
        word = _text(mapping.get("event")) or _text(mapping.get("meets"))
        name = _text(node)
        if node is None or name is None or word != Event.MARK:
            return
        marks = [
            mark
            for group in self._groups.values()
            for verb, body in _verbs(group.get("script"))
            if verb == "mark" and (mark := _text(body))
        ]
        if name not in marks:
            self._wrong(
                "unknown-mark", f"no script sets the mark {quoted(name)}", node.place, did_you_mean(name, marks)
            )


def _place(node: Node, key: str) -> Place:
    inner = node.get(key)
    return inner.place if inner else node.place


def _reaches(start: str, goal: str, edges: Mapping[str, list[str]]) -> bool:
    seen: set[str] = set()
    open_ = list(edges[start])
    while open_:
        step = open_.pop()
        if step == goal:
            return True
        if step not in seen:
            seen.add(step)
            open_ += edges.get(step, [])
    return False
