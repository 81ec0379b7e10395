"""A fresh seed: the one draw that is made outside a plan."""

from __future__ import annotations

import secrets


def fresh_seed() -> int:
    """32 bits of the system's randomness."""
    return secrets.randbelow(2**32)
