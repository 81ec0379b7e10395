"""The loader: no surprising types, a place for every complaint, and bombs that cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from midsession.core.loader import LIMITS, Node, parse, replace_variables
from midsession.core.scalars import Scalar
from midsession.errors import Problem, ScenarioError


def value(text: str) -> Scalar:
    node = parse(f"v: {text}\n".encode(), "x.yaml").get("v")
    assert node is not None
    assert not isinstance(node.value, list | dict)
    return node.value


def refused(data: bytes) -> Problem:
    with pytest.raises(ScenarioError) as caught:
        parse(data, "x.yaml")
    return caught.value.problems[0]


SURPRISES: list[tuple[str, Scalar]] = [
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("no", "no"),
    ("Y", "Y"),
    ("n", "n"),
    ("On", "On"),
    ("NO", "NO"),
    ("22:22", "22:22"),
    ("1:30:00", "1:30:00"),
    ("190:20:30.15", "190:20:30.15"),
    ("2026-11-22", "2026-11-22"),
    ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
    ("1_000", "1_000"),
    ("0b1010", "0b1010"),
    ("0xFF", 255),
    ("0o17", 15),
    ("0x_FF", "0x_FF"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("false", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("Null", None),
    ("None", "None"),
    ("nil", "nil"),
    ("12", 12),
    ("-12", -12),
    ("+12", 12),
    ("1.5", 1.5),
    ("1e3", 1000.0),
    ("1e+3", 1000.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("0", 0),
    ("-0", 0),
    ("0.0", 0.0),
    ("1.2.3", "1.2.3"),
    ("10s", "10s"),
    ("=", "="),
    ("'12'", "12"),
    ('"true"', "true"),
    ("!!str 12", "12"),
    ("! 12", "12"),
    ("!!int 12", 12),
    ("!!float 12", 12.0),
    ("|-\n  12", "12"),
    ("nan", "nan"),
    ("0xZZ", "0xZZ"),
    ("1e", "1e"),
]


@pytest.mark.parametrize(("text", "expected"), SURPRISES)
def test_a_plain_scalar_is_what_yaml_1_2_says(text: str, expected: Scalar) -> None:
    """Only true, false, null and numbers are not text; nothing of YAML 1.1 is left."""
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("0123", "ambiguous-number"),
        ("-007", "ambiguous-number"),
        ("00", "ambiguous-number"),
        ("01.5", "ambiguous-number"),
        (".inf", "number-range"),
        ("-.INF", "number-range"),
        (".nan", "number-range"),
        ("1e999", "number-range"),
        ("9" * 5000, "number-range"),
        ("0x" + "f" * 100, "number-range"),
        ("!!python/object/apply:os.system [x]", "tag"),
        ("!!timestamp 2026-11-22", "tag"),
        ("!!binary aGk=", "tag"),
        ("!!int abc", "tag"),
        ("!!set {a: null}", "tag"),
        ("!mine x", "tag"),
        ('"\\ud800"', "encoding"),
    ],
)
def test_a_scalar_that_two_readers_would_read_differently_is_refused(text: str, slug: str) -> None:
    """Leading zeros, infinities, foreign tags and half characters are errors with a place, never guesses."""
    problem = refused(f"ok: 1\nv: {text}\n".encode())
    assert problem.slug == slug
    assert problem.place
    assert problem.place.line == 2


@pytest.mark.parametrize(
    ("data", "slug", "line", "column"),
    [
        (b"", "empty", 1, 1),
        (b"\n\n", "empty", 1, 1),
        (b"# only a comment\n", "empty", 1, 1),
        (b"a: 1\n---\nb: 2\n", "several-documents", 2, 1),
        (b"a: 1\n...\n---\nb: 2\n", "several-documents", 3, 1),
        (b"a: \xff\n", "encoding", 1, 4),
        ("ä: 1\nb: ".encode() + b"\xc3\n", "encoding", 2, 4),
        (b"\xef\xbb\xbfa: 1\n", "encoding", 1, 1),
        ("a: 1".encode("utf-16"), "encoding", 1, 1),
        (b"a: x\0y\n", "control-character", 1, 5),
        (b"a: 1\nb: \x1b[31m\n", "control-character", 2, 4),
        (b"a: \x7f\n", "control-character", 1, 4),
        ("a: b\u2028c: d\n".encode(), "control-character", 1, 5),
        ("a: \x85\n".encode(), "control-character", 1, 4),
        (b"a: 1\rb: 2\n", "control-character", 1, 5),
        (b"a:\n\tb: 1\n", "tab", 2, 1),
        (b"a: [1, 2\n", "yaml-syntax", 2, 1),
        (b"a: b: c\n", "yaml-syntax", 1, 5),
        (b"a: 'x\n", "yaml-syntax", 2, 1),
        (b"a: @x\n", "yaml-syntax", 1, 4),
        (b"a: {count: ${{ matrix.x }}}\n", "yaml-syntax", 1, 13),
        (b'a: "\\UFFFFFFFF"\n', "yaml-syntax", 1, 7),
        (b"%YAML 1." + b"9" * 5000 + b"\n---\na: 1\n", "yaml-syntax", 1, 9),
        (b"a: *nobody\n", "unknown-alias", 1, 4),
        (b"a: &x [*x]\n", "unknown-alias", 1, 8),
        (b"a: 1\nb: 2\na: 3\n", "duplicate-key", 3, 1),
        (b"a: {b: 1, 'b': 2}\n", "duplicate-key", 1, 11),
        (b"1: x\n", "bad-key", 1, 1),
        (b"true: x\n", "bad-key", 1, 1),
        (b"null: x\n", "bad-key", 1, 1),
        (b"[a]: x\n", "bad-key", 1, 1),
        (b"{a: 1}: x\n", "bad-key", 1, 1),
        (b"a: &x {b: 1}\nc: {<<: *x}\n", "merge-key", 2, 5),
    ],
)
def test_a_text_that_is_no_document_is_refused_with_its_place(data: bytes, slug: str, line: int, column: int) -> None:
    """Every fault of the text says where it stands."""
    problem = refused(data)
    assert problem.place
    assert (problem.slug, problem.place.line, problem.place.column) == (slug, line, column)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a:\n  - b: 1\n - c: 2\n", "expected the end of this block, but found an entry ('- ...') at another depth"),
        (b"a:\n  b: 1\n c: 2\n", "a key at another depth"),
        (b"a: [1, 2\n", "the end of the file"),
    ],
)
def test_a_syntax_error_is_told_without_the_parsers_own_names(data: bytes, said: str) -> None:
    """Who meets it has never read a YAML parser; wrong indentation is called by its name."""
    problem = refused(data)
    assert said.replace("...", "…") in problem.message
    assert "<" not in problem.message
    assert ("indentation" in problem.remedy) == ("depth" in said)


def test_all_duplicate_keys_are_reported() -> None:
    """One bad key does not hide the next."""
    with pytest.raises(ScenarioError) as caught:
        parse(b"a: 1\na: 2\nb: 3\nb: 4\n<<: x\n", "x.yaml")
    assert [(p.slug, p.place.line) for p in caught.value.problems if p.place] == [
        ("duplicate-key", 2),
        ("duplicate-key", 4),
        ("merge-key", 5),
    ]


def test_a_problem_shows_its_line_and_a_caret() -> None:
    """The message ends with the source line and a caret under the column."""
    assert str(refused(b"first: 1\nsecond: 0123\n")).splitlines()[1:] == ["    second: 0123", "            ^"]


def test_a_message_holds_no_control_character() -> None:
    """What a hostile file writes into a message is printable."""
    shown = str(refused(b'"\\e[31m\\u202e\\0": 1\n"\\e[31m\\u202e\\0": \x1b]52;c;x\x07\n'))
    shown += str(refused(b'"\\e[31m\\u202e\\0": 1\n"\\e[31m\\u202e\\0": 2\n'))
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_a_path_leads_to_a_place() -> None:
    """`at` follows keys and indices, and stops at the last node that exists."""
    tree = parse(b"a:\n  - b: 1\n  - c: 2\n", "x.yaml")
    assert tree.at(("a", 1, "c")).place.line == 3
    assert tree.at(("a", 1, "nothing", 5)).place.line == 3
    assert tree.data == {"a": [{"b": 1}, {"c": 2}]}


def test_an_alias_means_its_node_again() -> None:
    """Anchors and aliases work; only bombs of them do not."""
    assert parse(b"a: &x [1, 2]\nb: *x\n", "x.yaml").data == {"a": [1, 2], "b": [1, 2]}


# --- variables -----------------------------------------------------------------------------------------------------


def replaced(text: str) -> tuple[Node, list[Problem]]:
    return replace_variables(parse(text.encode(), "x.yaml"), {"n": 50, "name": "x"}, {"PORT": "4000", "WORD": "no"})


def test_a_variable_that_is_the_whole_scalar_takes_its_value() -> None:
    """Values keep their types; those of the environment are read like plain scalars."""
    node, problems = replaced('a: ${{ matrix.n }}\nb: ["${{matrix.name}}", "${{ env.PORT }}", "${{ env.WORD }}"]')
    assert problems == []
    assert node.data == {"a": 50, "b": ["x", 4000, "no"]}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a ${{ matrix.n }}",
            "${{ matrix.n }} a",
            "${{ matrix.m }}",
            "${{ env.NOT }}",
            "${{ n }}",
            "${{ matrix.n + 1 }}",
        ),
        *("${{ secrets.x }}", "${{", "${{}}", "${{ matrix.n }}${{ matrix.n }}", "${{ matrix.__class__.x }}"),
    ],
)
def test_there_are_no_templates(text: str) -> None:
    """A variable inside other text, an expression, or an unknown name is an error at its place."""
    _, problems = replaced(f'ok: 1\na: "{text}"')
    assert [(p.slug, p.place.line) for p in problems if p.place] == [("variable", 2)]


# --- bombs ---------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k0: x}\n" + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
BOMBS = {
    "laughs": (LAUGHS, "too-many-nodes"),
    "merges": (MERGES, "merge-key"),
    "flow-depth": ("[" * 9_000, "too-deep"),
    "flow-depth-long": ("[" * 120_000, "too-many-nodes"),
    "flow-maps": ("{a: " * 9_000, "too-deep"),
    "block-depth": ("- " * 9_000, "too-deep"),
    "key-depth": ("? " * 9_000, "too-deep"),
    "indented-depth": ("".join(f"{' ' * n}a:\n" for n in range(120)), "too-deep"),
    "alias-depth": ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)), "too-deep"),
    "wide": ("[" + "a," * 60_000 + "]", "too-many-nodes"),
    "lines": ("- a\n" * 30_000, "too-many-nodes"),
    "size": ("a" * (LIMITS.bytes + 1), "too-large"),
    "huge": ("a: 1\n" * 2_000_000, "too-large"),
}
MEASURE = """
import json, resource, sys, time
from midsession.core.loader import parse
from midsession.errors import ScenarioError
parse(b"warm: up", "x.yaml")
bomb = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    parse(bomb, "x.yaml")
    slug = "accepted"
except ScenarioError as error:
    slug = error.problems[0].slug
after = resource.getrusage(resource.RUSAGE_SELF)
cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps([slug, cpu_s, (after.ru_maxrss - before.ru_maxrss) / 1024]))
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_100_ms_and_50_mb(name: str) -> None:
    """Depth, width, aliases, merges and size are refused before they cost much (CPU time; growth of the process)."""
    text, expected = BOMBS[name]
    done = subprocess.run([sys.executable, "-c", MEASURE], input=text.encode(), capture_output=True, check=True)
    slug, cpu_s, grown_mb = json.loads(done.stdout)
    assert slug == expected
    assert cpu_s < 0.1
    assert grown_mb < 50
