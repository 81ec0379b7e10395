"""The command line of the reference server."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable

import msgspec

from midsession.errors import MidsessionError
from midsession.hostside import open_event_file, raise_descriptor_limit, rarely_pause
from midsession.streams import open_closed
from server.behaviours import BEHAVIOURS, Behaviour
from server.journal import Records, Screen, complain, show
from server.serve import Options, listen, serve

_A_DAY_S = 86400


def parse(arguments: list[str]) -> Options:
    """Read the command line; exits 2 with a usage message when it is wrong."""
    behaviours = "\n".join(f"  {name:9} {behaviour.about}" for name, behaviour in BEHAVIOURS.items())
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description="A TCP server that tells what it sees of each client.",
        epilog=f"behaviours:\n{behaviours}\n\nSIGTERM or Ctrl-C ends it in order; a second one at once.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", type=_host, default="0.0.0.0", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=4000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--behaviour", choices=BEHAVIOURS, default="greet", help="see below (default: %(default)s)")
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=4.0,
        metavar="SECONDS",
        help="how long clients may take to end after SIGTERM (default: %(default)g)",
    )
    found = parser.parse_args(arguments)
    return Options(found.host, found.port, found.behaviour, found.grace)


def main(arguments: list[str]) -> int:
    """Run the server; the exit code. 1: cannot listen, 3: the event file or the server itself failed."""
    open_closed()
    options = parse(arguments)
    raise_descriptor_limit()
    try:
        records = Records(open_event_file(os.environ))
    except (OSError, msgspec.MsgspecError) as error:
        return _refuse(f"the event file cannot be opened: {error}", 3)
    except MidsessionError as error:
        return _refuse(str(error), 3)
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        records.close()
        return _refuse(f"cannot listen on {options.host}:{options.port}: {_reason(error)}", 1)
    rarely_pause()
    return _run(options, listener, records)


def _run(options: Options, listener: socket.socket, records: Records) -> int:
    with asyncio.Runner(loop_factory=_loop_for(BEHAVIOURS[options.behaviour])) as runner:
        try:
            return runner.run(serve(options, listener, records, Screen(show)))
        except MidsessionError as error:  # the first record, or the trailer, could not be written
            return _refuse(str(error), 3)


def _loop_for(behaviour: Behaviour) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, else asyncio's own.

    A deaf server gets asyncio's: uvloop (0.23) begins to read after `connection_made`, even if told to pause there.
    """
    if behaviour.deaf:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _refuse(message: str, code: int) -> int:
    complain(message)
    return code


def _reason(error: OSError) -> str:
    """The system's words; those of the socket module repeat the address, and a resolver's number is negative."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


def _host(text: str) -> str:
    try:
        text.encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an address nor a name that a host can have") from None
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _A_DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_A_DAY_S}, such as 2.5")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
