"""The table of verbs: which function carries out which request. An agent is given it by whoever starts one.

A family of faults adds a module with a `VERBS` table of its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midsession.agent import census, process, session
from midsession.agent.agent import Handler
from midsession.agent.network import filter as filters
from midsession.agent.network import impair, lead, lies, link, renumber, sockets

VERBS: Mapping[type[Any], Handler] = {
    **process.VERBS,
    **filters.VERBS,
    **impair.VERBS,
    **lead.VERBS,
    **lies.VERBS,
    **link.VERBS,
    **renumber.VERBS,
    **sockets.VERBS,
    **session.VERBS,
    **census.VERBS,
}
