"""Text to a tree of nodes with their places, within limits; every fault of the text is a Problem with its place.

On PyYAML's scanner and parser in pure Python (libyaml's segfaults on deep nesting), with our own scalars and limits:
size and density are checked before scanning, depth while scanning, nodes and aliases while the tree grows. So a bomb
costs milliseconds. There are no merge keys, no tags beyond the core schema, no second document.
This module knows YAML; it must not know the scenario language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from midsession.core.scalars import Scalar, resolve, substitute, tagged
from midsession.core.wrong import Wrong, quoted
from midsession.errors import Place, Problem, ScenarioError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may cost. `nodes` counts each use of an alias as often as it is used."""

    bytes: int = 128 * 1024
    depth: int = 64
    nodes: int = 10_000


LIMITS = Limits()
Value = Scalar | list["Node"] | dict[str, "Node"]


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it begins. `keys` holds the places of a mapping's keys."""

    value: Value
    place: Place
    keys: Mapping[str, Place] = field(default_factory=dict)
    weight: int = 1
    height: int = 0

    def get(self, key: str) -> Node | None:
        """A mapping's value; None where there is no such key, or no mapping."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """A mapping's keys and values; nothing for any other node."""
        return iter(self.value.items() if isinstance(self.value, dict) else ())

    def each(self) -> Iterator[Node]:
        """A list's elements; nothing for any other node."""
        return iter(self.value if isinstance(self.value, list) else ())

    def at(self, path: Iterable[str | int]) -> Node:
        """The node at a path, or the last one on the way that exists."""
        node = self
        for step in path:
            inner = node._step(step)
            if inner is None:
                break
            node = inner
        return node

    def _step(self, step: str | int) -> Node | None:
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return self.get(step) if isinstance(step, str) else None

    @property
    def data(self) -> object:
        """The tree as plain lists, dicts and scalars."""
        if isinstance(self.value, dict):
            return {key: node.data for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.data for node in self.value]
        return self.value


def parse(data: bytes, file: str, limits: Limits = LIMITS) -> Node:
    """Read one YAML document. Raises ScenarioError with every problem that was found."""
    source = _Source(file)
    text = source.decode(data, limits)
    tree = _Builder(source, limits, _Events(text, limits))
    try:
        node = tree.document()
    except yaml.MarkedYAMLError as error:
        raise ScenarioError([*tree.problems, _syntax(source, error)]) from None
    except _Refused as refused:
        raise ScenarioError([*tree.problems, source.problem(refused.wrong, refused.line, refused.column)]) from None
    if tree.problems:
        raise ScenarioError(in_order(tree.problems))
    return node


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems in the order of their places, each once."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.place.line, p.place.column) if p.place else (0, 0))


def replace_variables(node: Node, matrix: Mapping[str, Scalar], env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """The tree with its `${{ … }}` replaced, and what was wrong with them. Keys are never replaced."""
    problems: list[Problem] = []

    def walk(node: Node) -> Node:
        if isinstance(node.value, dict):
            return Node({key: walk(inner) for key, inner in node.value.items()}, node.place, node.keys)
        if isinstance(node.value, list):
            return Node([walk(inner) for inner in node.value], node.place)
        if not isinstance(node.value, str) or "${{" not in node.value:
            return node
        try:
            return Node(substitute(node.value, matrix, env), node.place)
        except Wrong as wrong:
            problems.append(Problem(wrong.message, wrong.slug, node.place, wrong.remedy))
            return node

    return walk(node), problems


class _Refused(Exception):
    """The text is refused as a whole, at this line and column (from 0)."""

    def __init__(self, wrong: Wrong, line: int = 0, column: int = 0) -> None:
        self.wrong, self.line, self.column = wrong, line, column


# Besides C0, DEL and C1: what PyYAML takes for a line break and no editor does, and what YAML forbids.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)")
_LONGEST_SNIPPET = 160


class _Source:
    """The text's lines, for places and snippets."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: list[str] = []

    def decode(self, data: bytes, limits: Limits) -> str:
        """Bytes to text, or ScenarioError."""
        try:
            return self._decode(data, limits)
        except _Refused as refused:
            raise ScenarioError([self.problem(refused.wrong, refused.line, refused.column)]) from None

    def _decode(self, data: bytes, limits: Limits) -> str:
        if len(data) > limits.bytes:
            size = f"the file has {len(data)} bytes; at most {limits.bytes} are read"
            raise _Refused(Wrong("too-large", size, "split the scenario"))
        if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            raise _Refused(Wrong("encoding", "the file begins with a byte order mark", "save it as UTF-8 without BOM"))
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            good = data[: error.start].decode()
            self.lines = (good + "\ufffd").splitlines() or [""]
            wrong = Wrong("encoding", f"the byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
            raise _Refused(wrong, *_position(good)) from None
        self.lines = re.split(r"\r\n|\n|\r", text)
        bad = _FORBIDDEN.search(text)
        if bad:
            name = f"U+{ord(bad[0]):04X}"
            wrong = Wrong("control-character", f"the control character {name}", 'remove it, or write "\\x…" in quotes')
            raise _Refused(wrong, *_position(text[: bad.start()]))
        _refuse_density(text, limits)
        return text

    def place(self, line: int, column: int) -> Place:
        """A place from a line and column that count from 0."""
        text = self.lines[line] if line < len(self.lines) else ""
        if len(text) > _LONGEST_SNIPPET:
            return Place(self.file, line + 1, column + 1)
        snippet = "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in text)
        return Place(self.file, line + 1, column + 1, snippet)

    def problem(self, wrong: Wrong, line: int, column: int) -> Problem:
        """A problem at a line and column that count from 0."""
        return Problem(wrong.message, wrong.slug, self.place(line, column), wrong.remedy)


def _position(before: str) -> tuple[int, int]:
    """Line and column, from 0, of what follows this text."""
    lines = re.split(r"\r\n|\n|\r", before)
    return len(lines) - 1, len(lines[-1])


def _refuse_density(text: str, limits: Limits) -> None:
    """Refuse, without scanning it, a text that has more marks of structure than a document may have nodes."""
    marks = sum(map(text.count, (",", "[", "{", "\n", "- ", ": ", "? ")))
    if marks > 2 * limits.nodes:
        raise _Refused(_too_many(limits))


def _too_many(limits: Limits) -> Wrong:
    return Wrong("too-many-nodes", f"the document has more than {limits.nodes} nodes", "split the scenario")


class _Events(Reader, Scanner, Parser):
    """PyYAML's parser in pure Python, which refuses depth while it scans: its look-ahead alone would cost seconds."""

    def __init__(self, text: str, limits: Limits) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        self._limits = limits

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:
        self._refuse_depth()
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        self._refuse_depth()
        return bool(super().add_indent(column))

    def _refuse_depth(self) -> None:
        if self.flow_level + len(self.indents) > self._limits.depth:
            raise _Refused(_too_deep(self._limits), self.line, self.column)

    def all(self) -> Iterator[yaml.Event]:
        """The events, until the end of the stream. Raises MarkedYAMLError or _Refused."""
        try:
            while self.check_event():
                yield self.get_event()  # type: ignore[no-untyped-call]
        except (ValueError, OverflowError, IndexError, AttributeError, TypeError) as error:
            # The scanner's own failures on hostile escapes and directives (`"\\UFFFFFFFF"`, `%YAML 9…9.1`).
            wrong = Wrong("yaml-syntax", f"this is not YAML: {quoted(str(error))}")
            raise _Refused(wrong, self.line, self.column) from None


def _too_deep(limits: Limits) -> Wrong:
    return Wrong("too-deep", f"the document is nested deeper than {limits.depth} levels")


def _syntax(source: _Source, error: yaml.MarkedYAMLError) -> Problem:
    """A scanner's or parser's complaint as a problem, with a remedy for the usual causes."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    text = source.lines[line] if line < len(source.lines) else ""
    said = re.sub(r"[^\x20-\x7e]", "?", (error.problem or error.context or "this is not YAML")[:200])
    if "\\t" in said or text[column : column + 1] == "\t":
        return source.problem(Wrong("tab", "a tab stands where YAML wants spaces", "indent with spaces"), line, column)
    if "undefined alias" in said:
        return source.problem(Wrong("unknown-alias", said), line, column)
    return source.problem(Wrong("yaml-syntax", _in_words(said), _syntax_remedy(said, text)), line, column)


_TOKENS = {
    "<block end>": "the end of this block",
    "'<block sequence start>'": "an entry ('- …') at another depth",
    "'<block mapping start>'": "a key at another depth",
    "'<scalar>'": "more text",
    "'?'": "a key",
    "'<stream end>'": "the end of the file",
    "'<document start>'": "'---'",
}
"""The parser's names for what it saw, in words that somebody knows who has never read a parser."""


def _in_words(said: str) -> str:
    for token, words in _TOKENS.items():
        said = said.replace(token, words)
    return said


def _syntax_remedy(said: str, text: str) -> str:
    if "${{" in text:
        return 'quote variables inside {…} and […]: "${{ matrix.x }}"'
    if "mapping values are not allowed" in said:
        return "see that its indentation is that of its neighbours, and quote text that holds ': '"
    if "found character" in said:
        return "quote text that begins with this character"
    if "'<scalar>'" in said:
        return "quote the whole value"
    if "expected <block end>" in said:
        return "see that its indentation is that of its neighbours"
    return ""


class _Builder:
    """Grow the tree from the events. `problems` collects what does not stop the reading."""

    def __init__(self, source: _Source, limits: Limits, events: _Events) -> None:
        self.problems: list[Problem] = []
        self._source, self._limits = source, limits
        self._events = events.all()
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0

    def document(self) -> Node:
        """The one document of the stream."""
        next(self._events)
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            raise _Refused(Wrong("empty", "the file is empty", "describe a scenario: name, services, clients, checks"))
        node = self._node(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            wrong = Wrong("several-documents", "a second document begins here", "one file holds one scenario")
            raise _Refused(wrong, *_mark(after))
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > self._limits.depth:
            raise _Refused(_too_deep(self._limits), *_mark(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        assert isinstance(event, yaml.NodeEvent)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._count(1, event)
        node = self._made(event, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _made(self, event: yaml.NodeEvent, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Node(self._scalar(event), self._place(event))
        assert isinstance(event, yaml.CollectionStartEvent)
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{'seq' if _is_list(event) else 'map'}"):
            self._wrong(event, Wrong("tag", f"the tag {quoted(event.tag)} is not part of the language", "remove it"))
        return self._list(event, depth) if _is_list(event) else self._mapping(event, depth)

    def _list(self, event: yaml.Event, depth: int) -> Node:
        items = []
        while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(inner, depth + 1))
        return _sized(items, self._place(event), {}, items)

    def _mapping(self, event: yaml.Event, depth: int) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key_node = self._node(inner, depth + 1)
            value = self._node(next(self._events), depth + 1)
            key = self._key(inner, key_node, keys)
            if key is not None:
                items[key], keys[key] = value, self._place(inner)
        return _sized(items, self._place(event), keys, list(items.values()))

    def _key(self, event: yaml.Event, node: Node, keys: Mapping[str, Place]) -> str | None:
        """The text of a mapping's key, or None where it is none and a problem was noted."""
        key = node.value
        if not isinstance(key, str):
            self._wrong(event, Wrong("bad-key", f"a key must be text, not {quoted(key)}", "quote it"))
            return None
        if key == "<<":
            self._wrong(event, Wrong("merge-key", "there are no merge keys ('<<')", "write the keys out"))
            return None
        if key in keys:
            first = f"the key {quoted(key)} stands here a second time; first in line {keys[key].line}"
            self._wrong(event, Wrong("duplicate-key", first, "remove one of them"))
            return None
        return key

    def _alias(self, event: yaml.AliasEvent, depth: int) -> Node:
        assert event.anchor is not None
        node = self._anchors.get(event.anchor)
        if node is None:
            inside = event.anchor in self._anchors
            said = f"the alias {quoted(event.anchor)} " + ("stands for itself" if inside else "has no anchor before it")
            raise _Refused(Wrong("unknown-alias", said), *_mark(event))
        if depth + node.height > self._limits.depth:
            raise _Refused(_too_deep(self._limits), *_mark(event))
        self._count(node.weight, event)
        return node

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > self._limits.nodes:
            raise _Refused(_too_many(self._limits), *_mark(event))

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = event.value
        try:
            if re.search("[\ud800-\udfff]", text):
                raise Wrong("encoding", "an escape makes half a character (a lone surrogate)", "write the character")
            if event.tag is not None:
                return tagged(text, event.tag)
            return resolve(text) if event.style is None else text
        except Wrong as wrong:
            self._wrong(event, wrong)
            return ""

    def _wrong(self, event: yaml.Event, wrong: Wrong) -> None:
        self.problems.append(self._source.problem(wrong, *_mark(event)))

    def _place(self, event: yaml.Event) -> Place:
        return self._source.place(*_mark(event))


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line, mark.column


def _is_list(event: yaml.Event) -> bool:
    return isinstance(event, yaml.SequenceStartEvent)


def _sized(value: Value, place: Place, keys: Mapping[str, Place], inner: list[Node]) -> Node:
    weight = 1 + len(keys) + sum(node.weight for node in inner)
    return Node(value, place, keys, weight, 1 + max((node.height for node in inner), default=0))
