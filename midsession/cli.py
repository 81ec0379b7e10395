"""The command line. Chooses plans, tells what happens, and turns what came of it into an exit code.

Only typer is imported at the top: `midsession --help` is quick, and a command imports what it uses.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midsession.keep import Keep
from midsession.outlet import open_outlets
from midsession.testbeds.registry import AUTO, NAMES

if TYPE_CHECKING:
    from midsession.core.plan import Plan
    from midsession.door import Run

ERROR = 3
INTERRUPTED = 2
USAGE = 4
LACKS = 10

app = typer.Typer(
    name="midsession",
    help="Break a TCP service in the middle of its clients' sessions, and judge what each client saw.",
    epilog="Exit codes: 0 pass, 1 a check failed, 2 interrupted, 3 error, 4 invalid scenario or usage, 5 nothing "
    "selected, 10 the environment lacks something, 11 inconclusive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Paths = Annotated[list[Path], typer.Argument(help="Scenario files, or folders of them.", show_default=False)]
Directory = Annotated[Path, typer.Argument(help="The directory of a run.", show_default=False)]
Seed = Annotated[
    int | None, typer.Option(envvar="MIDSESSION_SEED", min=0, help="The seed of all draws.", show_default="a fresh one")
]
Keyword = Annotated[
    str,
    typer.Option("-k", envvar="MIDSESSION_VARIANT", help="Only plans whose name fits, like 'kill and not clients=1'."),
]
Tags = Annotated[list[str] | None, typer.Option("-t", "--tag", help="Only scenarios with this tag (or one of these).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Done(Exception):
    """A command is over, with this exit code. (Typer's own exits are wrong usage, see `_TYPERS`.)"""

    def __init__(self, code: int) -> None:
        self.code = code


_TYPERS = {None: 0, 0: 0, 1: ERROR, 2: USAGE, 130: INTERRUPTED}
"""Typer's exit codes (1: a closed pipe, 2: wrong usage, 130: Ctrl-C) as ours, in which 2 is an interrupt."""


def carry_out() -> int:
    """The command line, as the program; its exit code. What a user can mend is said in a line or two, without a
    traceback."""
    open_outlets()
    from midsession.errors import MidsessionError, lacks_files

    try:
        app()
    except Done as done:
        return done.code
    except MidsessionError as error:
        _complain(str(error))
        return error.exit_code
    except OSError as error:
        lacks = lacks_files(error)
        _complain(str(lacks or error))
        return lacks.exit_code if lacks else ERROR
    except SystemExit as left:
        return _TYPERS.get(left.code, ERROR) if left.code is None or isinstance(left.code, int) else ERROR
    except Exception:  # noqa: BLE001 - whatever it is, it is ours, and must not be taken for a broken promise
        import traceback

        traceback.print_exc()
        _complain("this is a mistake of Midsession's own; please report it with the lines above  [crash]")
        return ERROR
    return 0


def _complain(text: str) -> None:
    from midsession.report.text import visible

    with suppress(OSError):  # it is full: the exit code says it all the same
        for line in text.split("\n"):
            print(visible(line), file=sys.stderr)  # noqa: T201 - the command line's own output


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command line's own output


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from midsession import __version__

        _say(f"midsession {__version__}")
        raise typer.Exit


# --- run -----------------------------------------------------------------------------------------------------------


@app.command()
def run(
    paths: Paths,
    testbed: Annotated[str, typer.Option(help=f"What makes the hosts: {', '.join(NAMES)}.")] = AUTO,
    seed: Seed = None,
    runs: Annotated[Path, typer.Option(help="The folder for the runs' directories.")] = Path("runs"),
    keyword: Keyword = "",
    tags: Tags = None,
    jobs: Annotated[int, typer.Option("-n", "--jobs", min=1, help="How many runs at once, each in a process.")] = 1,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Run each plan so often, each time with another seed.", show_default=False)
    ] = None,
    until_fail: Annotated[
        bool, typer.Option("--until-fail", help="Repeat until a run does not pass, 1,000 times at most.")
    ] = False,
    for_: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="Repeat for so long, like 10m.", show_default=False)
    ] = "",
    keep: Annotated[
        Keep | None,
        typer.Option(help="Which runs' directories stay.", show_default="always; when runs are repeated: on-failure"),
    ] = None,
) -> None:
    """Run scenarios, judge them, and write their reports.

    Of one run the account is told live. Repeated, each plan gets its pass rate with its 95 % interval, and `flaky` is a
    failure. The n-th repetition has a seed of its own, drawn from the seed and n; the first has the seed itself.
    """
    import asyncio

    from midsession.batch.carry_out import Wanted, carry_out
    from midsession.batch.schedule import Bounds
    from midsession.report.terminal import banner, console
    from midsession.seed import fresh_seed
    from midsession.select import select

    bounds = Bounds(repeat, until_fail, _seconds(for_))
    seed = fresh_seed() if seed is None else seed
    out = console(sys.stdout)
    out.print(banner(seed))
    selected = select(paths, keyword, tags or ())
    keep = keep or (Keep.ON_FAILURE if bounds.repeats else Keep.ALWAYS)
    wanted = Wanted(seed, bounds, jobs, testbed, runs, keep)
    gc.freeze()  # what is here now stays: no collection during a run has to walk it
    raise Done(asyncio.run(carry_out(selected, wanted, out, console(sys.stderr))))


def _seconds(text: str) -> float:
    """A duration in the scenarios' own words; without one, for ever. Raises BadParameter."""
    from midsession.core import units
    from midsession.core.wrong import Wrong

    try:
        seconds = units.duration(text) if text else float("inf")
    except Wrong as wrong:
        raise typer.BadParameter(f"{wrong.message}; {wrong.remedy}", param_hint="--for") from None
    if not seconds:
        raise typer.BadParameter("nothing can be repeated for no time; say for how long, like 10m", param_hint="--for")
    return seconds


# --- stored runs ---------------------------------------------------------------------------------------------------


@app.command()
def check(
    directory: Directory,
    checks: Annotated[
        Path | None, typer.Option(help="A YAML file with a list `checks`, instead of the run's own.")
    ] = None,
) -> None:
    """Judge a stored run again, and exit with its verdict. Writes nothing and runs nothing, but for the functions of
    `python:` checks, which are read from where the run's plan says: judge no directory that you do not trust."""
    from midsession.door import judged

    raise Done(_tell(judged(directory, checks=checks)))


@app.command()
def audit(
    directory: Directory,
    without_faults: Annotated[bool, typer.Option(help="Also run the scenario again, with nothing broken.")] = False,
) -> None:
    """Say of each check of a stored run whether it can fail at all; exits 1 when one cannot.

    Each check that passed is judged again over the same run, spoilt: without the events that it looks for, with more of
    them, with the same events a day late, or with other words in them; and over no record at all. Runs nothing, but
    with --without-faults: then the scenario is run with notes in the place of its faults, and one check at least must
    not pass.
    """
    from midsession.report.text import count, visible
    from midsession.rundir import audit_run

    found = audit_run(directory)
    for one in found:
        _say(visible(f"{'✓' if one.can_fail else '✗'} {one.promise}"))
        _say(visible(f"    fails {one.spoilt}: {one.seen}" if one.can_fail else f"    {one.place}: {one.seen}"))
    toothless = [one for one in found if not one.can_fail]
    if toothless or not found:
        _complain(f"{count(len(toothless), 'check')} of {len(found)} cannot fail")
    idle = without_faults and not _needs_its_faults(directory)
    if toothless or not found or idle:
        raise Done(1)


def _needs_its_faults(directory: Path) -> bool:
    import asyncio

    from midsession.core.verdict import Status
    from midsession.door import RUNS, rerun_without_faults
    from midsession.report.text import visible

    run = asyncio.run(rerun_without_faults(directory, Path(RUNS)))
    if run is None:
        _say("it breaks nothing, so there is no run without its faults")
        return True
    if run.exit_code == INTERRUPTED:
        _complain("interrupted")
        raise Done(INTERRUPTED)
    _say(f"without its faults ({run.directory}):")
    for finding in run.own_findings:
        _say(visible(f"    {finding.status:12} {finding.promise}: {finding.seen}"))
    if all(finding.status is Status.PASS for finding in run.own_findings):
        _complain("every check passes without its faults too: none of them tests what the faults do")
        return False
    return True


@app.command()
def report(directory: Directory) -> None:
    """Judge a stored run again and write its verdict and reports anew. Exits 0 whatever the verdict."""
    from midsession.door import judged, save

    run = judged(directory)
    save(run)
    _tell(run)


def _tell(run: Run) -> int:
    from midsession.report.terminal import console, tell_end

    tell_end(console(sys.stdout), run.view, run.kept_in)
    return run.exit_code


# --- scenarios -----------------------------------------------------------------------------------------------------


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("first.scenario.yaml")) -> None:
    """Write a first scenario, which runs as it is, and say how to go on. Never overwrites a file."""
    import shlex
    from importlib.resources import files

    from midsession.errors import Problem, ScenarioError
    from midsession.report.text import visible

    text = files("midsession").joinpath("first.scenario.yaml").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ScenarioError([Problem(f"{path} is there already", "file-exists", remedy="name another file")]) from None
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        remedy = "make its folder first" if isinstance(error, FileNotFoundError) else "name a file in a writable folder"
        raise ScenarioError([Problem(message, "not-writable", remedy=remedy)]) from None
    named = visible(shlex.quote(str(path)))
    _say(f"{named} kills a server in the middle of ten sessions. It runs as it is:")
    _say(f"  midsession run {named}")
    _say("Put your own server in, then say what its clients say and what must hold. For an editor that helps with it:")
    _say("  midsession schema > midsession.schema.json")


@app.command()
def plan(
    paths: Paths,
    seed: Annotated[int, typer.Option(envvar="MIDSESSION_SEED", min=0, help="The seed of all draws.")] = 0,
    keyword: Keyword = "",
) -> None:
    """Print the plans of scenarios: one line of JSON each, the bytes that are stored and hashed."""
    from midsession.select import select

    for one in select(paths, keyword).plans(seed):
        _say(one.to_json().decode())


@app.command("list")
def list_(paths: Paths, keyword: Keyword = "", tags: Tags = None, json: AsJson = False) -> None:
    """List the plans of scenarios: one for each combination of a matrix."""
    import msgspec

    from midsession.report.text import visible
    from midsession.select import plan_id, select

    plans = select(paths, keyword, tags or ()).plans(0)
    if json:
        _say(msgspec.json.format(msgspec.json.encode([_listed(one) for one in plans])).decode())
        return
    wide = max(len(plan_id(one)) for one in plans)
    for one in plans:
        tags_shown = f"  ({', '.join(one.tags)})" if one.tags else ""
        _say(visible(f"{plan_id(one):<{wide}}  {one.name}{tags_shown}"))


def _listed(one: Plan) -> dict[str, object]:
    from midsession.select import plan_id

    facts = {"id": plan_id(one), "path": one.source, "name": one.name, "about": one.about, "tags": one.tags}
    sizes = {"clients": len(one.clients), "steps": len(one.timeline), "checks": len(one.checks)}
    return {**facts, "matrix": one.matrix, "services": [s.name for s in one.services], **sizes}


@app.command()
def validate(paths: Paths) -> None:
    """Say whether scenarios are right, and if not, where and what to do."""
    from midsession import language
    from midsession.errors import NothingSelected, ScenarioError
    from midsession.report.text import count, visible

    files, wrong = language.collect(paths), 0
    if not files:
        raise NothingSelected("there is no *.scenario.yaml", "name a file, or a folder with some")
    for path in files:
        try:
            plans = language.plans(path, 0)
        except ScenarioError as error:
            wrong += 1
            _complain(str(error))
        else:
            _say(f"✓ {visible(path)}: {count(len(plans), 'plan')}")
    if wrong:
        _complain(f"{count(wrong, 'file')} of {len(files)} cannot be used")
        raise Done(ScenarioError.exit_code)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the scenario language, for editors."""
    from midsession import language

    _say(language.schema_text().rstrip("\n"))


@app.command()
def doctor(
    for_: Annotated[str, typer.Option("--for", help="Only what this testbed needs decides the exit code.")] = AUTO,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure what the faults of links really do; exits 1 when one is off.")
    ] = False,
    case: Annotated[list[str] | None, typer.Option(help="Calibrate this alone (or these): 'delay', 'rate', …")] = None,
) -> None:
    """Look whether this machine has what runs need; exits 10 when something is missing."""
    if calibrate or case:
        _calibrate(for_, case or [])
        return
    from midsession.doctor import examine
    from midsession.report.text import count
    from midsession.testbeds.registry import choose

    testbed = choose(for_)
    lacking = 0
    for found in examine(testbed):
        sign = "✓" if found.ok else "✗" if found.required else "·"
        _say(f"{sign} {found.what:<22} {found.seen}")
        if not found.ok:
            _say(f"  {'':<22} {found.remedy}")
            lacking += found.required
    if lacking:
        _complain(f"missing {count(lacking, 'thing')} that the testbed {testbed} needs  [environment-lacks]")
        raise Done(LACKS)
    _say(f"The testbed {testbed} has what it needs.")


def _calibrate(testbed: str, names: list[str]) -> None:
    from midsession.calibration import CASES, Outcome, calibrate
    from midsession.report.text import visible
    from midsession.testbeds.registry import choose, make

    cases = [case for case in CASES if case.name in names] if names else list(CASES)
    if unknown := set(names) - {case.name for case in cases}:
        _complain(
            f"there is nothing called {sorted(unknown)[0]!r} to calibrate; there are "
            f"{', '.join(case.name for case in CASES)}  [unknown-case]"
        )
        raise Done(USAGE)

    width = max(len(case.name) for case in cases)

    def tell(outcome: Outcome) -> None:
        sign = "·" if outcome.lacking else "✓" if outcome.kept else "✗"
        _say(f"{sign} {outcome.case.name:<{width}} by {outcome.mechanism:<8}{visible(outcome.why)}".rstrip())
        for promise in () if outcome.lacking else outcome.case.promises:
            sign = " " if promise.keeps(outcome.measured) else "✗"
            _say(f"  {sign} {promise.about:<20} {promise.seen(outcome.measured):>12}, asked {promise.said()}")

    outcomes = calibrate(make(choose(testbed)), cases, tell)
    if any(not outcome.kept and not outcome.lacking for outcome in outcomes):
        _complain("a fault does not do on this machine what it says  [out-of-tolerance]")
        raise Done(1)
    if lacking := [outcome.case.name for outcome in outcomes if outcome.lacking]:
        _complain(f"this machine cannot do {', '.join(lacking)}  [environment-lacks]")
        raise Done(LACKS)
    _say(f"All {len(outcomes)} do what they say." if len(outcomes) > 1 else "It does what it says.")


@app.command()
def prune(
    project: Annotated[
        str, typer.Option(help="Remove this project alone, whether or not its process is known to be dead.")
    ] = "",
) -> None:
    """Remove what runs have left in the Docker Engine whose process is dead; nothing else."""
    from midsession.report.text import count, visible
    from midsession.testbeds.registry import prune as prune_all

    pruned = prune_all(project)
    for thing in pruned.removed:
        _say(f"removed {visible(thing)}")
    for problem in pruned.problems:
        _complain(problem)
    for name in pruned.undecided:
        _say(f"left alone {visible(name)}, since its process cannot be looked at from here")
        _say(f"  if its run is over: midsession prune --project {visible(name)}")
    if pruned.problems:
        raise Done(ERROR)
    if pruned.removed or not pruned.undecided:
        removed = count(len(pruned.removed), "thing")
        _say(f"{removed} removed" if pruned.removed else "There was nothing to remove.")
