"""What an agent says when netem's cure does not do its work: `python -m tests.agent.shaping`.

For a kernel that has netem and no queue of packets, see `tests/test_netem.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from midsession.agent.protocol import Mend
from tests.agent.conductor import Agent, Refusal
from tests.agent.test_cures import DELAY, SERVE, begun
from tests.agent.test_filter import NAMESPACE

FILTERS_STAY = """
from midsession.agent.network import shape
tc = shape._tc
shape._tc = lambda *commands: tc(*(line for line in commands if not line.startswith("filter del")))"""


def said() -> str:
    """The agent's answer to the cure of a delay."""
    agent = Agent(code=FILTERS_STAY + SERVE, prefix=NAMESPACE)
    with tempfile.TemporaryDirectory() as folder:
        conductor = begun(agent, Path(folder), ["shape"])
        assert conductor.ask(DELAY) == {"mechanism": "netem"}
        try:
            value = conductor.ask(Mend(id=0, fault=DELAY.fault))
        except Refusal as refusal:
            return f"refused: {refusal}"
        finally:
            agent.end()
        return f"healed: {value}"


if __name__ == "__main__":
    sys.stdout.write(f"sabotaged cure {said()}\n")
