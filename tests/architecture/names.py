"""What a source mentions: dotted names, resolved through its imports and assignments; and texts.

`from asyncio import sleep as nap; nap(1)` mentions `asyncio.sleep`; `open("x")` mentions `builtins.open`, unless the
module has an `open` of its own; `stop = Event(); stop.wait()` mentions `threading.Event().wait`. What cannot be
resolved (an argument, what a loop gives) is `…`: `process.wait()` mentions `….wait`. A keyword of a call is mentioned
with the call: `subprocess.run(shell=)`. Knows no types, and follows no name into other modules.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

UNKNOWN = "…"
_IMPORTERS = {"importlib.import_module", "builtins.__import__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)


@dataclass(frozen=True, slots=True, order=True)
class Mention:
    """Something that a source says, and in which line."""

    line: int
    what: str


class Source:
    """A Python file, by its path in the repository."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.tree = ast.parse(text, path)

    @cached_property
    def names(self) -> list[Mention]:
        """Every name that is mentioned, imports included."""
        return sorted(set(self._reader.found))

    @cached_property
    def texts(self) -> list[Mention]:
        """Every text that is no docstring: also the parts of f-strings, keys, patterns, helps."""
        told = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        strings = (n for n in ast.walk(self.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        return sorted(Mention(node.lineno, str(node.value)) for node in strings if id(node) not in told)

    @property
    def calls(self) -> list[tuple[ast.Call, set[str]]]:
        """Every call, with the names that what it calls may have."""
        return self._reader.calls

    @cached_property
    def _reader(self) -> _Reader:
        return _Reader(self.tree, ".".join(PurePosixPath(self.path).parent.parts))


@dataclass(slots=True)
class _Scope:
    """What names stand for in a function, class or module: an expression, or what was imported; None: who knows."""

    is_class: bool = False
    bound: dict[str, list[ast.expr | str | None]] = field(default_factory=lambda: defaultdict(list))


class _Reader(ast.NodeVisitor):
    """Reads a module of `package`."""

    def __init__(self, tree: ast.Module, package: str) -> None:
        self.found: list[Mention] = []
        self.calls: list[tuple[ast.Call, set[str]]] = []
        self._package = package
        self._attributes: dict[str, list[ast.expr]] = defaultdict(list)  # those of `self`, of all classes alike
        for node in ast.walk(tree):
            for target, value in _assigned(node):
                if isinstance(target, ast.Attribute) and _is_self(target.value):
                    self._attributes[target.attr].append(value)
        self._scopes = [self._scope(tree)]
        self._resolving: set[int] = set()
        self.visit(tree)

    # --- what is said ----------------------------------------------------------------------------------------------

    def _say(self, node: ast.AST, *names: str) -> None:
        self.found += [Mention(getattr(node, "lineno", 0), name) for name in names]

    def visit_Import(self, node: ast.Import) -> None:
        self._say(node, *(alias.name for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._module(node)
        self._say(node, module, *(f"{module}.{alias.name}" for alias in node.names))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._say(node, *self._resolve(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._say(node, *self._resolve(node))
        base = node.value
        while isinstance(base, ast.Attribute):
            base = base.value
        if not isinstance(base, ast.Name):
            self.visit(base)

    def visit_Call(self, node: ast.Call) -> None:
        called = self._resolve(node.func)
        self.calls.append((node, called))
        self._say(node, *(f"{name}({word}=)" for name in called for word in _keywords(node)))
        self._say(node, *(name for name in self._resolve(node) if not name.endswith("()")))  # what `getattr` gives
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _SCOPES):
            super().generic_visit(node)
            return
        body = _body(node)
        for child in ast.iter_child_nodes(node):  # decorators, defaults, bases: said where it stands, not in it
            if child not in body:
                self.visit(child)
        self._scopes.append(self._scope(node))
        for child in body:
            self.visit(child)
        self._scopes.pop()

    # --- what names stand for --------------------------------------------------------------------------------------

    def _module(self, node: ast.ImportFrom) -> str:
        above = self._package.split(".")[: len(self._package.split(".")) - node.level + 1] if node.level else []
        return ".".join([*above, *([node.module] if node.module else [])])

    def _scope(self, node: ast.AST) -> _Scope:
        scope = _Scope(isinstance(node, ast.ClassDef))
        if isinstance(node, _FUNCTIONS):
            every = node.args
            for arg in (*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg):
                if arg is not None:
                    scope.bound[arg.arg].append(None)
        for inner in _within(node):
            for name, value in self._bindings(inner):
                scope.bound[name].append(value)
        return scope

    def _bindings(self, node: ast.AST) -> Iterator[tuple[str, ast.expr | str | None]]:
        match node:
            case ast.Import():
                yield from ((a.asname or a.name.partition(".")[0], _bound_to(a)) for a in node.names)
            case ast.ImportFrom():
                yield from ((a.asname or a.name, f"{self._module(node)}.{a.name}") for a in node.names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, None
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, None
            case ast.Name(ctx=ast.Store()):
                yield node.id, None
        yield from ((target.id, value) for target, value in _assigned(node) if isinstance(target, ast.Name))

    def _resolve(self, node: ast.expr) -> set[str]:
        """All that an expression may be."""
        if id(node) in self._resolving:  # x = x.y
            return {UNKNOWN}
        self._resolving.add(id(node))
        try:
            return self._resolved(node)
        finally:
            self._resolving.discard(id(node))

    def _resolved(self, node: ast.expr) -> set[str]:
        match node:
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute(value=value, attr=attr):
                known = self._attributes.get(attr, []) if _is_self(value) else []
                return {*self._any(known), *(f"{name}.{attr}" for name in self._resolve(value))}
            case ast.Call(func=func, args=args):
                return {made for name in self._resolve(func) for made in self._made(name, args)}
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if "sys.modules" in self._resolve(
                value
            ):
                return {key}
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self._resolve(value)
            case ast.IfExp(body=body, orelse=other):
                return self._any([body, other])
            case ast.BoolOp(values=values):
                return self._any(values)
            case ast.Constant(value=str()) | ast.JoinedStr():
                return {"builtins.str()"}
        return {UNKNOWN}

    def _any(self, nodes: list[ast.expr]) -> set[str]:
        return {name for node in nodes for name in self._resolve(node)}

    def _named(self, name: str) -> set[str]:
        for scope in reversed(self._scopes):
            if name in scope.bound and not (scope.is_class and scope is not self._scopes[-1]):
                values = [value for value in scope.bound[name] if value is not None]
                found = {made for v in values for made in ({v} if isinstance(v, str) else self._resolve(v))}
                return found or {UNKNOWN}
        return {f"builtins.{name}" if hasattr(builtins, name) else UNKNOWN}

    def _made(self, function: str, args: list[ast.expr]) -> set[str]:
        """What a call gives: most often something new, but some give what they are told the name of."""
        match function, args:
            case "builtins.getattr", [of, ast.Constant(value=str(name)), *_]:
                return {f"{base}.{name}" for base in self._resolve(of)}
            case _, [ast.Constant(value=str(name)), *_] if function in _IMPORTERS:
                return {name}
        return {f"{function}()"}


def _keywords(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg
        elif isinstance(keyword.value, ast.Dict):  # **{"shell": True}
            yield from (str(key.value) for key in keyword.value.keys if isinstance(key, ast.Constant))


def _bound_to(alias: ast.alias) -> str:
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment (also by `with … as`, or `:=`), each with the expression that it stands for."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _unpacked(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            yield target, value
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            yield target, value


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


def _body(node: ast.AST) -> list[ast.AST]:
    body = getattr(node, "body", [])
    return list(body) if isinstance(body, list) else [body]  # a lambda's is one expression


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """Everything in a scope that is not in one within it; those that begin one are given, not entered."""
    left = _body(node)
    while left:
        inner = left.pop()
        yield inner
        if not isinstance(inner, _SCOPES):
            left += ast.iter_child_nodes(inner)
