"""Leave at once: at the end, and as Ctrl-C has it while there is nothing that must be ended in order.

It does not raise KeyboardInterrupt. A handler runs between any two instructions: in an import, where a finalizer or a
callback swallows the exception and prints its traceback, as well as anywhere else. Imports next to nothing, so that it
can be in force before everything else is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as in `midsession`
if TYPE_CHECKING:
    from typing import NoReturn

CODE = 2
_SHOW_CURSOR = b"\x1b[?25h"


def leave(*_: object) -> NoReturn:
    """End this process as interrupted. What it has not ended itself hears the end of its pipe from us."""
    with suppress(OSError):
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR)  # a live line may have hidden it
        os.write(2, b"interrupted\n")
    os._exit(CODE)


def leave_when_interrupted() -> None:
    """From now on, until somebody else hears of interrupts (see `midsession.interrupts`)."""
    signal.signal(signal.SIGINT, leave)


def end(code: int) -> NoReturn:
    """End this process, whose work is done. The interpreter's own end takes 20 ms to take apart what the kernel takes
    anyway; what must be undone at the end of a command has a `finally` of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is over, and this is how it ended
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            if stream is not None:  # it was closed before we came
                stream.flush()
    os._exit(code)
