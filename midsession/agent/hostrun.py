"""One run on one host: its directory, the agent's book, what the conductor is subscribed to.

It lives from `configure` to the next `configure`; `finish` closes the book.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from midsession.agent import procfs
from midsession.agent.answer import Refused
from midsession.agent.book import Book
from midsession.agent.channel import Channel
from midsession.agent.directory import Directory
from midsession.agent.loop import Loop
from midsession.agent.network.routes import Route
from midsession.agent.network.ruleset import Ruleset
from midsession.agent.protocol import NOTHING_TO_HEAL, Configure, Impair
from midsession.agent.say import say
from midsession.agent.source import Source
from midsession.agent.tail import Tail
from midsession.core.pulse import BEAT_S, Pulse
from midsession.core.record import Event, Header

Cure = Callable[[], dict[str, Any]]
"""Undoes a fault; returns what its `healed` record tells of it. Raises OSError or Refused."""
Remains = Callable[[], str]
"""What there still is of a fault, in words; empty where nothing is. Asked when the cure has returned, and must look for
itself, at the kernel if it can: what the cure has done, or believes to have done, proves nothing. Raises as a cure."""


class Mechanism(Protocol):
    """Something that can impair this host's link. All of it raises Refused or OSError."""

    name: str

    def put(self, ask: Impair, key: str) -> dict[str, Any]:
        """Begin an impairment, whose draws (if it makes any) have that key; returns facts for `injected`."""

    def take(self, fault: str) -> dict[str, Any]:
        """End it, as a `Cure`."""

    def remains_of(self, fault: str) -> str:
        """What there still is of it, as `Remains`."""

    def close(self) -> None:
        """Leave nothing behind; every impairment has ended."""


class HostRun:
    """What the agent knows of the run under way. `channel` leads to the conductor that began it.

    Raises Refused (a bad name) and OSError (a directory that cannot be made, a log that is there already).
    """

    def __init__(self, loop: Loop, ask: Configure, channel: Channel) -> None:
        self._ask, self._clock = ask, procfs.own_clock()
        self.name, self.seed = ask.host, ask.seed
        self.incarnations = 0
        self.faults: set[str] = set()
        self.ruleset: Ruleset | None = None
        """The packet rules of this host, once something needed them."""
        self._cures: dict[str, tuple[Cure, Remains] | None] = {}
        self.incurable = False
        """A cure did not do what it should: nobody knows what state this host is in."""
        self.mechanism: Mechanism | None = None
        """What impairs this host's link, once something needed it."""
        self.down: dict[str, str] = {}
        """The faults that have an interface down, each with its name."""
        self.ways: dict[str, list[Route]] = {}
        """The routes through gateways that an interface had before it went down."""
        self.directory = Directory(ask.host, ask.directory)
        try:
            self.book = Book(self.directory, self.header("agent", 1, os.getpid()), ask.client)
        except BaseException:
            self.directory.remove()
            raise
        self._own = Source(self.name, "agent", 1, self.event_path(self.book.name))
        self.tail = Tail(loop, self._own, channel.send, lambda: channel.crowded)
        self.book.on_written = self.tail.touch
        self._programs: dict[int, Source] = {}
        self._loop, self._pulse = loop, Pulse(procfs.now_ns())
        self._beating = loop.later(BEAT_S, self._beat)

    def header(self, writer: str, incarnation: int, pid: int) -> Header:
        """The header of a writer's file on this host."""
        return Header(
            run=self._ask.run,
            host=self.name,
            writer=writer,
            incarnation=incarnation,
            pid=pid,
            clock=self._clock,
            seed=self._ask.seed,
            plan=self._ask.plan,
        )

    def event_path(self, name: str) -> str:
        """The absolute path of an event file."""
        return os.path.join(self.directory.path, "events", name)

    def size_of(self, event_file: str) -> int | None:
        """Its size in bytes; None when it was never made."""
        try:
            return os.stat(self.event_path(event_file), follow_symlinks=False).st_size
        except OSError:
            return None

    def follow(self, event_file: str, incarnation: int) -> None:
        """Push what a program writes, after what the book holds by now."""
        source = Source(self.name, "program", incarnation, self.event_path(event_file), after=self.book.size)
        self._programs[incarnation] = source
        self.tail.add(source)

    def unfollow(self, incarnation: int) -> None:
        """The program is dead: its file grows no more."""
        self._programs.pop(incarnation).ended = True
        self.tail.touch()

    def injected(self, fault: str, verb: str, began_ns: int, t_ns: int, **more: Any) -> None:
        """Write that a fault was injected: `began_ns` just before the call, `t_ns` when it had returned."""
        self.book.append(Event.INJECTED, {"fault": fault, "verb": verb, "began_ns": began_ns, **more}, t_ns=t_ns)

    def witnessed(self, fault: str, by: str, **more: Any) -> None:
        """Write that a fault was seen at work."""
        self.book.append(Event.WITNESSED, {"fault": fault, "by": by, **more})

    def broken(self, fault: str, cure: Cure, remains: Remains) -> None:
        """That fault has something to heal: by `cure`, after which there must be nothing that `remains`."""
        self.faults.add(fault)
        self._cures[fault] = cure, remains

    def also_broken(self, fault: str, cure: Cure, remains: Remains) -> None:
        """That fault, which is in force here, has something more to heal, after what it had by now."""
        cures = self._cures[fault]
        assert cures is not None
        first, left = cures
        self._cures[fault] = (lambda: first() | cure()), (lambda: left() or remains())

    def frozen_by(self, fault: str) -> None:
        """That fault has the program to thaw: who thaws it sees to that, and calls `heal_frozen`."""
        self.faults.add(fault)
        self._cures[fault] = None

    def is_broken(self, fault: str) -> bool:
        """Whether it has something to heal."""
        return fault in self._cures

    def heal(self, fault: str) -> dict[str, Any]:
        """Cure one fault, see that nothing is left of it, and write `healed`; nothing for one that has nothing to heal.

        Returns what `healed` tells of it; NOTHING_TO_HEAL for one that never had anything to heal, so that no `healed`
        comes. Raises what its cure raises, and Refused when something is left.
        """
        if fault not in self._cures:
            return {} if fault in self.faults else NOTHING_TO_HEAL
        proof = self._cure(fault, *cures) if (cures := self._cures[fault]) is not None else {}
        del self._cures[fault]
        self.book.append(Event.HEALED, {"fault": fault, **proof})
        return proof

    def _cure(self, fault: str, cure: Cure, remains: Remains) -> dict[str, Any]:
        was_incurable, self.incurable = self.incurable, True
        proof = cure()
        if left := remains():
            raise Refused(f"{fault} was to be healed, and is not: {left}")
        self.incurable = was_incurable
        return proof

    @property
    def freezing(self) -> list[str]:
        """The faults that keep the program frozen."""
        return [fault for fault, cures in self._cures.items() if cures is None]

    def heal_frozen(self) -> None:
        """Write `healed` for each fault that froze the program, which is thawed or dead by now."""
        for fault in self.freezing:
            self.heal(fault)

    def heal_all(self) -> None:
        """Cure whatever is broken. What cannot be cured has no `healed`, and is told."""
        for fault in list(self._cures):
            try:
                self.heal(fault)
            except (OSError, Refused) as error:
                say(f"cannot heal {fault}: {error}")
        self._remove_rules()
        self._close_mechanism()

    def _remove_rules(self) -> None:
        ruleset, self.ruleset = self.ruleset, None
        if ruleset is not None:
            try:
                ruleset.remove()
            except Refused as error:
                say(f"cannot take the packet rules away: {error}")

    def _beat(self) -> None:
        """Write down whenever this process was not run in time."""
        now_ns = procfs.now_ns()
        if (stall := self._pulse.beat(now_ns)) is not None:
            self.book.append(Event.STALLED, stall, t_ns=now_ns)
        self._beating = self._loop.later(BEAT_S, self._beat)

    def _close_mechanism(self) -> None:
        mechanism, self.mechanism = self.mechanism, None
        if mechanism is not None:
            try:
                mechanism.close()
            except (OSError, Refused) as error:
                say(f"cannot take away what impaired the link: {error}")

    def finish(self) -> None:
        """Close the book with its trailer. What is in the files is still pushed, listed and fetched."""
        self._beating.cancel()
        self.book.close()

    @property
    def finished(self) -> bool:
        """Nothing can happen in this run any more."""
        return self.book.closed

    def remove(self) -> None:
        """Heal, end the subscription, close the book, take the directory away if it is our own."""
        if not self.finished:
            self.heal_all()
        self.tail.close()
        self.finish()
        self.directory.remove()
