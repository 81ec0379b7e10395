"""Why a service did not come up, in words: what was waited for, how it ended, what it said last, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from midsession.core.plan import ComposeService, Service
from midsession.core.record import Record
from midsession.errors import HarnessError

LAST_LINES = 10
"""How many lines of a service's output are shown."""
_SHOWN = 160


def exited(service: Service, exit_: Record, said: Sequence[str], left_out: Sequence[str] = ()) -> HarnessError:
    """Its program ended before it was ready. `left_out`: the files beside the scenario that its command names, and that
    are not on its host."""
    look = f"run its command by hand; all that it said is in logs/{service.name}.program.{_incarnation(exit_)}.*.log"
    if left_out:
        look = f"put what lies beside the scenario on its host (`files: [{', '.join(left_out)}]`), or {look}"
    return _not_up(service, f"its program {exit_words(exit_)} before it was ready ({_ready(service)})", said, look)


def late(service: Service, said: Sequence[str], listening: Sequence[str] = ()) -> HarnessError:
    """It runs, and was not ready in time. `listening`: where anybody listens on its host, as `address:port`."""
    what = f"it was not ready ({_ready(service)}) within {service.ready_within_s:g} s"
    if service.ready_line is not None:
        return _not_up(service, what, said, "have it say that, or give it longer (`ready: {within: …}`)")
    what += f", and listens on {', '.join(listening) or 'no port'}"
    if any(place.endswith(f":{service.port}") for place in listening):
        return _not_up(service, f"{what}, where no other host reaches it", said, "let it listen on 0.0.0.0")
    others = "say how it is ready (`ready: {line: …}`), or give it longer (`ready: {within: …}`)"
    return _not_up(service, what, said, f"let it listen on port {service.port}, {others}")


def refused(name: str, why: HarnessError, mend: str = "its command in the scenario") -> HarnessError:
    """The program of a service or a client could not even be started; what there is to `mend` for it."""
    said = str(why).removesuffix(f"  [{why.slug}]").rpartition(" refused: ")[2]
    return HarnessError(f"{name} did not come up: {said}; mend {mend}", "service-not-up")


def refused_service(service: Service, why: HarnessError) -> HarnessError:
    """The same of a service, which may be one of a Compose file."""
    if isinstance(service, ComposeService):
        return refused(service.name, why, f"its service {service.service!r} in {service.file}")
    return refused(service.name, why)


def exit_words(exit_: Record) -> str:
    """How a program ended."""
    signal_name, code = exit_.fields.get("signal"), exit_.fields.get("code")
    return f"was killed by SIG{signal_name}" if signal_name else f"exited with code {code}"


def last_lines(said: Sequence[str]) -> str:
    """What somebody said last, for a message."""
    lines = " ⏎ ".join(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…" for line in said)
    return f"its last lines: {lines}" if lines else "it said nothing"


def _not_up(service: Service, what: str, said: Sequence[str], remedy: str) -> HarnessError:
    return HarnessError(f"{service.name} did not come up: {what}; {last_lines(said)}; {remedy}", "service-not-up")


def _ready(service: Service) -> str:
    if service.ready_line is not None:
        return f"ready: a line of its output that holds {service.ready_line!r}"
    return f"ready: it listens on port {service.port}"


def _incarnation(record: Record) -> int:
    return int(record.fields.get("incarnation", 1))
