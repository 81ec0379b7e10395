"""Every socket error has a name: errno (or what stands for it) to the word of `lost.how`."""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from midsession.core.sockets import LOST_HOW


class Trouble(NamedTuple):
    """What went wrong with a connection: `how` it is lost, the errno where there is one, and a text for people."""

    how: str
    errno: int | None
    message: str


def name_trouble(error: BaseException) -> Trouble:
    """Name what a connection failed with. Anything of our own end that has no name of its own is `aborted`."""
    if isinstance(error, socket.gaierror):
        return Trouble("name", error.errno, str(error.strerror or error))
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        return Trouble("timeout" if isinstance(error, TimeoutError) else "aborted", None, str(error) or repr(error))
    return Trouble(LOST_HOW.get(number, "aborted"), number, _text(error, number))


def _text(error: BaseException, number: int) -> str:
    """The system's words; libraries put their own story (addresses, system calls) around them."""
    text = error.strerror if isinstance(error, OSError) else None
    return text if number == errno.ETIMEDOUT and text else os.strerror(number)
