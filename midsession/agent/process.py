"""The process verbs: start, kill, stop, freeze, thaw, tell, status, await_port.

A handler takes the agent, the request and its answer. It returns the reply's value, or None when it answers later.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from midsession.agent import procfs
from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.procfs import now_ns
from midsession.agent.program import Program
from midsession.agent.protocol import AwaitPort, Freeze, Kill, Start, Status, Stop, Tell, Thaw
from midsession.core.record import Event

_PORT_POLL_S = 0.005
_PROOF_POLL_S = 0.0005
_PROOF_WITHIN_S = 2.0


def start(agent: Agent, ask: Start, _answer: Answer) -> dict[str, Any]:
    """Start the host's program; refused while one runs."""
    host = agent.run_under_way()
    if agent.supervisor.program is not None:
        raise Refused(f"the program runs already (pid {agent.supervisor.program.pid})")
    program = Program(agent.loop, host, ask, host.incarnations + 1, agent.mirrors, agent.spawn)
    host.incarnations = program.incarnation
    agent.supervisor.adopt(program)
    return {"pid": program.pid, "incarnation": program.incarnation}


def kill(agent: Agent, ask: Kill, _answer: Answer) -> dict[str, Any]:
    """Nothing is written before the signal is sent: the time from the request to the signal is the fault's lag."""
    program = _running(agent)
    began_ns, t_ns = program.signal(ask.signal, ask.fault)
    if ask.fault:
        agent.run_under_way().injected(ask.fault, "kill", began_ns, t_ns, signal=ask.signal)
    return {"began_ns": began_ns, "t_ns": t_ns}


def stop(agent: Agent, ask: Stop, answer: Answer) -> None:
    """SIGTERM, and SIGKILL when the grace is over (without one, at once); answered when the program is gone.

    One that is on its way out already is only waited for: its end is its own.
    """
    program = _running(agent)
    began_ns = t_ns = now_ns()
    if not procfs.is_exiting(program.pid):
        began_ns, t_ns = program.signal(ask.first_signal, ask.fault, is_last=True)
    if ask.fault:
        agent.run_under_way().injected(ask.fault, "stop", began_ns, t_ns, grace_s=ask.grace_s)
    patience = agent.loop.later(max(ask.grace_s, 0.0), partial(agent.supervisor.kill, ask.fault))

    def gone() -> None:
        patience.cancel()
        assert program.exit is not None
        answer.give({"began_ns": began_ns, "t_ns": now_ns(), **program.exit})

    program.on_gone.append(gone)


def freeze(agent: Agent, ask: Freeze, answer: Answer) -> None:
    """SIGSTOP; answered once /proc says that every process of the program is stopped. Refused when the fault is healed
    before that: from then on nobody would thaw what is stopped."""
    program = _running(agent)
    began_ns, t_ns = program.signal("STOP", "")
    host = agent.run_under_way()
    if ask.fault:
        host.injected(ask.fault, "freeze", began_ns, t_ns)
        host.frozen_by(ask.fault)

    def proven(pids: int) -> None:
        host.book.append(Event.FROZEN, _named(ask.fault) | {"pids": pids})
        answer.give({"began_ns": began_ns, "t_ns": now_ns(), "pids": pids})

    def is_moot() -> bool:
        return bool(ask.fault) and ask.fault not in host.freezing

    _Proof(agent, program, answer, "stopped", signal.SIGSTOP, lambda state: state in procfs.STOPPED, proven, is_moot)


def thaw(agent: Agent, ask: Thaw, answer: Answer) -> dict[str, Any] | None:
    """SIGCONT; answered once no process of the program is stopped. Heals every fault that froze the program.

    With the name of one of several faults that froze it, that one is healed, and the others keep the program frozen.
    A program that has died since it was frozen needs no thaw: its faults are healed all the same. With the name of a
    fault that did not freeze it, the thaw is itself a step of the timeline, and `injected`; but for a cure, which then
    has nothing to do.
    """
    host = agent.run_under_way()
    if ask.cure and ask.fault not in host.freezing:
        return host.heal(ask.fault)
    program = agent.supervisor.program
    if program is None or program.status is not None:
        if ask.fault not in host.faults:
            raise Refused("no program runs")
        host.heal_frozen()
        return {"pids": 0}
    if ask.fault in host.freezing and len(host.freezing) > 1:
        return host.heal(ask.fault)
    began_ns, t_ns = program.signal("CONT", "")
    if ask.fault and ask.fault not in host.faults:
        host.injected(ask.fault, "thaw", began_ns, t_ns)

    def proven(pids: int) -> None:
        host.book.append(Event.THAWED, _named(ask.fault) | {"pids": pids})
        host.heal_frozen()
        answer.give({"began_ns": began_ns, "t_ns": now_ns(), "pids": pids})

    _Proof(agent, program, answer, "running again", signal.SIGCONT, lambda state: state not in procfs.STOPPED, proven)
    return None


def tell(agent: Agent, ask: Tell, _answer: Answer) -> dict[str, Any]:
    """A line for the program's standard input."""
    _running(agent).tell(ask.line)
    return {}


def status(agent: Agent, _ask: Status, _answer: Answer) -> dict[str, Any]:
    """What runs now, how the last one ended, and what is listened on."""
    program, last = agent.supervisor.program, agent.supervisor.last
    return {
        "running": program is not None,
        "pid": last.pid if last else None,
        "incarnation": last.incarnation if last else 0,
        "exit": last.exit if last else None,
        "listening": [
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sorted(procfs.listeners())
        ],
    }


def await_port(agent: Agent, ask: AwaitPort, answer: Answer) -> None:
    """Look until somebody listens, or the run is over."""
    until_ns = now_ns() + int(ask.within_s * 1e9)
    run = agent.host

    def look() -> None:
        if agent.host is not run:
            answer.refuse(f"nobody listened on port {ask.port} before the end of the run")
        elif ask.port in procfs.served_ports():
            answer.give({})
        elif now_ns() > until_ns:
            answer.refuse(f"nobody listens on port {ask.port}: not within {ask.within_s:g} s")
        else:
            agent.loop.later(_PORT_POLL_S, look)

    look()


VERBS: dict[type[Any], Any] = {
    Start: start,
    Kill: kill,
    Stop: stop,
    Freeze: freeze,
    Thaw: thaw,
    Tell: tell,
    Status: status,
    AwaitPort: await_port,
}


class _Proof:
    """Waits until the state of every process of a program satisfies a condition: `holds` gets its letter. It is refused
    as soon as it `is_moot`.

    A program's workers may have left its process group (setsid), or be born meanwhile: whoever does not satisfy it yet
    is sent the signal itself, again at each look.
    """

    def __init__(
        self,
        agent: Agent,
        program: Program,
        answer: Answer,
        condition: str,
        number: signal.Signals,
        holds: Callable[[str], bool],
        proven: Callable[[int], None],
        is_moot: Callable[[], bool] = lambda: False,
    ) -> None:
        self._agent, self._program, self._answer = agent, program, answer
        self._condition, self._number, self._holds, self._proven = condition, number, holds, proven
        self._is_moot = is_moot
        self._until_ns = now_ns() + int(_PROOF_WITHIN_S * 1e9)
        self._look()

    def _look(self) -> None:
        if self._program.exit is not None or self._program.status is not None:
            self._answer.refuse(f"the program died before it was {self._condition}")
            return
        if self._is_moot():
            self._answer.refuse(f"it was healed before the program was {self._condition}")
            return
        states = procfs.descendant_states()
        others = [pid for pid, state in states.items() if not self._holds(state)]
        if states and not others:
            self._proven(len(states))
        elif now_ns() > self._until_ns:
            seen = " ".join(f"{pid}:{state}" for pid, state in sorted(states.items()))
            self._answer.refuse(f"the program was not {self._condition} within {_PROOF_WITHIN_S} s; seen {seen}")
        else:
            for pid in others:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, self._number)
            self._agent.loop.later(_PROOF_POLL_S, self._look)


def _running(agent: Agent) -> Program:
    program = agent.supervisor.program
    if program is None or program.status is not None:
        raise Refused("no program runs")
    return program


def _named(fault: str) -> dict[str, Any]:
    return {"fault": fault} if fault else {}
