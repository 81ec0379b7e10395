"""Fuzz the loader and the language: `python -m tests.torture.fuzz_loader [SECONDS]` (60 by default).

With atheris installed (`pip install atheris`) the fuzzer is guided by coverage and begins with the corpus; without it,
Hypothesis draws. Either way, anything but a list of problems with places is a crash. The test suite runs a bounded
number of the latter.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

try:
    import atheris  # type: ignore[import-not-found,unused-ignore]  # optional, see above
except ImportError:
    atheris = None

# What is imported here for the first time is what a guided fuzzer learns its way through.
with atheris.instrument_imports(include=["midsession.core"]) if atheris else contextlib.nullcontext():
    from tests.core.spoken import problems
    from tests.torture import corpus

SEEDS = tuple(data for _, data in corpus.corpus())[::10]

PIECES = st.sampled_from(SEEDS) | st.binary(max_size=60) | st.sampled_from([b"\n", b"- ", b": ", b"{", b"*a", b"&a "])


def one(data: bytes) -> None:
    """Read or refuse these bytes; raises AssertionError for a problem without its place."""
    for problem in problems(data):
        assert problem.place is not None
        assert problem.slug
        assert problem.message


def drawn(examples: int) -> None:
    """So many inputs, drawn by Hypothesis: pieces of the corpus, put together and cut."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(PIECES, max_size=4), st.integers(0, 3000))
    def run(pieces: list[bytes], length: int) -> None:
        one(b"".join(pieces)[:length])

    run()


def main() -> None:
    """Fuzz for so long."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    if atheris is None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            drawn(500)
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(SEEDS):
            (Path(folder) / f"{number}").write_bytes(data)
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
