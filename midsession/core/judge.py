"""The verdict: a pure function of the plan and the history, so that judging again gives the same bytes.

Besides the scenario's own checks it judges the run itself: whether the logs are whole, whether every step fired, took
effect and was healed, whether every client has an outcome. Silence is not success, and a broken check never passes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from midsession.core.history import CONDUCTOR, CannotTell, History, never_fired
from midsession.core.logs import PROGRAM
from midsession.core.overlap import Overlap
from midsession.core.plan import CheckPlan, Plan
from midsession.core.record import Event, Record
from midsession.core.reliance import relied_on
from midsession.core.steps import StepStory
from midsession.core.verdict import Finding, Status, Verdict

SHOWN = 5


class Judge(Protocol):
    """What the core knows of a check."""

    kind: ClassVar[str]

    @property
    def promise(self) -> str:
        """The promise as one short sentence."""

    def judge(self, history: History) -> Finding:
        """Judge the history; may raise anything."""


Build = Callable[[str, Mapping[str, Any]], Judge]
"""From a check's kind and fields to the check; raises ValueError for what it cannot be."""


def judge(
    plan: Plan,
    history: History,
    build: Build,
    always: Sequence[Judge] = (),
    healable: Collection[str] = (),
    problems: Sequence[str] = (),
    mending: Collection[str] = (),
) -> Verdict:
    """Judge a run: the plan's checks in their order, then the run itself.

    `always` are the checks that judge every run; `healable` are the verbs of the faults that heal; `problems` are
    the harness's own failures as the runner knew them, also those of the clean-up, which no log can hold; `mending` are
    the verbs of the faults that break nothing.
    """
    faults = [_witnessed(history, story, mending) for story in history.steps.values() if story.is_fault]
    vain = frozenset(step for fault in faults for step in fault.offenders)
    findings = [_unless_in_vain(check, history, build, vain) for check in plan.checks]
    findings += [_safely(check, history) for check in always]
    if plan.clients:
        findings += [_outcomes(history)]
    findings += [_harness(history, problems), _run(history, problems), _logs(history)]
    if plan.timeline:
        findings += [_steps(history), *faults]
        findings += [_healed(history, story) for story in _to_be_healed(plan, history, healable)]
    return Verdict.of([*findings, *_no_checks(plan)])


# --- the scenario's checks -----------------------------------------------------------------------------------------


def judge_check(plan: CheckPlan, history: History, build: Build) -> Finding:
    """One check of a plan over a history; never raises."""
    try:
        check = build(plan.kind, plan.args)
    except Exception as error:  # noqa: BLE001 - a check that cannot even be made is an error of the run, never a pass
        finding = _crashed(plan.kind, plan.text or plan.kind, error)
    else:
        finding = _unless_unsupported(plan.args, history, _safely(check, history))
    return msgspec.structs.replace(finding, place=plan.place)


def _safely(check: Judge, history: History) -> Finding:
    """A check's finding; what it raises is one too, and a pass without support is none."""
    try:
        finding = check.judge(history)
    except CannotTell as reason:
        return Finding(check=check.kind, status=Status.INCONCLUSIVE, promise=check.promise, seen=str(reason))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a check raises, the run ends with a verdict that says so
        return _crashed(check.kind, check.promise, error)
    try:
        finding = _sound(finding)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        return _crashed(check.kind, check.promise, TypeError(f"its finding is none: {error}"))
    if finding.status is Status.PASS and finding.support < 1:
        seen = f"nothing in scope: {finding.seen}"
        return msgspec.structs.replace(finding, status=Status.INCONCLUSIVE, seen=seen)
    return finding


def _sound(finding: Finding) -> Finding:
    """A finding as it will be read back: made of what it must be made of, whoever wrote the check."""
    return msgspec.json.decode(msgspec.json.encode(finding), type=Finding)


_NAMES_CLIENTS = frozenset({"of", "every", "clients", "with_", "read_by"})
"""The fields of checks that may name clients."""


def _unless_unsupported(args: object, history: History, finding: Finding) -> Finding:
    """Nothing can be promised of a group when one of its programs said that it cannot play its part."""
    named = sorted(set(_programs_in(args, history)))
    missing = dict.fromkeys(client for name in named for client in history.unsupported(name))
    if not missing or finding.status is Status.ERROR:
        return finding
    said = _listing(f"{client} {history.outcomes[client].reason}" for client in missing)
    return msgspec.structs.replace(finding, status=Status.INCONCLUSIVE, seen=f"{said}; else: {finding.seen}")


def _unless_in_vain(check: CheckPlan, history: History, build: Build, vain: Collection[str]) -> Finding:
    """A check that relies on a fault which proves nothing has no say, for or against: this was not the experiment."""
    history.steps_asked()  # by others, before
    finding = judge_check(check, history, build)
    relied = relied_on(check.args, history.plan, history.steps_asked()) & {*vain}
    if not relied or finding.status is Status.ERROR or _says_what_never_fired(finding, history):
        return finding
    said = ", ".join(step.id for step in history.plan.timeline if step.id in relied)
    seen = f"{said} proves nothing; else: {finding.seen}"
    return msgspec.structs.replace(finding, status=Status.INCONCLUSIVE, seen=seen)


def _says_what_never_fired(finding: Finding, history: History) -> bool:
    unfired = (step for step, story in history.steps.items() if story.triggered is None)
    return finding.status is Status.INCONCLUSIVE and finding.seen in map(never_fired, unfired)


def _programs_in(args: object, history: History) -> Iterator[str]:
    """The client programs, and the groups of such, that a check names."""
    if isinstance(args, Mapping):
        named = {value for key, value in args.items() if key in _NAMES_CLIENTS and isinstance(value, str)}
        yield from named & {*history.foreign, *(group.name for group in history.plan.foreign)}
    for inner in args.values() if isinstance(args, Mapping) else args if isinstance(args, list | tuple) else ():
        yield from _programs_in(inner, history)


def _crashed(kind: str, promise: str, error: BaseException) -> Finding:
    text = f"the check crashed: {type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    return Finding(check=kind, status=Status.ERROR, promise=promise, seen=text)


def _no_checks(plan: Plan) -> Iterator[Finding]:
    if not plan.checks:
        yield Finding(
            check="checks",
            status=Status.INCONCLUSIVE,
            promise="the scenario promises something",
            seen="it has no checks, and zero checks is not a pass",
        )


# --- the run itself ------------------------------------------------------------------------------------------------


def _run(history: History, problems: Sequence[str]) -> Finding:
    """A failure of the harness is told by its own finding: only what that does not know is told here."""
    ended = history.ended
    why = str(ended.fields.get("why")) if ended else "no end"
    status = {"done": Status.PASS, "timeout": Status.INCONCLUSIVE, "interrupted": Status.INCONCLUSIVE}.get(why)
    said = {
        "done": "it came to its end",
        "timeout": "it ran into its timeout",
        "interrupted": "it was interrupted",
        "no end": "the conductor's log has no end: the harness died",
    }
    failed = f"the harness failed ({why})" if history.events(Event.BEGUN) else "it could not begin"
    notes = [str(r.fields.get("text")) for r in history.events(Event.NOTE).by(CONDUCTOR) if r.fields.get("problem")]
    causes = [text for text in notes if text not in problems] if status is None else []
    return Finding(
        check="run",
        status=Status.ERROR if status is None else status,
        promise="the run comes to its end",
        seen="; ".join([said.get(why, failed), *causes[-SHOWN:]]),
        support=1,
        witnesses=[ended] if ended else [],
    )


def _logs(history: History) -> Finding:
    return Finding(
        check="logs",
        status=Status.INCONCLUSIVE if history.gaps or not history.writers() else Status.PASS,
        promise="every log is there and whole",
        seen=_listing(history.gaps) or f"{len(history.writers())} logs, {len(history)} records",
        support=len(history.writers()),
        offenders=[gap.file for gap in history.gaps],
    )


def _harness(history: History, problems: Sequence[str]) -> Finding:
    """A fleet that died without a step that ended it cannot pass, whatever its container's exit code was."""
    deaths = [
        r
        for host in history.fleets
        for r in history.events(Event.EXITED).on(host)
        if r.fields.get("by") not in history.steps and _is_death(r, r.t_ns > history.ended_ns)
    ]
    return Finding(
        check="harness",
        status=Status.ERROR if deaths or problems else Status.PASS,
        promise="every service comes up, no part of the harness fails, and no fleet dies unless a step ends it",
        seen=_listing([*problems, *map(_death, deaths)])
        or f"{len(history.fleets)} of {len(history.fleets)} fleets lived as long as they should",
        support=len(history.writers()),
        witnesses=deaths[:SHOWN],
        offenders=[r.host for r in deaths],
    )


_STOPS = frozenset({"TERM", "KILL"})


def _is_death(exited: Record, torn_down: bool) -> bool:
    """Whether a fleet failed: its own code says so, or a signal; but the tear-down itself stops it by one."""
    signal = exited.fields.get("signal")
    asked = torn_down and exited.fields.get("stopped") and signal in _STOPS
    return bool(exited.fields.get("code") or (signal and not asked))


def _death(record: Record) -> str:
    signal = record.fields.get("signal")
    return f"{record.host}: killed by SIG{signal}" if signal else f"{record.host}: code {record.fields.get('code')}"


def _outcomes(history: History) -> Finding:
    outcomes = history.outcomes.values()
    unknown = [o for o in outcomes if o.word == "info" and o.by not in history.steps]
    ended = Counter(o.by for o in outcomes if o.word == "info" and o.by in history.steps)
    strangers = sorted(set(history.events(Event.DONE).by(PROGRAM).by_client()) - set(history.outcomes))
    words = [f"{sum(o.word == word for o in outcomes)} {word}" for word in ("ok", "fail", "info")]
    said = [f"{o.client}: {o.reason}" for o in unknown] + [f"{name} is not in the plan" for name in strangers]
    return Finding(
        check="outcomes",
        status=Status.ERROR if strangers else Status.INCONCLUSIVE if unknown else Status.PASS,
        promise="every client has one known outcome, or was ended by a step",
        seen="; ".join(
            filter(None, [", ".join(words), *(f"{n} ended by {step}" for step, n in ended.items()), _listing(said)])
        ),
        support=len(outcomes),
        offenders=[o.client for o in unknown] + strangers,
        measures={word: sum(o.word == word for o in outcomes) for word in ("ok", "fail", "info")},
    )


# --- the timeline --------------------------------------------------------------------------------------------------


def _steps(history: History) -> Finding:
    stories = history.steps.values()
    unfired = [story for story in stories if story.triggered is None]
    missing = (
        {u.get("step"): u.get("missing") for u in history.ended.fields.get("unfired", [])} if history.ended else {}
    )
    said = [f"{s.id} never fired" + (f" ({missing[s.id]})" if missing.get(s.id) else "") for s in unfired]
    early = list(_healed_nothing(history))
    troubles = _troubles(history) if unfired else {}
    instead = f"clients met instead: {_listing(map(_trouble, troubles.items()))}" if troubles else ""
    fired = [s.triggered for s in stories if s.triggered]
    return Finding(
        check="timeline",
        status=Status.INCONCLUSIVE if unfired or early else Status.PASS,
        promise="every step of the timeline fires",
        seen="; ".join(filter(None, [_listing([*said, *early]), instead])) or f"{len(stories)} of {len(stories)} fired",
        support=len(stories),
        witnesses=[*(records[0] for records in troubles.values()), *fired][:SHOWN],
        offenders=[story.id for story in unfired],
    )


def _healed_nothing(history: History) -> Iterator[str]:
    """The `heal` steps that came before their fault; and, where a check relies on one, that healed nothing else either.

    What is counted from them begins when nothing was broken.
    """
    relied = frozenset[str]().union(*(relied_on(check.args, history.plan) for check in history.plan.checks))
    faults = {story.id: story for story in history.steps.values() if story.is_fault and story.triggered}
    for step in history.plan.timeline:
        fired = history.steps[step.id].triggered
        if step.verb != "heal" or fired is None:
            continue
        meant = faults if step.targets == ["all"] else {name: faults[name] for name in step.targets if name in faults}
        earlier = [story for story in meant.values() if story.triggered and story.triggered.seq < fired.seq]
        if not earlier and step.targets != ["all"]:
            yield from (f"{step.id} came before {name}, and healed nothing" for name in meant)
        elif step.id in relied and history.comparable and not any(_in_force(story, fired.t_ns) for story in earlier):
            no_longer = "no fault was in force" if meant is faults else f"{', '.join(meant)} was not in force any more"
            yield f"{step.id} healed nothing: {no_longer}"


def _in_force(story: StepStory, t_ns: int) -> bool:
    """Whether a fault that heals was still to be healed at an instant of the conductor's."""
    return story.injected is not None and story.healed is not None and story.healed.t_ns >= t_ns


def _troubles(history: History) -> dict[str, list[Record]]:
    """What went wrong for clients, by its kind, the most frequent first."""
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for r in history.events(Event.LOST, Event.PROTOCOL_ERROR):
        found[f"lost as {r.fields.get('how')}" if r.event == Event.LOST else str(r.event)].append(r)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _trouble(trouble: tuple[str, list[Record]]) -> str:
    kind, records = trouble
    first = records[0].fields
    got = "nothing" if first.get("got") is None else repr(str(first["got"])[:60])
    wrong = f" (first: {got} where {str(first.get('expected'))[:60]} was expected)" if "expected" in first else ""
    return f"{kind} {len(records)} time{'' if len(records) == 1 else 's'}{wrong}"


def _witnessed(history: History, story: StepStory, mending: Collection[str]) -> Finding:
    found = [history.find(ref) for ref in story.witnesses]
    witness = history.find(story.witness) if all(found) else None
    proven = story.injected is not None and story.effective is not None and witness is not None
    overlap = None if story.verb in mending else Overlap.of(history, story)
    missed = overlap.missed if overlap else ""
    return Finding(
        check="witness",
        status=Status.PASS if proven and not missed else Status.INCONCLUSIVE,
        promise=f"{story.id} ({story.verb}) takes effect",
        seen="; ".join(filter(None, [_effect(story, witness), ", ".join(filter(None, [str(overlap or ""), missed]))])),
        support=1,
        witnesses=[r for r in (story.injected, witness) if r],
        offenders=[] if proven and not missed else [story.id],
        place=story.place,
        measures={} if overlap is None else {"sessions_open": overlap.sessions},
    )


def _effect(story: StepStory, witness: Record | None) -> str:
    if story.triggered is None:
        return "it never fired"
    if story.injected is None:
        return "it was never injected"
    if story.effective is None:
        why = f" ({story.failed.fields.get('text')})" if story.failed else ""
        return f"no witness: nothing proves that it took effect{why}"
    if witness is None:
        return "its witness is in no log that can be believed"
    after_ms = story.effective.fields.get("after_ns", 0) / 1e6
    return f"{witness.event} on {witness.host} proves it, {after_ms:.1f} ms after"


def _to_be_healed(plan: Plan, history: History, healable: Collection[str]) -> list[StepStory]:
    wanted = {step.id for step in plan.timeline if step.for_s is not None or step.verb in healable}
    return [story for story in history.steps.values() if story.id in wanted and story.injected]


_BESIDES = {
    "overrun": "packets passed it unharmed: more came than could be held",
    "unsent": "packets were lost by it that could not be sent",
}
"""What a fault of a link may have done that nobody asked for, by the field of its `healed` records that counts it."""


def _healed(history: History, story: StepStory) -> Finding:
    cures = [r for r in history.events(Event.HEALED) if r.fields.get("fault") == story.id]
    counts = {what: sum(r.fields.get(what, 0) for r in cures) for what in _BESIDES}
    besides = [f"but {counts[what]} {words}" for what, words in _BESIDES.items() if counts[what]]
    is_well = story.healed is not None and not besides
    return Finding(
        check="healed",
        status=Status.PASS if is_well else Status.INCONCLUSIVE,
        promise=f"{story.id} ({story.verb}) is healed",
        seen=", ".join(["healed", *besides]) if story.healed else "no log says that it was healed",
        support=1,
        witnesses=[story.healed] if story.healed else [],
        offenders=[] if is_well else [story.id],
        place=story.place,
    )


def _listing(items: Any) -> str:
    texts = [str(item) for item in items]
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "; ".join(texts[:SHOWN] + more)
