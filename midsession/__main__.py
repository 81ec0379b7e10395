"""The program: `midsession`, `python -m midsession`. The command line is imported once an interrupt is no mishap."""

from __future__ import annotations

import signal
import sys

from midsession.ahead import start
from midsession.leave import leave_when_interrupted

TYPE_CHECKING = False  # as in `midsession`
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Carry out the command line, and exit with its code."""
    leave_when_interrupted()
    start(sys.argv[1:])
    from midsession.cli import carry_out

    code = carry_out()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over, and this is how it ended
    sys.exit(code)


if __name__ == "__main__":
    main()
