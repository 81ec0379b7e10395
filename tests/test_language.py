"""The door of the language: files, folders, variables, the schema, and the same bytes everywhere."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from midsession import language
from midsession.checks import CHECKS
from midsession.core.loader import parse
from midsession.core.plan import CommandService
from midsession.core.schema import draft7
from midsession.errors import ScenarioError
from midsession.faults import FAULTS
from tests.core.spoken import DESIGN, LANGUAGE, SMALL
from tests.torture.language import digests

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "scenarios").rglob("*.scenario.yaml"))


def written(folder: Path, text: str, name: str = "x.scenario.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def slugs(path: Path) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        language.load(path, using=LANGUAGE)
    assert all(p.place and p.place.file == str(path) for p in caught.value.problems)
    return [p.slug for p in caught.value.problems]


# --- what is shipped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_scenario_has_plans(path: Path) -> None:
    """Every scenario in the repository is right, with the faults and checks that Midsession has."""
    for plan in language.plans(path, 7):
        assert plan.to_json()
        assert plan.checks


def test_scenarios_are_shipped() -> None:
    """The loop above ran, and the registries that it used are not empty."""
    assert len(SHIPPED) >= 10
    assert len(FAULTS) >= 5
    assert len(CHECKS) >= 3


def test_what_the_language_validated_the_registries_can_build() -> None:
    """A step's and a check's arguments build the dataclass they were validated against."""
    from midsession import checks, faults

    plans = [plan for path in SHIPPED for plan in language.plans(path, 7)]
    steps = [s for plan in plans for s in plan.timeline if s.verb in FAULTS]
    assert len([faults.build(s.verb, s.args) for s in steps]) >= 5
    assert len([checks.build(c.kind, c.args) for plan in plans for c in plan.checks]) >= 20


# --- the matrix and the environment --------------------------------------------------------------------------------


def test_a_matrix_makes_one_plan_for_each_combination(tmp_path: Path) -> None:
    """In the order of the file, the last axis fastest."""
    text = SMALL.replace("name: small", "name: small\nmatrix: {n: [1, 50], word: [a, b]}").replace(
        "count: 2", "count: ${{ matrix.n }}"
    )
    text = text.replace("{line: hello}", '{line: "${{ matrix.word }}"}')
    plans = language.load(written(tmp_path, text), using=LANGUAGE).plans(7)
    assert [p.matrix for p in plans] == [{"n": n, "word": w} for n in (1, 50) for w in "ab"]
    assert [len(p.groups[0].clients) for p in plans] == [1, 1, 50, 50]


def test_the_design_loads_as_it_is_printed(tmp_path: Path) -> None:
    """The scenario of the design, matrix and all, with the faults and checks that Midsession has."""
    plans = language.plans(written(tmp_path, DESIGN), 7)
    assert [p.matrix for p in plans] == [{"clients": 1}, {"clients": 50}]
    assert [len(p.groups[0].clients) for p in plans] == [1, 50]


@pytest.mark.parametrize(
    ("matrix", "slug"),
    [
        ("{n: []}", "bad-matrix"),
        ("{n: 5}", "bad-matrix"),
        ("{n: [[1]]}", "bad-matrix"),
        ("{n: [null]}", "bad-matrix"),
        ("[1]", "bad-matrix"),
        ("{a: [1,2,3,4,5,6,7,8,9], b: [1,2,3,4,5,6,7,8,9], c: [1,2,3,4,5,6,7,8,9]}", "bad-matrix"),
        ("{n: ['${{ matrix.m }}'], m: [1]}", "variable"),
        ("{N: [1]}", "bad-name"),
    ],
)
def test_a_bad_matrix_is_refused(tmp_path: Path, matrix: str, slug: str) -> None:
    """Lists of plain values, and not too many combinations."""
    assert slug in slugs(written(tmp_path, SMALL.replace("name: small", f"name: small\nmatrix: {matrix}")))


def test_a_mistake_in_every_combination_is_reported_once(tmp_path: Path) -> None:
    """The matrix does not multiply problems."""
    text = SMALL.replace("name: small", "name: small\nmatrix: {n: [1, 2, 3]}").replace("- end", "- ends")
    assert slugs(written(tmp_path, text)) == ["unknown-verb"]


def test_a_value_that_one_combination_gets_wrong_is_reported(tmp_path: Path) -> None:
    """Each combination is validated with its values in place."""
    text = SMALL.replace("name: small", "name: small\nmatrix: {n: [1, many]}").replace(
        "count: 2", "count: ${{ matrix.n }}"
    )
    assert slugs(written(tmp_path, text)) == ["wrong-type"]


def test_the_environment_is_read_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """`${{ env.X }}` reads what it is given; without it, it says which variable to set."""
    path = written(tmp_path, SMALL.replace("count: 2", "count: ${{ env.CLIENTS }}"))
    made = language.load(path, env={"CLIENTS": "3"}, using=LANGUAGE).plans(7)
    assert len(made[0].groups[0].clients) == 3
    with pytest.raises(ScenarioError, match="CLIENTS' is not set; set it"):
        language.load(path, env={}, using=LANGUAGE)


# --- files ---------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_file_are_in_the_plan(tmp_path: Path) -> None:
    """`send: {file}` reads a file in the scenario's folder or below it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hello.bin").write_bytes(b"\x00\xffhi")
    (tmp_path / "link.bin").symlink_to("data/hello.bin")
    for name in ("data/hello.bin", "link.bin", "./data/hello.bin"):
        path = written(tmp_path, SMALL.replace("{line: hello}", f"{{file: {name}}}"))
        (plan,) = language.load(path, using=LANGUAGE).plans(7)
        assert plan.groups[0].script[0].payload.hex == "00ff6869"  # type: ignore[union-attr]


OUTSIDE = [
    *("../secret", "/etc/passwd", "data/../../secret", "..", "~/x", "~root", "a/../../b", "/dev/zero", "//etc/passwd"),
    *("out-link", "dir-link/secret", "loop", "absent", "fifo", "data", "dev-link", "huge", "null-link", "./../secret"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_scenario_reads_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    """No `..`, no absolute path, no link that leads out, no device, no FIFO, no folder, nothing endless."""
    inner = tmp_path / "inner"
    (inner / "data").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (inner / "out-link").symlink_to(tmp_path / "secret")
    (inner / "dir-link").symlink_to(tmp_path)
    (inner / "loop").symlink_to("loop")
    (inner / "dev-link").symlink_to("/dev/zero")
    (inner / "null-link").symlink_to("/dev/null")
    os.mkfifo(inner / "fifo")
    (inner / "huge").write_bytes(b"x" * (1024 * 1024 + 1))
    found = slugs(written(inner, SMALL.replace("{line: hello}", f"{{file: '{name}'}}")))
    assert set(found) <= {"outside", "unreadable", "out-of-range"}
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo", "device"])
def test_a_scenario_that_cannot_be_read_says_why(tmp_path: Path, kind: str) -> None:
    """Nothing waits on a FIFO or reads a device; the place names the file."""
    path = {"folder": tmp_path, "device": Path("/dev/zero")}.get(kind, tmp_path / "x.scenario.yaml")
    if kind == "fifo":
        os.mkfifo(path)
    assert slugs(path) == ["unreadable"]


def test_folders_are_searched_for_scenarios(tmp_path: Path) -> None:
    """Sorted, each once, hidden folders and linked folders left out; a file that is named counts whatever its name."""
    for name in ("b/2.scenario.yaml", "b/1.scenario.yaml", "a/x.scenario.yaml", ".git/x.scenario.yaml", "a/other.yaml"):
        written(tmp_path, SMALL, name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = language.collect([tmp_path / "a" / "other.yaml", tmp_path, tmp_path / "b"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "a/other.yaml",
        "a/x.scenario.yaml",
        "b/1.scenario.yaml",
        "b/2.scenario.yaml",
    ]
    with pytest.raises(ScenarioError, match="there is no file or folder"):
        language.collect([tmp_path / "nowhere"])


# --- the schema ----------------------------------------------------------------------------------------------------


def document(text: str) -> Any:
    return parse(text.encode(), "x.yaml").data


def errors(schema: dict[str, Any], text: str) -> list[Any]:
    return list(jsonschema.Draft7Validator(schema).iter_errors(document(text)))


def test_the_committed_schema_is_the_languages() -> None:
    """`python -m midsession.language` has been run since the language, a fault or a check was changed."""
    assert (ROOT / language.SCHEMA_FILE).read_text(encoding="utf-8") == language.schema_text()


def test_the_schema_is_draft_7() -> None:
    """Editors know this draft best; nothing of a later one is in it."""
    schema = language.json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert not [word for word in ("$defs", "prefixItems", "unevaluated", "dependentRequired") if word in text]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_the_schema_takes_what_is_shipped(path: Path) -> None:
    """An editor underlines nothing in a good scenario."""
    assert errors(language.json_schema(), path.read_text(encoding="utf-8")) == []


def test_the_schema_takes_the_design() -> None:
    """Variables may stand where numbers stand."""
    assert errors(language.json_schema(), DESIGN) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "nam: small"),
        ("reference: reply", "refrence: reply"),
        ("reference: reply", "reference: {behavior: reply}"),
        ("reference: reply", "reference: reply, image: x"),
        ("port: 4000", "prot: 4000"),
        ("port: 4000", "port: '4000'"),
        ("  server:", "  Server:"),
        ("count: 2", "count: 0"),
        ("count: 2", "conut: 2"),
        ("- end", "- ends"),
        ("- end", "- {edn: {}}"),
        ("- end", "- {end: {}, abort: {}}"),
        ("- end", "- {end: {witin: 1s}}"),
        ("- end", "- wait: 5"),
        ("- end", "- repeat: {times: 1, script: [ends]}"),
        ("{line: hello}", "{lien: hello}"),
        ("{line: hello}", "{line: hello, text: x}"),
        ("within: 1s", "within: 1"),
        ("when: {at: 1s}", "when: {att: 1s}"),
        ("kill: server", "kil: server"),
        ("kill: server", "kill: {target: server, signl: TERM}"),
        ("kill: server", "kill: {target: server, signal: STOP}"),
        ("{event: protocol_error}", "{event: protocol_eror}"),
        ("{event: protocol_error}", "{evnt: protocol_error}"),
        ("never:", "nevr:"),
    ],
)
def test_the_schema_refuses_what_the_language_refuses(old: str, new: str) -> None:
    """Unknown keys, missing units and words that are not of the language are underlined while typing."""
    assert errors(draft7(LANGUAGE.scenario), SMALL) == []
    assert old in SMALL
    assert errors(draft7(LANGUAGE.scenario), SMALL.replace(old, new, 1))


@pytest.mark.parametrize(
    "verb", ["end:", "end: {within: 1s}", "expect: eof", "read: never", "connect", "wait: 1ms..2ms"]
)
def test_the_schema_takes_shorthands(verb: str) -> None:
    """Bare words, scalars and empty verbs are no mistakes in an editor either."""
    assert errors(draft7(LANGUAGE.scenario), SMALL.replace("- end", f"- {verb}")) == []


# --- the same bytes ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    """Other hash seeds, directories, locales and time zones: one digest (torture: 100 processes)."""
    plans = language.load(written(tmp_path, DESIGN)).plans(42)
    whole = b"".join(p.to_json() for p in plans).replace(str(tmp_path).encode() + b"/", b"")
    hashes = " ".join(p.hash for p in plans)
    assert digests(tmp_path, 12) == ({f"2 {hashes}"}, {hashlib.sha256(whole).hexdigest()})


COPIED = """
name: A server of one's own
services:
  server: {command: [python3, echo.py], files: [echo.py], port: 4000}
clients:
  callers: {count: 1, connect: "server:4000", script: [end]}
checks:
  - never: {event: lost}
"""


def test_a_file_beside_the_scenario_is_copied_to_the_host(tmp_path: Path) -> None:
    """Its text is in the plan, so that a run can be made again from its plan alone."""
    (tmp_path / "echo.py").write_text("print('👋')\n", encoding="utf-8")
    path = tmp_path / "own.scenario.yaml"
    path.write_text(COPIED, encoding="utf-8")
    (service,) = language.plans(path, 1)[0].services
    assert isinstance(service, CommandService)
    assert service.files == {"echo.py": "print('👋')\n"}


@pytest.mark.parametrize(
    ("name", "data", "slug"),
    [("echo.py", None, "unreadable"), ("echo.py", b"\xff\xfe", "encoding"), ("../echo.py", b"", "outside")],
)
def test_a_file_that_cannot_be_copied_is_refused_at_its_place(
    tmp_path: Path, name: str, data: bytes | None, slug: str
) -> None:
    """Missing, no text, or not beside the scenario."""
    if data is not None:
        (tmp_path / "echo.py").write_bytes(data)
    path = tmp_path / "own.scenario.yaml"
    path.write_text(COPIED.replace("[echo.py],", f"[{name}],"), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        language.plans(path, 1)
    problems = {problem.slug: problem.place for problem in caught.value.problems}
    assert slug in problems
    assert {place.line for place in problems.values() if place} == {4}


@pytest.mark.parametrize(
    ("check", "slug"),
    [
        ("never: {event: lost, as: eoff}", "impossible-value"),
        ("never: {event: lost, where: {hwo: eof}}", "unknown-field"),
        ("never: {event: connected, as: eof}", "unknown-field"),
        ('never: {event: reconnecting, where: {attempt: "1"}}', "impossible-value"),
        ("never: {event: done, where: {outcome: loost}}", "impossible-value"),
        ("never: {event: replied, where: {bytes: 21}}", "unknown-field"),
        ("never: {event: mark, where: {barrier: false}}", "impossible-value"),
        ("never: {event: error, of: callers-1, as: slow}", "impossible-value"),
        ("every: callers\n    meets: lost\n    as: eoff", "impossible-value"),
        ("count: {event: lost, of: callers, where: {nope: 1}}\n    at_most: 0", "unknown-field"),
    ],
)
def test_a_check_that_could_not_fail_is_refused(tmp_path: Path, check: str, slug: str) -> None:
    """No record of the event can have that field, or that value in it: silence would be no proof."""
    (tmp_path / "echo.py").write_text("")
    path = tmp_path / "own.scenario.yaml"
    path.write_text(COPIED.replace("never: {event: lost}", check), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        language.plans(path, 1)
    assert [problem.slug for problem in caught.value.problems] == [slug]
