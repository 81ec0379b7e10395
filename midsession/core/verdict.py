"""Findings and verdicts: what a check says, and how many of them make one word for the run."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from midsession.core.record import Record


class Status(StrEnum):
    """The four words of a finding and of a verdict, from best to worst."""

    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"
    ERROR = "error"


_BADNESS = {status: rank for rank, status in enumerate(Status)}

EXIT_CODES = {Status.PASS: 0, Status.FAIL: 1, Status.ERROR: 3, Status.INCONCLUSIVE: 11}
"""pytest's codes where pytest has one; 11 for inconclusive."""


def worst(statuses: Iterable[Status]) -> Status:
    """error > fail > inconclusive > pass. Nothing at all is no pass: it is inconclusive."""
    return max(statuses, key=_BADNESS.__getitem__, default=Status.INCONCLUSIVE)


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check found.

    `check` is its kind, `promise` the sentence it tests, `seen` what the history shows instead or in proof, `support`
    how many cases were looked at (a pass needs at least one), `witnesses` the records that prove it, `offenders` the
    clients (or hosts) that broke it, `place` the check's `file:line:col`, `measures` numbers by name with their unit in
    the name.
    """

    check: str
    status: Status
    promise: str
    seen: str
    support: int = 0
    witnesses: list[Record] = []
    offenders: list[str] = []
    place: str = ""
    measures: dict[str, Any] = {}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The run's word and all findings behind it."""

    status: Status
    findings: list[Finding]

    @staticmethod
    def of(findings: list[Finding]) -> Verdict:
        """Merge worst-first; no finding at all is inconclusive."""
        return Verdict(status=worst(f.status for f in findings), findings=findings)

    @property
    def exit_code(self) -> int:
        """The exit code of `midsession run` and `midsession check`."""
        return EXIT_CODES[self.status]
