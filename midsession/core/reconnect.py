"""When a client that was lost tries again: a pure function of the policy, the attempt and the client's key."""

from __future__ import annotations

from midsession.core.plan import Reconnect, draw


def delay_s(policy: Reconnect, attempt: int, key: str) -> float | None:
    """The wait before the `attempt`-th try in a row (from 1), in seconds; None when the client gives up instead.

    min(first_s * factor**(attempt-1), max_s), then evenly spread over ± jitter of it. The draw depends on key and
    attempt alone, so a run's delays are known before it starts.
    """
    assert attempt >= 1
    if attempt > policy.attempts:
        return None
    swing = policy.jitter * (2 * draw(f"{key}/reconnect", attempt) - 1)
    return _base_s(policy, attempt) * (1 + swing)


def _base_s(policy: Reconnect, attempt: int) -> float:
    try:
        return min(policy.first_s * policy.factor ** (attempt - 1), policy.max_s)
    except OverflowError:  # a factor of 2 overflows a float after 1024 attempts; any overflow is past the maximum
        return policy.max_s
