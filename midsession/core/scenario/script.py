"""What a client does: the verbs of its session script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from midsession.core.scenario.values import Count, Nothing, Operation, Payload, Port, Yes
from midsession.core.shape import Duration, Model, Rate, Size, SpanText
from midsession.core.texts import Address, Base64, Hex, InnerPath, Line, Name, Regex, Text
from midsession.core.wrong import Wrong, did_you_mean, quoted


class Connect(Model):
    """Open a connection: a new one, or one to another place than the group's."""

    scalar: ClassVar[str | None] = "to"
    empty: ClassVar[bool] = True

    to: Address | None = None
    """`service:port`; without it, the group's own."""
    timeout_s: Duration | None = None
    """How long the attempt may take; without it, the group's own."""
    source_port: Port | None = None
    """The own port; without it, one that the kernel picks."""


class Send(Model):
    """Write bytes: in one write, or in slices with a pause between them."""

    one_of: ClassVar[tuple[str, ...]] = ("line", "text", "hex", "base64", "random", "file")

    line: Line | None = None
    """Text with placeholders; one line feed is appended."""
    text: Text | None = None
    """Text with placeholders, as it is."""
    hex: Hex | None = None
    """These bytes."""
    base64: Base64 | None = None
    """These bytes."""
    random: Payload | None = None
    """That many random bytes, drawn from the seed."""
    file: InnerPath | None = None
    """The bytes of a file in the scenario's folder or below it."""
    slices: Annotated[Size, Field(ge=1)] | None = None
    """Cut the bytes into writes of this size."""
    pause_s: Duration = 0.0
    """The pause between slices."""
    as_: Operation | None = None
    """What this is to the checks that compare what was written with what is read back."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if "pause" in mapping and "slices" not in mapping:
            yield ("pause",), Wrong("choose-one", "a pause without slices never comes", "add 'slices: 5B'")


class Expect(Model):
    """Wait until the peer's next message matches; another, or none in time, is a `protocol_error`, and ends the
    session, but a connection that ends or is reset instead is `lost`."""

    one_of: ClassVar[tuple[str, ...]] = (
        *("line", "contains", "glob", "regex", "exact", "hex", "bytes"),
        *("eof", "reset", "nothing"),
    )
    words: ClassVar[tuple[str, ...]] = ("eof", "reset")

    line: Line | None = None
    """The next line is exactly this (without its line feed)."""
    contains: Line | None = None
    """The next line contains this."""
    glob: Line | None = None
    """The next line matches this shell pattern (`*`, `?`, `[…]`)."""
    regex: Regex | None = None
    """The next line holds a match of this regular expression (RE2)."""
    exact: Annotated[Text, Field(min_length=1)] | None = None
    """The next bytes are exactly this text."""
    hex: Annotated[Hex, Field(min_length=2)] | None = None
    """The next bytes are exactly these."""
    bytes: Payload | None = None
    """That many bytes come, whatever they are."""
    eof: Yes | None = None
    """The peer ends its side (FIN)."""
    reset: Yes | None = None
    """The peer resets the connection (RST)."""
    nothing: Yes | None = None
    """No byte comes for `within`."""
    drain: Yes | None = None
    """With `eof` or `reset`: whatever the peer still says before is passed over."""
    within_s: Duration = 10.0
    """How long it may take to be met; with `nothing`, how long nothing must come."""
    ok: Operation | None = None
    """When it is met, the oldest `write` without an answer is acknowledged, or this is what the oldest `read` without
    one has found."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if "nothing" in mapping and "within" not in mapping:
            yield (), Wrong("missing-key", "for how long must nothing come?", "write {nothing: true, within: 500ms}")
        if "drain" in mapping and not {"eof", "reset"} & mapping.keys():
            yield ("drain",), Wrong("choose-one", "only what comes before an end is drained", "add 'eof: true'")


class Wait(Model):
    """Let time pass (a duration, or a range to draw from), or wait for a signal; the peer is heard meanwhile."""

    one_of: ClassVar[tuple[str, ...]] = ("for", "signal")
    scalar: ClassVar[str | None] = "for"

    for_s: SpanText | None = None
    """So long."""
    signal: Name | None = None
    """The name of a signal that the timeline raises."""


class End(Model):
    """End gracefully: send FIN, hear the peer until its FIN, close."""

    empty: ClassVar[bool] = True

    within_s: Duration = 10.0
    """How long the peer may take to end its side; longer is a `protocol_error`, and ends the session."""


class Read(Model):
    """How the client reads from here on."""

    one_of: ClassVar[tuple[str, ...]] = ("normal", "never", "slow")
    words: ClassVar[tuple[str, ...]] = ("normal", "never")

    normal: Yes | None = None
    """As fast as the peer writes."""
    never: Yes | None = None
    """Not at all: the peer's bytes fill the kernel's buffers, then its window closes."""
    slow: Annotated[Rate, Field(ge=1)] | None = None
    """At most so many bytes per second."""


class Repeat(Model):
    """Run a script again and again, until the first of its ends is reached."""

    times: Count | None = None
    """So many rounds."""
    until: Name | None = None
    """No further round once the timeline has raised this signal."""
    for_s: Duration | None = None
    """No further round after this time."""
    script: Script
    """One round."""

    @classmethod
    def _odd(cls, mapping: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], Wrong]]:
        yield from super()._odd(mapping)
        if not {"times", "until", "for"} & mapping.keys():
            yield (), Wrong("missing-key", "this repeat has no end", "give one of times, until, for")


class Instruction(Model):
    """One step of a session's script: exactly one verb."""

    noun: ClassVar[str] = "verb"
    words: ClassVar[tuple[str, ...]] = ("connect", "half_close", "end", "abort")
    one_of: ClassVar[tuple[str, ...]] = (
        *("connect", "send", "expect", "wait", "half_close", "end"),
        *("abort", "read", "barrier", "mark", "repeat"),
    )

    connect: Connect | None = None
    send: Send | None = None
    expect: Expect | None = None
    wait: Wait | None = None
    half_close: Nothing | None = None
    """Send FIN and go on hearing the peer."""
    end: End | None = None
    abort: Nothing | None = None
    """Close with RST."""
    read: Read | None = None
    barrier: Name | None = None
    """Wait until every client of the group has come to this barrier."""
    mark: Name | None = None
    """Write a `mark` record, for triggers and checks."""
    repeat: Repeat | None = None

    @classmethod
    def word_value(cls, word: str) -> object:
        """A bare verb is one with nothing more to say."""
        return {}

    @classmethod
    def _as_mapping(cls, data: object) -> dict[str, object]:
        if isinstance(data, str) and data not in cls.words:
            if data in cls.one_of:
                raise Wrong("missing-key", f"the verb '{data}' needs more", f"write it as {data}: …")
            raise Wrong("unknown-verb", f"unknown verb {quoted(data)}", did_you_mean(data, cls.one_of))
        return super()._as_mapping(data)


Script = Annotated[list[Instruction], Field(min_length=1, max_length=1000)]
