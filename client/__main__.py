"""The command line of the fleet."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from client.fleet import Fleet, Sink
from client.hand import HandFleet, HandPlayer, Wish, play
from client.journal import Account, NoLog, complain, say
from client.orders import Lines
from midsession.core.job import READY_LINE, SPARE_DESCRIPTORS, Job, Order, decode_job, decode_order
from midsession.core.pulse import BEAT_S, Pulse
from midsession.errors import HarnessError, MidsessionError
from midsession.hostside import open_event_file, raise_descriptor_limit, rarely_pause
from midsession.streams import open_closed

_A_DAY_S = 86400
_EPILOG = """\
by hand:      python -m client 127.0.0.1:4000 --say "Hi 👋"
              Lines that you type are written to the server; Ctrl-D ends. What the server says is shown as
              `data`, its end as `end`, and its loss as `error` and "Server Lost".
              Exit code: 0 after an orderly end, 1 when the server was absent or lost.

in a run:     python -m client --job FILE
              Plays the clients of a job; orders (go, signal, release, begin) come as JSON lines on standard
              input, and its end stops the fleet. Records go to the file that MIDSESSION_EVENT_FILE names.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m client",
        description="TCP clients that tell what they see of their server: one by hand, or thousands in a run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("address", nargs="?", metavar="HOST:PORT", type=_address, help="the server")
    found.add_argument("--clients", type=_count, default=1, metavar="N", help="how many at once (default: 1)")
    found.add_argument("--say", action="append", default=[], metavar="TEXT", help="a line to write first; repeatable")
    found.add_argument("--reconnect", action="store_true", help="come back when the server is lost or absent")
    found.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for each attempt to connect (default: 10)"
    )
    found.add_argument("--source-port", type=_count, metavar="PORT", help="connect from this port (one client only)")
    found.add_argument("--job", metavar="FILE", help="play this job of a run")
    return found


def main(arguments: list[str]) -> int:
    """Run the fleet; the exit code."""
    open_closed()
    asked = parser()
    options = asked.parse_args(arguments)
    if (options.job is None) == (options.address is None):
        asked.error("give either HOST:PORT or --job FILE")
    if options.source_port and options.clients > 1:
        asked.error("one source port is for one client")
    if options.job is not None:
        return _play_job(options.job)
    host, port = options.address
    wish = Wish(
        host, port, options.clients, tuple(options.say), options.reconnect, options.timeout, options.source_port
    )
    if not _room_for(wish.clients):
        return 10
    return _run(_by_hand(wish))


# --- by hand ----------------------------------------------------------------------------------------------------------


async def _by_hand(wish: Wish) -> int:
    fleet = HandFleet(wish)
    _stop_on_signals(fleet.stop)
    players = [player for player in fleet.players if isinstance(player, HandPlayer)]

    def typed(line: str) -> None:
        for player in players:
            player.type(line)

    Lines(0, typed, fleet.say_goodbye).start()
    return await play(fleet)


# --- in a run ---------------------------------------------------------------------------------------------------------


def _play_job(path: str) -> int:
    try:
        with open(path, "rb") as file:
            job = decode_job(file.read())
    except (OSError, msgspec.MsgspecError) as error:
        complain(f"the job {path} cannot be read: {error}")
        return 4
    if not _room_for(sum(len(group.clients) for group in job.groups)):
        return 10
    try:
        log = open_event_file(os.environ) or NoLog()
    except (OSError, msgspec.MsgspecError) as error:
        complain(f"the event file cannot be opened: {error}")
        return 3
    except MidsessionError as error:
        complain(str(error))
        return 3
    return _run(_in_a_run(job, log))


async def _in_a_run(job: Job, log: Sink) -> int:
    """Obey until standard input ends or SIGTERM comes, then end every session, write the trailer, and go."""
    account = Account()
    try:
        fleet = Fleet(job, log, account)
    except ValueError as error:
        complain(f"the job cannot be played: {error}")
        log.close()
        return 4
    rarely_pause()
    over = asyncio.Event()
    stop = _Stop(fleet, over)
    fleet.over.add_done_callback(lambda future: stop.failed_or_stopped())
    _stop_on_signals(stop.ask)
    Lines(0, lambda line: fleet.obey(_order(line)), stop.ask).start()
    say(READY_LINE)
    ticking = asyncio.create_task(_tick(account))
    _beat(fleet, Pulse(time.monotonic_ns()), over)
    await over.wait()
    ticking.cancel()
    if fleet.over.done() and (failure := fleet.over.exception()):
        raise failure
    log.close()
    account.close()
    return 0


def _order(line: str) -> Order:
    try:
        order: Order = decode_order(line)
    except msgspec.MsgspecError as error:
        raise HarnessError(f"an order cannot be read: {error}") from error
    return order


class _Stop:
    """A run's fleet is over when it was asked to stop and every session has ended, or when it failed."""

    def __init__(self, fleet: Fleet, over: asyncio.Event) -> None:
        self._fleet, self._over, self._asked = fleet, over, False

    def ask(self) -> None:
        self._asked = True
        self._fleet.stop()
        self.failed_or_stopped()

    def failed_or_stopped(self) -> None:
        done = self._fleet.over.done()
        if done and (self._asked or self._fleet.over.exception()):
            self._over.set()


async def _tick(account: Account) -> None:
    while True:
        await asyncio.sleep(1)
        account.tick()


def _beat(fleet: Fleet, pulse: Pulse, over: asyncio.Event) -> None:
    """Write down whenever this process was not run in time, until all is over."""
    if over.is_set():
        return
    if (stall := pulse.beat(time.monotonic_ns())) is not None:
        fleet.stalled(**stall)
    asyncio.get_running_loop().call_later(BEAT_S, _beat, fleet, pulse, over)


# --- both -------------------------------------------------------------------------------------------------------------


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT end gracefully; a second one at once."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)


def _room_for(clients: int) -> bool:
    """Raise the soft limit of descriptors to the hard one, and say what is missing if that is too few."""
    needed = clients + SPARE_DESCRIPTORS
    hard = raise_descriptor_limit()
    if hard != resource.RLIM_INFINITY and needed > hard:
        complain(
            f"{clients} clients need {needed} file descriptors, but this system allows {hard} to a process; "
            f"raise RLIMIT_NOFILE (ulimit -Hn) to {needed}, or share the clients among more fleets"
        )
        return False
    return True


def _run(main: Coroutine[Any, Any, int]) -> int:
    """Run to the end. 3 when the fleet itself failed: a log that cannot be written in one line, a mistake in full."""
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        try:
            return runner.run(main)
        except MidsessionError as error:
            complain(str(error))
        except Exception:  # noqa: BLE001 -- the top of the program: shown in full, and told by the exit code
            traceback.print_exc()
        return 3


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:4000")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _A_DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to {_A_DAY_S}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
