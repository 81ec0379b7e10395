"""Malformed scenarios, from a table: every value of a good scenario in turn replaced by what does not belong there.

Written out they would be 30 times as long. `corpus()` gives each with a name that says what was done where.
"""

from __future__ import annotations

from collections.abc import Iterator

from midsession.core.loader import Node, parse
from midsession.errors import Place

GOOD = """\
name: good
about: one of everything
tags: [a, b]
timeout: 30s
services:
  server: {reference: {behaviour: reply}, port: 4000, grace: 1s}
  own: {command: [python3, x.py], port: 5000, env: {A: b}}
clients:
  talkers:
    count: 3
    connect: server:4000
    arrive: {over: 1s}
    on_loss: {reconnect: {first: 100ms, factor: 2, max: 1s, jitter: 20%, attempts: 3}}
    script:
      - send: {line: "Hi {client} {n}"}
      - expect: {regex: "^Got .*", within: 1s}
      - wait: 10ms..30ms
      - send: {hex: "00 ff", slices: 1B, pause: 1ms}
      - repeat:
          until: goodbye
          script:
            - send: {random: 1KiB}
            - mark: settled
      - end: {within: 1s}
timeline:
  - id: crash
    when: {event: replied, of: talkers, count: 5, within: 5s}
    kill: {target: server, signal: KILL}
  - id: return
    when: {after: crash, wait: 1s}
    start: server
  - id: cut
    when: {all: [{at: 1s}, {every: talkers, event: replied, since: return}]}
    partition: {target: server, with: talkers}
    for: 1s
  - when: {log: {service: own, contains: ready}}
    signal: goodbye
checks:
  - every: talkers
    meets: lost
    as: eof
    since: crash
    within: 1s
  - never: {event: protocol_error, of: talkers}
  - count: {event: mark, where: {name: settled}}
    at_least: 1
  - latency: {of: talkers, until: crash}
    at_most: {p50: 5ms, p99: 50ms}
  - log: {service: own, matches: "^ready"}
"""

VALUES = {
    "null": "null",
    "a list": "[[]]",
    "a mapping": "{x: {y: z}}",
    "a number": "-7.5e300",
    "a word": "Zz_9",
    "text": '"${{ x }} {nobody} \\x1b[31m \\u202e"',
    "much": "x" * 5000,
    "a tag": "!!python/object:os.system id",
    "an alias": "*nobody",
    "a merge": "{<<: {a: b}}",
    "a tab": "\t- x",
    "an open quote": "'",
    "infinity": ".inf",
    "octal": "0777",
}
KEYS = {
    "an unknown key": "unkonwn: 1",
    "a number for a key": "7: 1",
    "a list for a key": "[a]: 1",
    "an empty key": "'': 1",
    "a merge key": "<<: {a: b}",
    "an anchor": "&a a: *a",
}
WHOLE = {
    "nothing": b"",
    "a scalar": b"x",
    "a list": b"- 1\n",
    "no UTF-8": b"name: \xff\xfe\n",
    "UTF-16": "name: x".encode("utf-16"),
    "a NUL": b"name: a\0b\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "a directive": b"%YAML 1.1\n---\nname: x\n",
    "only an anchor": b"&a\n",
    "deep": b"[" * 200,
    "an end": b"...\n...\n",
}


def corpus() -> Iterator[tuple[str, bytes]]:
    """Every malformed scenario, with its name."""
    yield from WHOLE.items()
    lines = GOOD.splitlines()
    for what, key in KEYS.items():
        for number, line in enumerate(lines):
            if line.rstrip().endswith(":") or line[:1].isalpha():
                indent = " " * (len(line) - len(line.lstrip(" -")))
                yield (
                    f"{what} before line {number + 1}",
                    "\n".join([*lines[:number], indent + key, *lines[number:]]).encode(),
                )
    for place, value in scalars(parse(GOOD.encode(), "good")):
        for what, text in VALUES.items():
            yield f"{what} at {place.line}:{place.column}", replaced(lines, place, value, text).encode()


def scalars(node: Node) -> Iterator[tuple[Place, object]]:
    """Every scalar of a document, with its place."""
    inner = [*node.each(), *(value for _, value in node.items())]
    if not inner and not isinstance(node.value, dict | list):
        yield node.place, node.value
    for one in inner:
        yield from scalars(one)


def replaced(lines: list[str], place: Place, value: object, text: str) -> str:
    """The scenario with the scalar at that place replaced."""
    line = lines[place.line - 1]
    begin = place.column - 1
    end = begin + 1
    if line[begin] in "'\"":
        end = line.index(line[begin], begin + 1) + 1
    else:
        while end < len(line) and line[end] not in ",}]":
            end += 1
    changed = f"{line[:begin]}{text}{line[end:]}"
    return "\n".join([*lines[: place.line - 1], changed, *lines[place.line :]])
