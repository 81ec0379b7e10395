"""The process that holds a host's packets: a fork of the agent that reads NFQUEUE and plays the line of stages.

A process of its own, because an agent that ships logs would let packets wait. The agent orders on a socket; the process
answers, and says by itself when an impairment has had its effect. It ends with that socket, or with the agent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from typing import NoReturn

import msgspec

from midsession.agent import libc, procfs
from midsession.agent.network.impairment import Direction, Impairment
from midsession.agent.network.line import Line
from midsession.agent.network.nfqueue import OUTPUT, PREROUTING, NfQueue
from midsession.agent.network.sender import Sender
from midsession.agent.network.stages import Counts, Packet, stage_of
from midsession.agent.say import say

TO, FROM = 0, 1
"""The numbers of the queues of packets to this host, and of those from it, in its network namespace."""
MARK = 0x4D53
"""The mark (SO_MARK) of packets that we send: the rules must let them pass."""
PROCESS_NAME = "packet-queue"
_HOOKS: dict[Direction, frozenset[int]] = {
    "to": frozenset({PREROUTING}),
    "from": frozenset({OUTPUT}),
    "both": frozenset({PREROUTING, OUTPUT}),
}
_MESSAGE_BYTES = 1 << 20
_LONGEST_S = 60.0
_UP_S = 5.0


class Add(msgspec.Struct, frozen=True, tag="add"):
    """Put in an impairment, behind those that are there. Answered by `Done`."""

    fault: str
    ask: Impairment
    direction: Direction
    peers: list[str] | None
    key: str


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Let go what it holds, and take it out. Answered by `Done`."""

    fault: str


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Say what there is. Answered by `State`."""


class State(msgspec.Struct, frozen=True, tag="state"):
    """The impairments that are in force, by the names of their faults, and how many packets wait."""

    faults: list[str]
    waiting: int


class Witness(msgspec.Struct, frozen=True, tag="witness"):
    """An impairment has had its effect for the first time."""

    fault: str
    counts: Counts


class Done(msgspec.Struct, frozen=True, tag="done"):
    """An order was carried out. `counts` of what was removed; so far, `overrun` packets passed unharmed, because more
    came than the process could hold, and `unsent` were lost, because they could not be sent."""

    counts: Counts = {}
    overrun: int = 0
    unsent: int = 0


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The process cannot do it; the text is for people."""

    error: str


_encode = msgspec.json.Encoder().encode
_decode_order = msgspec.json.Decoder(Add | Remove | Look).decode
_decode_answer = msgspec.json.Decoder(Witness | Done | State | Failed).decode


class QueueProcess:
    """The agent's handle on the process. Raises OSError when it cannot be started, or is gone."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_process(theirs)
        theirs.close()
        procfs.helpers.add(self.pid)
        answer = self.hear(_UP_S)
        if not isinstance(answer, Done):
            self.end()
            raise OSError(answer.error if isinstance(answer, Failed) else f"no process within {_UP_S:g} s")

    def fileno(self) -> int:
        """Readable when there is a `Witness`, or the process is gone."""
        return self._socket.fileno()

    def ask(self, order: Add | Remove | Look) -> None:
        """Order something; what comes of it is among what `hear` gives."""
        self._socket.send(_encode(order))

    def hear(self, timeout_s: float) -> Witness | Done | State | Failed | None:
        """The next thing that it says; None: nothing within that time. Raises OSError when it is gone."""
        self._socket.settimeout(timeout_s)
        try:
            message = self._socket.recv(_MESSAGE_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        if not message:
            raise OSError("the process that holds the packets is gone")
        answer: Witness | Done | State | Failed = _decode_answer(message)
        return answer

    def end(self) -> None:
        """It ends with its socket; who reaps it is told by SIGCHLD."""
        procfs.helpers.discard(self.pid)
        self._socket.close()


def _be_the_process(orders: socket.socket) -> NoReturn:
    """Turn this fork into the process. Never returns: the agent's frames must not run on in it."""
    code = 1
    try:
        gc.freeze()  # the agent's objects must not be collected here: they would close descriptors
        gc.disable()  # nothing here makes cycles, and a collection is a pause
        libc.die_with_parent()
        _leave_the_agent(orders.fileno())
        libc.be_called(PROCESS_NAME)
        libc.wake_exactly()
        libc.run_promptly()
        _Worker(orders).run()
        code = 0
    except Exception as error:  # noqa: BLE001 - the top of a process: told here, and to the agent
        why = str(error) if isinstance(error, OSError) else f"a mistake of ours: {type(error).__name__}: {error}"
        say(f"the queue of packets: {why}")
        with contextlib.suppress(OSError):
            orders.send(_encode(Failed(why)))
    finally:
        os._exit(code)


def _leave_the_agent(kept: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


class _Worker:
    """The loop of the process: packets, instants, orders.

    Packets to this host wait in the kernel for their verdict. Those from it are taken away from the kernel, and sent
    by us when their time has come: as long as the kernel had them, they would count as not sent yet, and TCP sends no
    more than a millisecond's worth of those (TCP small queues, tcp_small_queue_check).
    """

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._to, self._from = NfQueue(TO), NfQueue(FROM, whole=True)
        self._line = Line(self._out, self._lose)
        self._sender = Sender(MARK)
        self._unproven: set[str] = set()

    def run(self) -> None:
        """Say that all is ready, then go round until the agent closes its end."""
        self._say(Done())
        readers: tuple[NfQueue | socket.socket, ...] = (self._to, self._from, self._orders)
        while True:
            ready, _, _ = select.select(readers, (), (), self._patience())
            if self._to in ready:
                self._to.receive(self._enter)
            if self._from in ready:
                self._from.receive(self._take_away)
                self._from.flush()
            self._line.let_go(time.monotonic())
            self._to.flush()
            if self._unproven:
                self._tell_witnesses()
            if self._orders in ready and not self._obey():
                return

    def _patience(self) -> float:
        due = self._line.due()
        return _LONGEST_S if due is None else min(max(due - time.monotonic(), 0.0), _LONGEST_S)

    def _enter(self, packet: Packet) -> None:
        self._line.enter(packet, time.monotonic())

    def _take_away(self, packet: Packet) -> None:
        self._from.drop(packet)
        packet.number = None
        self._line.enter(packet, time.monotonic())

    def _out(self, packet: Packet) -> None:
        if packet.number is not None:
            self._to.accept(packet)
            return
        self._to.flush()  # a copy comes behind its original
        self._sender.send(packet.data)

    def _lose(self, packet: Packet) -> None:
        if packet.number is not None:
            self._to.drop(packet)

    def _tell_witnesses(self) -> None:
        for fault in [fault for fault in self._unproven if self._line.stages[fault].proven]:
            self._unproven.discard(fault)
            self._say(Witness(fault, self._line.stages[fault].counts))

    def _obey(self) -> bool:
        message = self._orders.recv(_MESSAGE_BYTES)
        if not message:
            return False
        match _decode_order(message):
            case Add() as order:
                self._add(order)
            case Remove(fault):
                self._remove(fault)
            case Look():
                self._say(State(sorted(self._line.stages), self._line.waiting))
        return True

    def _add(self, order: Add) -> None:
        peers = None if order.peers is None else frozenset(map(socket.inet_aton, order.peers))
        stage = stage_of(order.ask, order.key)
        if stage.whole:
            self._to.want_whole()
        self._line.add(order.fault, stage, _HOOKS[order.direction], peers)
        self._unproven.add(order.fault)
        self._say(Done())

    def _remove(self, fault: str) -> None:
        counts = self._line.remove(fault, time.monotonic()) if fault in self._line.stages else {}
        self._to.flush()
        self._unproven.discard(fault)
        overrun = self._line.overrun + self._to.overrun + self._from.overrun
        self._say(Done(counts, overrun, self._sender.unsent))

    def _say(self, answer: Witness | Done | State) -> None:
        self._orders.send(_encode(answer))
