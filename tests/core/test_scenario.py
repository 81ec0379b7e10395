"""The language: what it refuses, where it says so, and that it refuses nothing else."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midsession.core import units
from midsession.core.wrong import Wrong
from tests.core.spoken import SMALL, problems
from tests.torture.language import GOOD, mutant

# (what is replaced in SMALL, by what, the slug, its line). The first occurrence is replaced.
CASES: list[tuple[str, str, str, int]] = [
    # the top
    ("name: small", "name: 5", "wrong-type", 1),
    ("name: small", "nam: small", "unknown-key", 1),
    ("name: small", "name: ''", "out-of-range", 1),
    ("name: small", "name:", "empty-value", 1),
    ("name: small", "name: [small]", "wrong-type", 1),
    ("name: small", "name: small\ntags: x", "wrong-type", 2),
    ("name: small", "name: small\ntags: [Big]", "bad-name", 2),
    ("name: small", "name: small\ntimeout: 60", "missing-unit", 2),
    ("name: small", "name: small\ntimeout: 25h", "out-of-range", 2),
    ("name: small", "name: small\ntimeout: -1s", "bad-unit", 2),
    ("name: small", "name: small\ntimeout: 1e9s", "bad-unit", 2),
    ("name: small", "name: small\ntimeout: 5 sec", "bad-unit", 2),
    ("name: small", "name: small\non: push", "unknown-key", 2),
    ("checks:", "chekcs:", "missing-key", 1),
    ("  - never: {event: protocol_error}", "  []", "out-of-range", 17),
    ("name: small", "<<: {}\nname: small", "merge-key", 1),
    # services
    ("reference: reply", "reference: replay", "unknown-word", 3),
    ("reference: reply", "refrence: reply", "unknown-key", 3),
    ("reference: reply", "reference: reply, command: [x]", "choose-one", 3),
    ("reference: reply", "command: redis-server --port 4000", "wrong-type", 3),
    ("reference: reply", "command: []", "out-of-range", 3),
    ("reference: reply", 'command: ["a\\0b"]', "bad-value", 3),
    ("reference: reply", "command: [x], cwd: ../out", "outside", 3),
    ("reference: reply", "command: [x], cwd: /etc", "outside", 3),
    ("reference: reply", "command: [x], env: {A: 1}", "wrong-type", 3),
    ("reference: reply", "command: [x], env: {A=B: x}", "bad-name", 3),
    ("reference: reply", "reference: reply, env: {A: x}", "choose-one", 3),
    ("reference: reply", "image: '; rm -rf /'", "bad-value", 3),
    ("reference: reply", "image: my/db, cwd: data", "choose-one", 3),
    ("reference: reply", "compose: {file: a.yml}", "missing-key", 3),
    ("reference: reply", "compose: {file: ../a.yml, service: db}", "outside", 3),
    ("reference: reply", "reference: reply, ready: {line: up}", "choose-one", 3),
    ("reference: reply", "autostart: false", "choose-one", 3),
    ("reference: reply", "reference: reply, autostart: no", "wrong-type", 3),
    ("port: 4000", "port: 0", "out-of-range", 3),
    ("port: 4000", "port: 65536", "out-of-range", 3),
    ("port: 4000", "port: '4000'", "wrong-type", 3),
    ("port: 4000", "port: 4000.0", "wrong-type", 3),
    ("port: 4000", "port: true", "wrong-type", 3),
    ("port: 4000", "port: 04000", "ambiguous-number", 3),
    ("  server:", "  Server:", "bad-name", 3),
    ("  server:", "  conductor:", "bad-name", 3),
    ("  server:", "  server: {reference: echo, port: 1}\n  server:", "duplicate-key", 4),
    ("{reference: reply, port: 4000}", "reply", "wrong-type", 3),
    ("  server: {reference: reply, port: 4000}", "  {}", "out-of-range", 3),
    # clients
    ("  talkers:", "  server:", "duplicate-id", 5),
    ("count: 2", "count: 0", "out-of-range", 6),
    ("count: 2", "count: 100001", "out-of-range", 6),
    ("count: 2", "count: two", "wrong-type", 6),
    ("count: 2", "conut: 2", "unknown-key", 6),
    ("connect: server:4000", "connect: sever:4000", "unknown-service", 7),
    ("connect: server:4000", "connect: server", "bad-value", 7),
    ("connect: server:4000", "connect: server:4001", "wrong-port", 7),
    ("- send: {line: hello}", "- connect: server:80", "wrong-port", 9),
    ("- send: {line: hello}", "- end\n      - send: {line: hello}", "not-connected", 10),
    ("- send: {line: hello}", "- abort\n      - mark: x", "not-connected", 11),
    (
        "- send: {line: hello}",
        "- end: {within: 1s}\n      - repeat: {times: 2, script: [half_close]}",
        "not-connected",
        10,
    ),
    ("- send: {line: hello}", "- repeat: {times: 2, script: [{send: {line: a}}, end]}", "not-connected", 10),
    ("- send: {line: hello}", "- repeat: {times: 2, script: [end, end]}", "not-connected", 9),
    ("connect: server:4000", "connect: server:99999", "bad-value", 7),
    ("connect: server:4000", "connect: server:4000\n    arrive: 1s", "wrong-type", 8),
    ("connect: server:4000", "connect: server:4000\n    arrive: {over: 1}", "missing-unit", 8),
    ("connect: server:4000", "connect: server:4000\n    arrive: {over: 1s, at: 1s}", "choose-one", 8),
    ("connect: server:4000", "connect: server:4000\n    arrive: {}", "choose-one", 8),
    ("connect: server:4000", "connect: server:4000\n    on_loss: reconnect", "wrong-type", 8),
    ("connect: server:4000", "connect: server:4000\n    on_loss: {reconnect: {jitter: 0.2}}", "missing-unit", 8),
    ("connect: server:4000", "connect: server:4000\n    on_loss: {reconnect: {jitter: 120%}}", "out-of-range", 8),
    ("connect: server:4000", "connect: server:4000\n    on_loss: {reconnect: {factor: 0.5}}", "out-of-range", 8),
    # scripts
    ("- end", "- ends", "unknown-verb", 11),
    ("- end", "- send", "missing-key", 11),
    ("- end", "- {}", "choose-one", 11),
    ("- end", "- [end]", "wrong-type", 11),
    ("- end", "- end: 5s", "wrong-type", 11),
    ("- end", "- {end: {}, abort: {}}", "choose-one", 11),
    ("- end", "- half_close: {x: 1}", "unknown-key", 11),
    ("- end", "- wait: 5", "missing-unit", 11),
    ("- end", "- wait: 30ms..10ms", "out-of-range", 11),
    ("- end", "- wait: 1s..", "bad-unit", 11),
    ("- end", "- wait: {signal: never}", "signal-never-raised", 11),
    ("- end", "- repeat: {until: never, script: [end]}", "signal-never-raised", 11),
    ("- end", "- repeat: {script: [end]}", "missing-key", 11),
    ("- end", "- repeat: {times: 0, script: [end]}", "out-of-range", 11),
    ("- end", "- repeat: {times: 2, script: []}", "out-of-range", 11),
    ("- end", "- repeat: {times: 2, script: [repeat: {times: 2, script: [sned: {line: x}]}]}", "unknown-verb", 11),
    ("- end", "- read: fast", "unknown-word", 11),
    ("- end", "- read: {slow: 10kB}", "missing-unit", 11),
    ("- end", "- mark: Not a name", "bad-name", 11),
    ("- end", "- connect: other:1", "unknown-service", 11),
    ("- end", "- connect: {source_port: 0}", "out-of-range", 11),
    ("{line: hello}", "hello", "wrong-type", 9),
    ("{line: hello}", "{}", "choose-one", 9),
    ("{line: hello}", "{line: hello, text: x}", "choose-one", 9),
    ("{line: hello}", "{line: 5}", "wrong-type", 9),
    ("{line: hello}", '{line: "a\\nb"}', "bad-value", 9),
    ("{line: hello}", '{line: "{clint}"}', "placeholder", 9),
    ("{line: hello}", '{text: "{client.__class__}"}', "placeholder", 9),
    ("{line: hello}", '{text: "{"}', "placeholder", 9),
    ("{line: hello}", "{hex: abc}", "bad-value", 9),
    ("{line: hello}", "{hex: 'zz'}", "bad-value", 9),
    ("{line: hello}", "{base64: '@@@'}", "bad-value", 9),
    ("{line: hello}", "{random: 5}", "missing-unit", 9),
    ("{line: hello}", "{random: 0B}", "out-of-range", 9),
    ("{line: hello}", "{random: 1GiB}", "out-of-range", 9),
    ("{line: hello}", "{random: 1.5B}", "bad-unit", 9),
    ("{line: hello}", "{random: 5kb}", "bad-unit", 9),
    ("{line: hello}", "{line: hello, slices: 0B}", "out-of-range", 9),
    ("{line: hello}", "{line: hello, pause: 1s}", "choose-one", 9),
    ("{line: hello}", "{file: ../secret}", "outside", 9),
    ("{line: hello}", "{file: /etc/passwd}", "outside", 9),
    ("{line: hello}", "{file: a/../../b}", "outside", 9),
    ("{line: hello}", '{file: "a\\0b"}', "outside", 9),
    ("{line: hello}", "{file: ''}", "outside", 9),
    ("{line: world, within: 1s}", "{line: world, within: 1}", "missing-unit", 10),
    ("{line: world, within: 1s}", "{within: 1s}", "choose-one", 10),
    ("{line: world, within: 1s}", "world", "unknown-word", 10),
    ("{line: world, within: 1s}", "{eof: yes}", "unknown-word", 10),
    ("{line: world, within: 1s}", "{eof: false}", "unknown-word", 10),
    ("{line: world, within: 1s}", "{nothing: true}", "missing-key", 10),
    ("{line: world, within: 1s}", "nothing", "missing-key", 10),
    ("{line: world, within: 1s}", "{line: world, drain: true}", "choose-one", 10),
    ("{line: world, within: 1s}", "{bytes: 12}", "missing-unit", 10),
    ("{line: world, within: 1s}", "{regex: '(?=x)'}", "bad-regex", 10),
    ("{line: world, within: 1s}", "{regex: '(?<!x)y'}", "bad-regex", 10),
    ("{line: world, within: 1s}", "{regex: '(a)\\1'}", "bad-regex", 10),
    ("{line: world, within: 1s}", "{regex: '(a'}", "bad-regex", 10),
    ("{line: world, within: 1s}", "{regex: 'a{5000}'}", "bad-regex", 10),
    ("{line: world, within: 1s}", "{regex: '((a{900}){900}){900}'}", "bad-regex", 10),
    # the timeline
    ("when: {at: 1s}", "wen: {at: 1s}", "unknown-action", 14),
    ("    when: {at: 1s}\n", "", "missing-key", 13),
    ("when: {at: 1s}", "when: 1s", "wrong-type", 14),
    ("when: {at: 1s}", "when: {}", "choose-one", 14),
    ("when: {at: 1s}", "when: {at: 1s, after: crash}", "choose-one", 14),
    ("when: {at: 1s}", "when: {after: carsh}", "unknown-step", 14),
    ("when: {at: 1s}", "when: {after: crash}", "cycle", 13),
    ("when: {at: 1s}", "when: {event: lost, since: crash}", "cycle", 13),
    ("when: {at: 1s}", "when: {any: [{at: 1s}, {all: [{after: crash}]}]}", "cycle", 13),
    ("when: {at: 1s}", "when: {event: lsot}", "unknown-event", 14),
    ("when: {at: 1s}", "when: {event: lost, of: talker}", "unknown-subject", 14),
    ("when: {at: 1s}", "when: {event: replied, of: server}", "impossible-event", 14),
    ("when: {at: 1s}", "when: {event: accepted, of: talkers}", "impossible-event", 14),
    ("when: {at: 1s}", "when: {event: lost, count: 0}", "out-of-range", 14),
    ("when: {at: 1s}", "when: {every: server, event: lost}", "unknown-group", 14),
    ("when: {at: 1s}", "when: {every: talkers}", "missing-key", 14),
    ("when: {at: 1s}", "when: {event: mark, where: {name: settled}}", "unknown-mark", 14),
    ("when: {at: 1s}", "when: {log: {service: server}}", "choose-one", 14),
    ("when: {at: 1s}", "when: {log: {service: srv, contains: x}}", "unknown-service", 14),
    ("when: {at: 1s}", "when: {log: {service: server, matches: '('}}", "bad-regex", 14),
    ("when: {at: 1s}", "when: {all: []}", "out-of-range", 14),
    ("kill: server", "kil: server", "unknown-action", 15),
    ("kill: server", "kill: srever", "unknown-service", 15),
    ("kill: server", "kill: talkers", "wrong-target", 15),
    ("kill: server", "kill: {target: server, signal: STOP}", "unknown-word", 15),
    ("kill: server", "kill: {signal: TERM}", "missing-key", 15),
    ("kill: server", "kill: [server]", "wrong-type", 15),
    ("kill: server", "kill:", "empty-value", 15),
    ("kill: server", "kill: server\n    pause: server", "choose-one", 16),
    ("kill: server", "kill: server\n    for: 3s", "not-healable", 16),
    ("kill: server", "pause: server\n    for: 3", "missing-unit", 16),
    ("kill: server", "loss: {target: server, rate: 5}", "missing-unit", 15),
    ("kill: server", "loss: {target: server, rate: 0%}", "bad-value", 15),
    ("kill: server", "loss: {target: server, rate: 5%, burst: 5}", "missing-unit", 15),
    ("kill: server", "heal: crush", "unknown-step", 15),
    ("kill: server", "run: talker", "unknown-group", 15),
    ("kill: server", "note: 5", "wrong-type", 15),
    ("kill: server", "kill: server\n  - id: crash\n    when: {at: 2s}\n    note: x", "duplicate-id", 16),
    (
        "when: {at: 1s}",
        "when: {after: crash}\n    note: x\n  - id: crash\n    when: {after: crash}",
        "duplicate-id",
        16,
    ),
    ("kill: server", "kill: server\n  - id: b\n    when: {after: crash}\n    heal: crash", "not-healable", 18),
    ("id: crash", "id: all", "bad-name", 13),
    ("id: crash", "id: Crash!", "bad-name", 13),
    # checks
    ("never:", "nevr:", "unknown-check", 17),
    ("- never: {event: protocol_error}", "- never", "wrong-type", 17),
    ("{event: protocol_error}", "protocol_error", "wrong-type", 17),
    ("{event: protocol_error}", "{event: protocol_eror}", "unknown-event", 17),
    ("{event: protocol_error}", "{evnt: lost}", "unknown-key", 17),
    ("{event: protocol_error}", "{event: lost, of: nobody}", "unknown-subject", 17),
    ("{event: protocol_error}", "{event: lost, of: talkers-3}", "unknown-subject", 17),
    ("{event: protocol_error}", "{event: listening, of: talkers}", "impossible-event", 17),
    ("{event: protocol_error}", "{event: accepted, of: talkers-2}", "impossible-event", 17),
    ("never: {event: protocol_error}", "count: {event: lost, of: server}\n    equals: 1", "impossible-event", 17),
    (
        "never: {event: protocol_error}",
        "count: {event: received, of: server}\n    equals: 1\n    each: true",
        "unknown-group",
        17,
    ),
    ("kill: server", "kill: server\n  - when: {event: replied, of: talkers-0}\n    note: x", "unknown-subject", 16),
    ("{event: protocol_error}", "{event: effective, of: server}", "impossible-event", 17),
    ("{event: protocol_error}", "{event: lost}\n    within: 1s", "unknown-key", 18),
    ("never: {event: protocol_error}", "every: talkers", "missing-key", 17),
    ("never: {event: protocol_error}", "every: talkers\n    meets: lost\n    within: 1", "missing-unit", 19),
    ("never: {event: protocol_error}", "every: talkers\n    meets: lost\n    since: crsh", "unknown-step", 19),
    ("never: {event: protocol_error}", "every: talker\n    meets: lost", "unknown-group", 17),
    ("never: {event: protocol_error}", "count: {event: lost}\n    equals: 1.5", "wrong-type", 18),
    ("never: {event: protocol_error}", "order: [{event: lost, of: x}, {event: end}]", "unknown-subject", 17),
    ("never: {event: protocol_error}", "said: server\n    matches: '(?=x)'", "bad-regex", 18),
]


def test_the_small_scenario_is_right() -> None:
    """What all cases start from has no problem itself."""
    assert problems(SMALL) == []


@pytest.mark.parametrize(("old", "new", "slug", "line"), CASES, ids=[f"{new} -> {slug}" for _, new, slug, _ in CASES])
def test_a_mistake_is_named_at_its_place(old: str, new: str, slug: str, line: int) -> None:
    """One mistake gives its slug, at its line, with the line itself."""
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    found = problems(text)
    places = [(p.slug, p.place.line) for p in found if p.place]
    assert (slug, line) in places
    assert len(places) == len(found) <= 3
    assert all(p.place and p.place.snippet == text.splitlines()[p.place.line - 1] for p in found)


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    """Wrong values do not hide wrong references, nor the other way round."""
    text = SMALL.replace("name: small", "name: 5").replace("count: 2", "cuont: 2").replace("server:4000", "sever:4000")
    text = text.replace("- end", "- edn").replace("kill: server", "kill: srever").replace("never:", "nevr:")
    found = [(p.slug, p.place.line) for p in problems(text) if p.place]
    assert found == [
        ("wrong-type", 1),
        ("unknown-key", 6),
        ("unknown-service", 7),
        ("unknown-verb", 11),
        ("unknown-service", 15),
        ("unknown-check", 17),
    ]


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        ("- end", "- ends", "did you mean 'end'?"),
        ("kill: server", "kil: server", "did you mean 'kill'?"),
        ("kill: server", "kill: sever", "did you mean 'server'?"),
        ("never:", "nevr:", "did you mean 'never'?"),
        ("event: protocol_error", "event: protocol_eror", "did you mean 'protocol_error'?"),
        ("within: 1s", "witin: 1s", "did you mean 'within'?"),
        ("within: 1s", "within: 1", "write 1s, or as in 10s, 100ms, 2m, 1h"),
        ("reference: reply", "reference: replay", "did you mean 'reply'?"),
        ("kill: server", "kill: {target: server, for: 1s}", "put it beside this mapping, not into it"),
    ],
)
def test_a_mistake_comes_with_its_remedy(old: str, new: str, remedy: str) -> None:
    """A typo is answered with the word that was meant, a missing unit with the units."""
    (problem,) = problems(SMALL.replace(old, new, 1))
    assert problem.remedy == remedy


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- end", "- end: {within: 2s}"),
        ("- end", "- end:"),
        ("- end", "- end: {}"),
        ("- end", "- half_close"),
        ("- end", "- abort"),
        ("- end", "- connect"),
        ("- end", "- connect: server:4000"),
        ("- end", "- connect: {timeout: 100ms, source_port: 1234}"),
        ("- end", "- wait: 1.5s"),
        ("- end", "- wait: 10ms..30ms"),
        ("- end", "- wait: 100us"),
        ("- end", "- read: never"),
        ("- end", "- read: {slow: 10kB/s}"),
        ("- end", "- barrier: all-in"),
        ("- end", "- repeat: {times: 3, for: 10s, script: [end, {mark: x}]}"),
        ("{line: hello}", "{text: 'no end'}"),
        ("{line: hello}", "{line: '{{}} {client} {group} {session} {run} {n}'}"),
        ("{line: hello}", "{hex: 'de ad BE EF'}"),
        ("{line: hello}", "{base64: aGVsbG8=}"),
        ("{line: hello}", "{random: 64KiB, slices: 5B, pause: 1ms}"),
        ("{line: world, within: 1s}", "eof"),
        ("{line: world, within: 1s}", "reset"),
        ("{line: world, within: 1s}", "{nothing: true, within: 500ms}"),
        ("{line: world, within: 1s}", "{regex: '^[a-z]{1,5} \\d+ {client}$'}"),
        ("{line: world, within: 1s}", "{bytes: 137B}"),
        ("reference: reply", "reference: {behaviour: echo}"),
        ("reference: reply", "command: [redis-server, --port, '4000'], env: {A: x}, cwd: data, ready: {line: Ready}"),
        ("reference: reply", "image: 'redis:7', command: [redis-server]"),
        ("reference: reply", "compose: {file: compose.yml, service: db}, ready: {line: Ready}"),
        ("reference: reply", "reference: reply, ready: {within: 5s}"),
        ("kill: server", "pause: server\n    for: 3s"),
        ("kill: server", "loss: {target: server, rate: 5%, burst: 1KiB, after: 2s}"),
        ("kill: server", "heal: all"),
        ("kill: server", "run: talkers"),
        ("when: {at: 1s}", "when: {any: [{at: 1s}, {log: {service: server, contains: up}}], within: 5s}"),
        ("when: {at: 1s}", "when: {event: client_lost, of: server, count: 3, where: {how: reset}}"),
    ],
)
def test_the_language_says_this_too(old: str, new: str) -> None:
    """Every verb, shorthand and trigger of the language is accepted."""
    assert old in SMALL
    assert problems(SMALL.replace(old, new, 1)) == []


def test_a_compose_file_elsewhere_can_be_included() -> None:
    """Its path leaves the scenario's folder; the remedy is one that works."""
    (problem,) = problems(SMALL.replace("reference: reply", "compose: {file: ../compose.yaml, service: db}"))
    assert "that says include: ['../compose.yaml']" in problem.remedy


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "kill: server",
            "loss: {target: server, rate: 0.2}",
            "the percentage 0.2 has no unit; write 20%, or 0.2% if you mean that  [missing-unit]",
        ),
        (
            "kill: server",
            "kill: server\n  - {id: cut, when: {at: 2s}, pause: server}\n  - {when: {at: 3s}, heal: crash}",
            "the step 'crash' does what does not heal; what heals: cut  [not-healable]",
        ),
        (
            "reference: reply",
            "command: [x], files: ['sr v.py']",
            "'sr v.py' cannot be copied to a host under that name; put it beside the scenario under a name of letters, "
            "digits, '.', '_' and '-', a letter or digit first  [bad-value]",
        ),
    ],
)
def test_a_remedy_fits_what_was_meant(old: str, new: str, said: str) -> None:
    """What to write in its place, in the words of the language."""
    (problem,) = problems(SMALL.replace(old, new, 1))
    assert str(problem).partition("\n")[0].partition(": ")[2] == said


def test_two_services_are_not_one_program() -> None:
    """The second to name a Compose service is told of the first."""
    one = "{compose: {file: c.yml, service: db}, port: 4001}"
    text = SMALL.replace("clients:", f"  first: {one}\n  second: {one}\nclients:", 1)
    (problem,) = problems(text)
    assert (problem.slug, problem.message) == ("duplicate-id", "'first' is the Compose service 'db' already")
    assert problems(text.replace("service: db", "service: other", 1)) == []


@pytest.mark.parametrize("kind", ["command: [redis-server]", "image: redis", "compose: {file: c.yml, service: s}"])
def test_of_a_foreign_program_only_what_its_agent_sees_can_be_asked(kind: str) -> None:
    """It writes no records: a check of them could not fail, a trigger not fire."""
    text = SMALL.replace("reference: reply", kind)
    for event in ("accepted", "client_lost", "sent"):
        asked = text.replace("{event: protocol_error}", f"{{event: {event}, of: server}}")
        (problem,) = problems(asked)
        assert (problem.slug, problem.message) == (
            "impossible-event",
            f"'server' is not a reference server, so it has no '{event}'",
        )
        waited = text.replace("when: {at: 1s}", f"when: {{event: {event}, of: server}}")
        assert [p.slug for p in problems(waited)] == ["impossible-event"]
    for event in ("exited", "line", "listening"):
        assert problems(text.replace("{event: protocol_error}", f"{{event: {event}, of: server}}")) == []


def test_what_only_reference_servers_have_is_not_asked_where_there_is_none() -> None:
    """Of nobody in particular neither: `never` would have no observer, `count` nothing to count."""
    text = SMALL.replace("reference: reply", "command: [redis-server]")
    for check in ("never: {event: accepted}", "count: {event: client_lost}\n    equals: 1"):
        (problem,) = problems(text.replace("never: {event: protocol_error}", check))
        assert problem.slug == "impossible-event"
        assert problem.message.startswith("no service here is a reference server, so there is no '")
        assert problems(SMALL.replace("never: {event: protocol_error}", check)) == []
    assert problems(text.replace("never: {event: protocol_error}", "never: {event: received}")) == []


def test_two_steps_of_one_name_are_told_before_and_instead_of_a_circle() -> None:
    """Of two of one name nobody knows which is meant."""
    twice = SMALL.replace("kill: server", "kill: server\n  - id: crash\n    when: {after: crash}\n    note: x")
    assert [p.slug for p in problems(twice)] == ["duplicate-id"]


@pytest.mark.parametrize(
    "script",
    [
        "[{send: {line: a}}, end, connect, {send: {line: b}}, abort]",
        "[{send: {line: a}}, end, {wait: 1s}, {mark: away}, {connect: {to: server:4000}}, end]",
        "[{repeat: {times: 2, script: [{send: {line: a}}, end]}}]",
        "[{repeat: {times: 2, script: [connect, {send: {line: a}}, end]}}, {mark: away}]",
    ],
)
def test_a_script_may_connect_again(script: str) -> None:
    """By `connect`, or with a connection for each round."""
    found = problems(re.sub(r"script:\n(      - .*\n)+", f"script: {script}\n", SMALL))
    assert found == []


DRIVERS = """\
name: programs
services:
  server: {reference: reply, port: 4000}
  drivers-9: {reference: reply, port: 4000}
clients:
  drivers:
    command: [driver]
    count: 3
  talkers: {connect: server:4000, script: [end]}
timeline:
  - id: crash
    when: {log: {clients: drivers, contains: up}}
    kill: server
checks:
  - never: {event: line, of: drivers}
"""
"""A scenario with a group of client programs, for the tests below."""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("command: [driver]", "image: my/driver"),
        ("command: [driver]", "image: my/driver\n    command: [driver, x]"),
        ("command: [driver]", "command: [driver]\n    connect: server:4000\n    arrive: {over: 1s}"),
        ("command: [driver]", "command: [driver]\n    env: {A: b}\n    cwd: bin\n    files: [a.py]\n    grace: 1s"),
        ("command: [driver]", "image: my/driver\n    files: [a.py]"),
        ("kill: server", "run: drivers"),
        ("{event: line, of: drivers}", "{event: exited, of: drivers, where: {code: 3}}"),
    ],
)
def test_clients_may_be_programs(old: str, new: str) -> None:
    """A command or an image, with or without an address, and whatever a service's program may have."""
    assert old in DRIVERS
    assert problems(DRIVERS.replace(old, new, 1)) == []


@pytest.mark.parametrize(
    ("old", "new", "slug"),
    [
        ("command: [driver]", "command: [driver]\n    script: [end]", "choose-one"),
        ("command: [driver]", "command: [driver]\n    on_loss: {reconnect: }", "choose-one"),
        ("command: [driver]", "command: [driver]\n    connect_timeout: 1s", "choose-one"),
        ("command: [driver]", "image: my/driver\n    cwd: bin", "choose-one"),
        ("script: [end]", "script: [end], env: {A: b}", "choose-one"),
        ("script: [end]", "script: [end], grace: 1s", "choose-one"),
        ("connect: server:4000, ", "", "missing-key"),
        (", script: [end]", "", "choose-one"),
        ("command: [driver]", "command: [driver]\n    connect: servr:4000", "unknown-service"),
        ("{clients: drivers,", "{clients: talkers,", "unknown-group"),
        ("{clients: drivers,", "{clients: drivers, service: server,", "choose-one"),
        ("{clients: drivers, contains: up}", "{contains: up}", "choose-one"),
        ("event: line, of: drivers", "event: lost, of: drivers", "impossible-event"),
        ("event: line, of: drivers", "event: line, of: talkers", "impossible-event"),
        ("  drivers-9:", "  drivers-3:", "duplicate-id"),
        ("  drivers:\n", "  client:\n", "bad-name"),
    ],
)
def test_what_fits_no_program_is_refused(old: str, new: str, slug: str) -> None:
    """With a word for what is wrong."""
    assert old in DRIVERS
    assert slug in [problem.slug for problem in problems(DRIVERS.replace(old, new, 1))]


# --- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("100ms", 0.1), ("2m", 120.0), ("1h", 3600.0), ("250us", 0.00025), ("1.5s", 1.5), ("0s", 0.0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    """Exact decimal arithmetic: 100ms is the float 0.1, on every machine."""
    assert units.duration(text) == seconds


@pytest.mark.parametrize(("text", "count"), [("5B", 5), ("10kB", 10_000), ("64KiB", 65_536), ("1.5MiB", 1_572_864)])
def test_a_size_is_bytes(text: str, count: int) -> None:
    """kB is 1000, KiB is 1024."""
    assert units.size(text) == count


@pytest.mark.parametrize(
    "text", ["5", "", "s", "5 0s", "٣s", "1_000s", "5S", "+5s", "0x5s", "5s ", " 5s", "5s\n", "1e3s"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """Only ASCII digits, a point and a unit."""
    with pytest.raises(Wrong):
        units.duration(text)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("within_s", ("within", "duration")),
        ("slice_bytes", ("slice", "size")),
        ("speed_bytes_per_s", ("speed", "rate")),
        ("rate_share", ("rate", "share")),
        ("as_", ("as", None)),
        ("meets", ("meets", None)),
        ("matches", ("matches", "regex")),
    ],
)
def test_a_fields_name_says_how_its_yaml_is_read(field: str, expected: tuple[str, str | None]) -> None:
    """Authors of faults and checks declare plain numbers with units in their names."""
    assert units.split_name(field) == expected


# --- fuzz ----------------------------------------------------------------------------------------------------------


def test_a_mutant_is_read_or_refused_with_a_place() -> None:
    """500 broken variants (torture: 20,000) never give anything but problems with places, and most are refused."""
    assert problems(GOOD) == []
    found = [problems(mutant(seed, GOOD)) for seed in range(500)]
    assert all(p.place and p.slug and p.message for problem in found for p in problem)
    assert sum(bool(problem) for problem in found) > 300


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t0~<é\0", max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No input makes the language raise anything; it answers with problems."""
    assert all(p.place for p in problems(data))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["at", "target", "event", "line", "script", "x", "when", "kill"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
PATHS = [m.start() for m in re.finditer(r"(?<=: )\S", SMALL)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PATHS), VALUES)
def test_any_value_in_any_place_is_read_or_refused(at: int, value: object) -> None:
    """Whatever type stands wherever, there is a problem with a place, never an exception."""
    line_end = SMALL.find("\n", at)
    text = f"{SMALL[:at]}{json.dumps(value)}{SMALL[line_end:]}"
    assert all(p.place for p in problems(text))
