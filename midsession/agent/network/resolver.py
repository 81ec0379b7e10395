"""Whom this host asks for names."""

from __future__ import annotations

from midsession.agent.answer import Refused

RESOLVER = "/etc/resolv.conf"
DNS_PORT = 53


def name_service() -> str:
    """The address of the first name service of resolv.conf(5). Raises Refused."""
    with open(RESOLVER) as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == "nameserver":
                return value.strip()
    raise Refused(f"{RESOLVER} names no name service")
