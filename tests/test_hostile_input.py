"""Promises I1, I4, I5 and I6 at the door of the language: malformed files, hostile paths, texts and expressions."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from midsession import checks, language
from midsession.core import plan as p
from midsession.core.history import History
from midsession.core.judge import judge
from midsession.core.match import Lines, matcher
from midsession.core.plan import Plan
from midsession.core.program import compile_program
from midsession.core.template import Names
from midsession.errors import ScenarioError
from tests.torture import corpus
from tests.torture.empties import empties
from tests.torture.fuzz_loader import drawn
from tests.torture.language import ROOT

# --- I1: malformed scenarios ---------------------------------------------------------------------------------------


def refusal(path: Path) -> ScenarioError | None:
    """Why a scenario is refused; None: it is not."""
    try:
        language.plans(path, 7)
    except ScenarioError as error:
        return error
    return None


def test_the_good_scenario_is_good(tmp_path: Path) -> None:
    """What the corpus spoils is accepted as it is."""
    (tmp_path / "x.scenario.yaml").write_text(corpus.GOOD)
    assert refusal(tmp_path / "x.scenario.yaml") is None


def test_a_malformed_scenario_is_refused_at_its_place(tmp_path: Path) -> None:
    """I1: more than 500 of them: never an exception of ours, always `file:line:col: message`, each in a second."""
    path = tmp_path / "x.scenario.yaml"
    wrong: list[str] = []
    refused = 0
    for name, data in corpus.corpus():
        path.write_bytes(data)
        began = time.process_time()
        error = refusal(path)
        took_s = time.process_time() - began
        refused += error is not None
        lines = [str(problem).splitlines()[0] for problem in error.problems] if error else []
        placed = all(re.match(rf"{re.escape(str(path))}:\d+:\d+: \S", line) for line in lines)
        clean = not any(re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", line) for line in lines)
        if not placed or not clean or took_s > 1:
            wrong.append(f"{name}: {took_s:.2f} s, {lines[:1]}")
    assert wrong == []
    assert refused >= 500


def test_mutants_stay_small(tmp_path: Path) -> None:
    """I1: in a process of its own, which measures itself (torture: 20,000 mutants)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.language", "300", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "300 mutants: " in done.stdout


def test_whatever_is_drawn_is_read_or_refused() -> None:
    """I1: the fuzz target, for a bounded number (torture: `python -m tests.torture.fuzz_loader`, with atheris)."""
    drawn(150)


def test_a_value_that_is_empty_is_refused_or_stands_for_something() -> None:
    """I1: null, {}, [] or "" in place of each value of the shipped scenarios: a problem with its place, or a run."""
    tried = planned = 0
    nowhere = []
    for path, at, scenario in empties(ROOT / "scenarios"):
        tried += 1
        try:
            (plan, *_) = language.load_objects(scenario, path).plans(7)
        except ScenarioError as error:
            nowhere += [at for problem in error.problems if not problem.place]
            continue
        planned += 1
        for group in plan.scripted:
            compile_program(group)
        verdict = judge(plan, History.of(plan, {}), checks.build, checks.always(plan))
        assert [finding.seen for finding in verdict.findings if "crashed" in finding.seen] == [], at
    assert nowhere == []
    assert tried > 1000
    assert planned > 50


@pytest.mark.parametrize(
    ("step", "same"),
    [
        ("{end: null}", "end"),
        ("{connect: null}", "connect"),
        ("{half_close: null}", "half_close"),
        ("{abort: null}", "abort"),
        ("{end: {}}", "end"),
    ],
)
def test_a_verb_without_more_to_say_is_the_bare_word(tmp_path: Path, step: str, same: str) -> None:
    """As the schema has it: `- end:` is `- end`."""
    said = []
    for written in (step, same):
        path = tmp_path / "x.scenario.yaml"
        path.write_text(corpus.GOOD.replace("- end: {within: 1s}", f"- {written}"))
        said.append([plan.to_json() for plan in language.plans(path, 7)])
    assert said[0] == said[1]


# --- I4: paths -----------------------------------------------------------------------------------------------------

PATHS = [
    *("../secret", "..", "../", "./../secret", "a/../../secret", "a/b/../../../secret", "/etc/passwd", "//etc/passwd"),
    *("/", "~", "~root/x", "~/secret", "/dev/zero", "/dev/stdin", "/dev/fd/0", "/proc/self/environ", "/proc/self/mem"),
    *("/proc/self/root/etc/passwd", "/sys/kernel", "link", "dir/secret", "loop", "dev", "null", "fifo", "socket", "."),
    *("./", "a", "a/", "a//../../secret", "absent", "a/absent", "x.py/y", "deep-link", "proc", "huge", "x.py/"),
    *("..\\\\secret", "a\\0b", "..%2fsecret", "\\n", "a" * 300, "a/" * 600 + "x", "C:\\\\secret", "file:///etc/passwd"),
]
PLACES: dict[str, Callable[[str], str]] = {
    "send": lambda name: corpus.GOOD.replace('{hex: "00 ff", slices: 1B, pause: 1ms}', f"{{file: {name}}}"),
    "cwd": lambda name: corpus.GOOD.replace("env: {A: b}", f"cwd: {name}"),
    "files": lambda name: corpus.GOOD.replace("env: {A: b}", f"files: [{name}]"),
    "compose": lambda name: corpus.GOOD.replace(
        "command: [python3, x.py], port: 5000, env: {A: b}", f"compose: {{file: {name}, service: x}}, port: 5000"
    ),
    "python": lambda name: corpus.GOOD + f"  - python: {name[:-1]}::always_passes{name[-1]}\n",
}
FOLDERS = {"cwd": {".", "./", "a", "a/"}, "send": {"x.py/"}, "compose": {"x.py/"}}
"""What may be named: folders to work in; a file of the folder's own, whatever slash stands behind it."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder full of traps, beside a secret."""
    inner = tmp_path / "inner"
    (inner / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_text("def always_passes(history): ...  # secret\n")
    (inner / "x.py").write_text("print('mine')\n")
    links = {"link": tmp_path / "secret", "dir": tmp_path, "loop": "loop", "dev": "/dev/zero", "null": "/dev/null"}
    for name, target in {**links, "deep-link": "a/b/../../../secret", "proc": "/proc/self/environ"}.items():
        (inner / name).symlink_to(target)
    os.mkfifo(inner / "fifo")
    os.mknod(inner / "socket", 0o140600)
    (inner / "huge").write_bytes(b"x" * (1024 * 1024 + 1))
    return inner


def test_no_path_leads_out_of_the_scenarios_folder(folder: Path) -> None:
    """I4: 200 of them: links, devices, FIFOs, NUL; nothing of them is in a plan, and nothing is waited for."""
    path = folder / "x.scenario.yaml"
    tried, passed = 0, []
    for place, spoil in PLACES.items():
        for name in PATHS:
            path.write_text(spoil(f'"{name}"'))
            tried += 1
            if refusal(path) is None and name not in FOLDERS.get(place, ()):
                passed.append((place, name))
    assert tried >= 200
    assert passed == []


def test_a_link_that_is_exchanged_while_it_is_read_gives_nothing_away(folder: Path) -> None:
    """I4: what is checked and what is read are one thing: a race between a file and a link to a secret is never won."""
    path = folder / "x.scenario.yaml"
    path.write_text(PLACES["send"]("prize"))
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            for make in (lambda at: at.write_bytes(b"mine"), lambda at: at.symlink_to("../secret")):
                fresh = folder / "fresh"
                fresh.unlink(missing_ok=True)
                make(fresh)
                fresh.replace(folder / "prize")

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = {read(path) for _ in range(150)}
    finally:
        over.set()
        thread.join()
    assert seen <= {"mine", "refused"}
    assert "mine" in seen


def read(path: Path) -> str:
    """What a plan would send of the prize."""
    try:
        (plan,) = language.plans(path, 7)
    except ScenarioError:
        return "refused"
    return next(bytes.fromhex(i.payload.hex) for i in plan.groups[0].script if _is_file(i)).decode()


def _is_file(step: p.Instruction) -> bool:
    return isinstance(step, p.Send) and step.payload.hex is not None


# --- I5: no shell, no template -------------------------------------------------------------------------------------

META = (
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "| touch pwned",
    "&& touch pwned #",
    "%s%n",
    "{{7*7}}",
    "$HOME",
)


@pytest.mark.parametrize("meta", META)
def test_metacharacters_stay_text_or_are_refused(meta: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: in every field in turn: what is accepted stands in the plan as it was written."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.scenario.yaml"
    lines = corpus.GOOD.splitlines()
    seen = {"refused": 0, "kept": 0}
    for place, value in corpus.scalars(corpus.parse(corpus.GOOD.encode(), "good")):
        path.write_text(corpus.replaced(lines, place, value, json.dumps(meta)))
        if refusal(path) is None:
            (plan,) = language.plans(path, 7)
            shown = meta.replace("{{", "{").replace("}}", "}") if "{{" in meta else meta
            assert any(text in plan.to_json().decode() for text in (meta, shown)) or said_by_nobody(plan, value), place
            seen["kept"] += 1
        else:
            seen["refused"] += 1
    assert seen["refused"] >= 30
    assert seen["kept"] >= 3
    assert not (tmp_path / "pwned").exists()


def said_by_nobody(plan: Plan, value: object) -> bool:
    """`about` is for readers of the scenario alone."""
    return value == "one of everything" and bool(plan.name)


# --- I6: expressions -----------------------------------------------------------------------------------------------

ATOMS = (
    "(a+)+",
    "(a*)*",
    "(a|a)+",
    "(a|aa)+",
    "(a|a?)+",
    "(.*)*",
    "(.+)+",
    "([a-z]+)*",
    "(\\w+\\s?)*",
    "(a{1,30}){1,30}",
)
ENDS = ("$x", "b$", "[^a]{3}$", "(b|c|d)$", "\\d+!$")
CATASTROPHIC = [f"^{atom}{end}" for atom in ATOMS for end in ENDS]
VICTIM = b"a" * 30_000


def test_there_are_fifty_expressions() -> None:
    """Each would take a backtracking engine for ever."""
    assert len(set(CATASTROPHIC)) >= 50


@pytest.mark.parametrize("regex", CATASTROPHIC)
def test_no_expression_hangs_the_run(regex: str) -> None:
    """I6: refused, or answered in a second of CPU time over 30,000 characters that it almost matches."""
    try:
        found = matcher(p.Expect(1.0, regex=regex))
    except ValueError:
        return
    began = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
    assert isinstance(found, Lines)
    found.test(VICTIM, Names(1, "g", "g-1", "r"), 1)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_utime - began < 1.0


def test_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """File names are bytes; plans and reports are UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.scenario.yaml"))
    path.write_text("name: x\n")
    with pytest.raises(ScenarioError, match="rename it"):
        language.load(path)
