"""The verbs impair and mend: what this host's link does to packets, by a mechanism that this kernel has.

The queue comes first: it is exact, its draws are those of the run's seed, it measures what it does, its impairments
stack, and everything goes on in order when they end. Where a host cannot have one, netem and tbf do what they can.
"""

from __future__ import annotations

from typing import Any

from midsession.agent.agent import Agent
from midsession.agent.answer import Answer, Refused
from midsession.agent.hostrun import HostRun, Mechanism
from midsession.agent.network.queueing import Queueing
from midsession.agent.network.shape import Shaping
from midsession.agent.procfs import now_ns
from midsession.agent.protocol import Impair, Mend
from midsession.core.plan import substream


def prepare(agent: Agent) -> None:
    """Have the mechanism ready, so that an impairment has to add nothing but itself."""
    mechanism(agent, agent.run_under_way())


def put(agent: Agent, ask: Impair, _answer: Answer) -> dict[str, Any]:
    """Put it in. Refused when this step impairs this host already, or when the mechanism cannot do it."""
    host = agent.run_under_way()
    if host.is_broken(ask.fault):
        raise Refused(f"{ask.fault} is in force already")
    its = mechanism(agent, host)
    began_ns = now_ns()
    facts = its.put(ask, substream(host.seed, "link", f"{host.name}/{ask.fault}"))
    host.injected(ask.fault, "impair", began_ns, now_ns(), mechanism=its.name, **facts)
    host.broken(ask.fault, lambda: its.take(ask.fault), lambda: its.remains_of(ask.fault))
    return {"mechanism": its.name}


def take(agent: Agent, ask: Mend, _answer: Answer) -> dict[str, Any]:
    """Take it out; nothing to do where there is none."""
    return agent.run_under_way().heal(ask.fault)


VERBS: dict[type[Any], Any] = {Impair: put, Mend: take}


def mechanism(agent: Agent, host: HostRun) -> Mechanism:
    """The one of this run, chosen at the first need. Raises Refused where there is none."""
    if host.mechanism is None:
        try:
            host.mechanism = Queueing(agent.loop, host)
        except (Refused, OSError) as no_queue:
            try:
                host.mechanism = Shaping(agent.loop, host)
            except Refused as no_netem:
                raise Refused(f"{no_queue}; {no_netem}") from no_netem
    return host.mechanism
