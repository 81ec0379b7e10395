"""A scenario, a seed and one combination of the matrix → the plan. Pure: the same input gives the same bytes.

All draws come from SHA-256 substreams named by their purpose and entity, so that adding a client or a group changes
no other's draws:

- `session`, `<group>-<number>`: the client's key, from which its session draws (waits in a range, jitter, bytes).
- `target`, `<step>`: whom the step hits, where it says `{one: …}` or the like.
- `arrive`, `<group>`: with `arrive: {over: d}` the time d is cut into as many slots as there are clients; the slots
  are shuffled (Fisher-Yates), and each client arrives somewhere in its slot. So any stretch of d sees its even share
  of arrivals, and numbers say nothing about order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import msgspec

from midsession.core import plan, scenario
from midsession.core.choice import choose, shuffled
from midsession.core.loader import Node
from midsession.core.scalars import Scalar
from midsession.core.shape import Model, plain


def compile_plan(
    source: scenario.Scenario,
    tree: Node,
    *,
    path: str,
    seed: int,
    matrix: Mapping[str, Scalar],
    files: Mapping[str, bytes],
) -> plan.Plan:
    """The plan of a scenario without problems. `tree` gives the places, `files` the bytes of those that it names."""
    begun_later = {action.body for action in source.timeline if action.verb == "run"}
    folder = PurePosixPath(path).parent
    groups = (_group(name, group, seed, folder, files) for name, group in source.clients.items())
    return plan.Plan(
        name=source.name,
        source=path,
        seed=seed,
        timeout_s=source.timeout_s,
        services=[_service(n, service, folder, files) for n, service in source.services.items()],
        groups=[msgspec.structs.replace(group, begin=group.name not in begun_later) for group in groups],
        timeline=[_step(number, action, tree, source.clients, seed) for number, action in enumerate(source.timeline)],
        checks=compile_checks(source.checks, tree),
        matrix=dict(matrix),
        about=source.about,
        tags=list(source.tags),
    )


def step_id(position: int, given: str | None) -> str:
    """The id of the step at a position (from 0) of the timeline: its own, else `step-<n>`, counted from 1."""
    return given if given is not None else f"step-{position + 1}"


# --- services and clients ------------------------------------------------------------------------------------------


def _service(name: str, service: scenario.Service, folder: PurePosixPath, files: Mapping[str, bytes]) -> plan.Service:
    common: dict[str, Any] = {
        "name": name,
        "port": service.port,
        "autostart": service.autostart,
        "grace_s": service.grace_s,
        "ready_within_s": service.ready.within_s,
        "ready_line": service.ready.line,
    }
    own: dict[str, Any] = {
        "env": dict(service.env),
        "files": _copied(service, files),
    }
    if service.image is not None:
        return plan.ImageService(image=service.image, argv=service.command, **own, **common)
    if service.command is not None:
        return plan.CommandService(argv=service.command, cwd=_cwd(service, folder), **own, **common)
    if service.compose is not None:
        return plan.ComposeService(file=service.compose.file, service=service.compose.service, **common)
    assert service.reference is not None
    return plan.ReferenceService(behaviour=service.reference.behaviour, **common)


def _copied(program: scenario.Program, files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: files[name].decode() for name in program.files}


def _cwd(program: scenario.Program, folder: PurePosixPath) -> str | None:
    return None if program.cwd is None else str(folder / program.cwd)


def _group(
    name: str, group: scenario.Clients, seed: int, folder: PurePosixPath, files: Mapping[str, bytes]
) -> plan.GroupPlan:
    host, _, port = (group.connect or ":0").rpartition(":")
    arrivals = arrivals_of(group.arrive, group.count, plan.substream(seed, "arrive", name))
    return plan.GroupPlan(
        name=name,
        host=host,
        port=int(port),
        script=_Script(group.connect_timeout_s, files).compiled(group.script or []),
        clients=[
            plan.ClientPlan(number, arrive_s, plan.substream(seed, "session", f"{name}-{number}"))
            for number, arrive_s in enumerate(arrivals, 1)
        ],
        on_loss=plan.Reconnect(**plain(group.on_loss.reconnect)) if group.on_loss else None,
        connect_timeout_s=group.connect_timeout_s,
        program=None if group.script is not None else _program(group, folder, files),
    )


def _program(group: scenario.Clients, folder: PurePosixPath, files: Mapping[str, bytes]) -> plan.Program:
    return plan.Program(
        argv=group.command,
        image=group.image,
        env=dict(group.env),
        cwd=_cwd(group, folder),
        files=_copied(group, files),
        grace_s=group.grace_s,
    )


def arrivals_of(arrive: scenario.Arrive | None, count: int, key: str) -> list[float]:
    """When each of `count` clients arrives, in seconds from the group's begin, by client number."""
    if arrive is None or arrive.at_s is not None:
        return [arrive.at_s or 0.0 if arrive else 0.0] * count
    if arrive.every_s is not None:
        return [round(number * arrive.every_s, 9) for number in range(count)]
    assert arrive.over_s is not None
    slot_s = arrive.over_s / count
    return [round((slot + plan.draw(key, count + n)) * slot_s, 9) for n, slot in enumerate(shuffled(count, key))]


# --- the session script --------------------------------------------------------------------------------------------


class _Script:
    """Compile a group's script: one method per verb that says more than its name."""

    def __init__(self, connect_timeout_s: float, files: Mapping[str, bytes]) -> None:
        self._connect_timeout_s, self._files = connect_timeout_s, files

    def compiled(self, script: list[scenario.Instruction]) -> list[plan.Instruction]:
        """The plan's instructions, one for each of the scenario's."""
        return [self._instruction(step) for step in script]

    def _instruction(self, step: scenario.Instruction) -> plan.Instruction:
        (verb,) = step.model_fields_set
        made: plan.Instruction = getattr(self, f"_{verb}")(getattr(step, verb))
        return made

    def _connect(self, body: scenario.Connect) -> plan.Connect:
        host, _, port = body.to.rpartition(":") if body.to else (None, "", None)
        timeout_s = self._connect_timeout_s if body.timeout_s is None else body.timeout_s
        return plan.Connect(host, int(port) if port else None, timeout_s, body.source_port)

    def _send(self, body: scenario.Send) -> plan.Send:
        return plan.Send(self._payload(body), body.slices, body.pause_s, body.as_)

    def _payload(self, body: scenario.Send) -> plan.Payload:
        if body.file is not None:
            return plan.Payload(hex=self._files[body.file].hex())
        if body.line is not None:
            return plan.Payload(text=body.line, line=True)
        as_hex = body.hex if body.hex is not None else body.base64
        return plan.Payload(text=body.text, hex=as_hex, random_bytes=body.random)

    def _expect(self, body: scenario.Expect) -> plan.Expect:
        return plan.Expect(**plain(body))

    def _wait(self, body: scenario.Wait) -> plan.Wait:
        return plan.Wait(plan.Span(*body.for_s) if body.for_s else None, body.signal)

    def _half_close(self, _: Model) -> plan.HalfClose:
        return plan.HalfClose()

    def _end(self, body: scenario.End) -> plan.End:
        return plan.End(body.within_s)

    def _abort(self, _: Model) -> plan.Abort:
        return plan.Abort()

    def _read(self, body: scenario.Read) -> plan.Read:
        (policy,) = body.model_fields_set
        return plan.Read(policy, body.slow)

    def _barrier(self, name: str) -> plan.Barrier:
        return plan.Barrier(name)

    def _mark(self, name: str) -> plan.Mark:
        return plan.Mark(name)

    def _repeat(self, body: scenario.Repeat) -> plan.Repeat:
        return plan.Repeat(self.compiled(body.script), body.times, body.until, body.for_s)


# --- the timeline and the checks -----------------------------------------------------------------------------------


def _step(
    number: int, action: scenario.Action, tree: Node, clients: Mapping[str, scenario.Clients], seed: int
) -> plan.Step:
    body, step = action.body, step_id(number, action.id)
    args = plain(body) if isinstance(body, Model) else {"target": body}
    if isinstance(args.get("target"), dict):
        args["target"] = _drawn(args["target"], clients, plan.substream(seed, "target", step))
    return plan.Step(
        id=step,
        when=_trigger(action.when),
        verb=action.verb,
        args=args,
        for_s=action.for_s,
        place=str(tree.at(("timeline", number)).place),
    )


def _drawn(target: Mapping[str, Any], clients: Mapping[str, scenario.Clients], key: str) -> str | list[str]:
    """The names that are chosen; a group that stands alone stands for its clients."""
    ((how, among),) = target.items()
    if isinstance(among, str):
        among = [f"{among}-{number}" for number in range(1, clients[among].count + 1)]
    chosen = choose(how, among, key)
    return chosen[0] if len(chosen) == 1 else chosen


def _trigger(when: scenario.When) -> plan.Trigger:
    within_s = when.within_s
    if when.at_s is not None:
        return plan.At(at_s=when.at_s, within_s=within_s)
    if when.after is not None:
        return plan.After(step=when.after, wait_s=when.wait_s, within_s=within_s)
    if when.log is not None:
        log, of = when.log, when.log.service or when.log.clients
        assert of is not None
        return plan.OnLog(of=of, contains=log.contains, matches=log.matches, within_s=within_s)
    if when.all is not None:
        return plan.AllOf(triggers=[_trigger(inner) for inner in when.all], within_s=within_s)
    if when.any is not None:
        return plan.AnyOf(triggers=[_trigger(inner) for inner in when.any], within_s=within_s)
    return _on_event(when)


def _on_event(when: scenario.When) -> plan.Trigger:
    assert when.event is not None
    common: dict[str, Any] = {"where": dict(when.where), "since": when.since, "within_s": when.within_s}
    if when.every is not None:
        return plan.Every(group=when.every, event=when.event.value, **common)
    return plan.OnEvent(event=when.event.value, of=when.of, count=when.count, **common)


def compile_checks(entries: list[scenario.CheckEntry], tree: Node) -> list[plan.CheckPlan]:
    """The plan's checks; their places are those of the tree's `checks`."""
    return [_check(number, entry, tree) for number, entry in enumerate(entries)]


def _check(number: int, entry: scenario.CheckEntry, tree: Node) -> plan.CheckPlan:
    node = tree.at(("checks", number))
    text = flow(node).removeprefix("{").removesuffix("}")
    return plan.CheckPlan(kind=entry.kind, args=entry.args, text=text, place=str(node.place))


def flow(node: Node) -> str:
    """A node on one line, in YAML's flow style: `{every: talkers, meets: lost, within: 1s}`."""
    if isinstance(node.value, dict):
        return "{" + ", ".join(f"{_word(key)}: {flow(inner)}" for key, inner in node.value.items()) + "}"
    if isinstance(node.value, list):
        return "[" + ", ".join(map(flow, node.value)) + "]"
    return _word(node.value)


def _word(value: Scalar) -> str:
    if isinstance(value, str) and value.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return value
    return json.dumps(value, ensure_ascii=False)
