"""When a lost client tries again is a function of the policy, the attempt and its key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from midsession.core.plan import Reconnect
from midsession.core.reconnect import delay_s


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    """min(first * factor**(attempt-1), max), and nothing after the last attempt."""
    policy = Reconnect(first_s=0.1, factor=2, max_s=1.0, attempts=6)
    assert [delay_s(policy, n, "k") for n in range(1, 8)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, None]


def test_a_client_without_attempts_gives_up_at_once() -> None:
    """No attempt is allowed: None for the first."""
    assert delay_s(Reconnect(attempts=0), 1, "k") is None


@given(st.integers(1, 100_000), st.floats(0, 1), st.text(max_size=8))
def test_jitter_stays_within_its_share(attempt: int, jitter: float, key: str) -> None:
    """Within ± jitter of the delay, never negative, the same for the same key; no attempt overflows."""
    policy = Reconnect(first_s=0.5, factor=3, max_s=10.0, jitter=jitter, attempts=100_000)
    delay = delay_s(policy, attempt, key)
    plain = delay_s(Reconnect(first_s=0.5, factor=3, max_s=10.0, attempts=100_000), attempt, key)
    assert delay is not None
    assert plain is not None
    assert plain * (1 - jitter) - 1e-9 <= delay <= plain * (1 + jitter) + 1e-9
    assert delay >= 0
    assert delay == delay_s(policy, attempt, key)


def test_clients_do_not_come_back_together() -> None:
    """Different keys give different delays: that is what jitter is for."""
    policy = Reconnect(jitter=0.2)
    assert len({delay_s(policy, 1, f"key-{n}") for n in range(100)}) == 100
