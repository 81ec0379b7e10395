"""Which runs' directories stay. Every door has this choice, in the same words; importing it costs nothing."""

from __future__ import annotations

from enum import StrEnum


class Keep(StrEnum):
    """What becomes of a run's directory once the run is judged."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    """Only of a run that did not pass: failed, inconclusive, in error or interrupted."""
    NEVER = "never"

    def wants(self, exit_code: int) -> bool:
        """Whether the directory of a run that ended with this exit code stays."""
        return self is Keep.ALWAYS or (self is Keep.ON_FAILURE and exit_code != 0)
