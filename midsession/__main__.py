"""The program: `midsession`, `python -m midsession`. The command line is imported once an interrupt is no mishap."""

from __future__ import annotations

import gc
import sys

from midsession.ahead import start
from midsession.leave import end, leave_when_interrupted
from midsession.streams import open_closed

TYPE_CHECKING = False  # as in `midsession`
if TYPE_CHECKING:
    from typing import NoReturn


_COLLECT_EVERY = 50_000
"""New objects between two looks for garbage: with Python's 700, a tenth of the start is spent looking among modules."""


def main() -> NoReturn:
    """Carry out the command line, and exit with its code. Nothing that is opened gets the number of a closed stream."""
    leave_when_interrupted()
    open_closed()
    gc.set_threshold(_COLLECT_EVERY)
    start(sys.argv[1:])
    from midsession.cli import carry_out

    end(carry_out())


if __name__ == "__main__":
    main()
