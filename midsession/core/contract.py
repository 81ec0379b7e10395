"""What a foreign program is told of the run, in its environment: see docs/contract.md. Pure.

`MIDSESSION_LOGS` is not here: where that directory is, the one knows who starts the program.
"""

from __future__ import annotations

from collections.abc import Mapping

from midsession.core.plan import ClientPlan, GroupPlan, Service

UNSUPPORTED = 127
"""The exit code by which a client program says that it cannot play its part (sh: "command not found")."""


def service_environment(service: Service, run: str, seed: int) -> dict[str, str]:
    """What a service of the user's is told."""
    return {**_common(run, seed), "MIDSESSION_SERVICE": service.name, "MIDSESSION_PORT": str(service.port)}


def client_environment(
    group: GroupPlan, client: ClientPlan, run: str, seed: int, addresses: Mapping[str, str]
) -> dict[str, str]:
    """What a client program is told. `addresses`: where each service is, by its name."""
    who = {
        "MIDSESSION_CLIENT": f"{group.name}-{client.number}",
        "MIDSESSION_GROUP": group.name,
        "MIDSESSION_NUMBER": str(client.number),
    }
    where = {"MIDSESSION_HOST": addresses[group.host], "MIDSESSION_PORT": str(group.port)} if group.host else {}
    return {**_common(run, seed), **who, **where}


def _common(run: str, seed: int) -> dict[str, str]:
    return {"MIDSESSION_RUN": run, "MIDSESSION_SEED": str(seed)}
