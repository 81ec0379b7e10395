"""`kill`: the program dies at once, its host lives on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midsession.agent.protocol import Kill as KillRequest
from midsession.core.record import Event, Record
from midsession.faults.base import ANY, Fault, Move, Scene

DeadlySignal = Literal["KILL", "TERM", "INT", "QUIT", "HUP", "ABRT", "SEGV", "BUS"]


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """The program and all its child processes get a signal: SIGKILL unless `signal` names another.

    Nothing else is touched. The host, its address and its kernel live on: the kernel closes the program's sockets, so
    that peers see FIN, or RST where bytes had come that the program had not read; later connects are refused.

    It took effect when the program has exited by this signal: it died of it, or it caught it and exited with a code of
    its own, as a program may after any signal but KILL. After HUP the code must be 0 (or 129, which says HUP): many
    services take it for "read your configuration anew" and live on, and what they fail of later is not its doing. A
    code but 0 must come within a second: later, nobody knows whether it is the answer to the signal or the program has
    survived that and crashed by itself, so that the step fails. To give a program time to end so, `stop` it. One that
    dies of a signal that it was not sent, or says so by the code 128 + n, has crashed by itself, whatever it was sent
    before. Once the program has ended by anything else, the fault fails, as it does with no program running.

    The program of an image is PID 1 of its container. Of signals other than KILL the kernel gives PID 1 only those for
    which it has a handler (pid_namespaces(7)): a `TERM` that it does not handle does nothing, and has no witness.

    A client group is killed as a whole: the programs that play it. Nobody knows how its sessions would have gone on,
    so each client's outcome is `info`, with this step as the reason; that alone makes no run inconclusive.
    """

    verb = "kill"
    family = "process"
    targets = ANY
    needs_program = True
    watches = frozenset({Event.EXITED})

    signal: DeadlySignal = "KILL"

    def inject(self, step: str, scene: Scene) -> Sequence[Move]:
        """One signal."""
        return (KillRequest(id=0, signal=self.signal, fault=step),)

    def is_witness(self, record: Record) -> bool:
        """The agent saw the program end by it."""
        return record.event == Event.EXITED

    def describe(self) -> str:
        """With the signal's name."""
        return f"kill {self.whom} (SIG{self.signal})"
