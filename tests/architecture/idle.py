"""Waits in disguise: what waits for nothing but time, though it calls no `sleep`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.names import Mention, Source

_EVENTS = ("threading.Event().wait", "asyncio.Event().wait")
_CLOCKS = ("time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.time", "asyncio.get_running_loop().time")
_BRINGS_NOTHING_ABOUT = ("wait", "clear", "is_set")


def idle_waits(source: Source) -> Iterator[Mention]:
    """Waits for what nobody brings about: an event that is made only to be waited for, a select of nothing."""
    handed_on = _handed_on(source.tree)
    for call, names in source.calls:
        if isinstance(call.func, ast.Attribute) and names & {*_EVENTS} and _name(call.func.value) not in handed_on:
            yield Mention(call.lineno, "a wait for an event that nobody sets")
        if "select.select" in names and not any(map(_may_hold, call.args[:3])):
            yield Mention(call.lineno, "a select of nothing")


def loops_on_a_clock(source: Source) -> Iterator[Mention]:
    """Loops that look at a clock: somebody polls."""
    clocks = {id(call): name for call, names in source.calls for name in names & {*_CLOCKS}}
    for loop in ast.walk(source.tree):
        if isinstance(loop, ast.While):
            for name in {clocks[id(node)] for node in ast.walk(loop) if id(node) in clocks}:
                yield Mention(loop.lineno, f"a loop on {name}")


def _handed_on(tree: ast.Module) -> set[str]:
    """Names with which more is done than to wait: somebody may set what they stand for."""
    quiet = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in _BRINGS_NOTHING_ABOUT}
    used = (node for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Load))
    return {_name(node) for node in used if id(node) not in quiet} - {""}


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _may_hold(node: ast.expr) -> bool:
    return not (isinstance(node, ast.List | ast.Tuple) and not node.elts)
