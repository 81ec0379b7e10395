"""Follow this host's event files and push the subscribed records soon after they were written.

inotify wakes us when a program's file grew; what is new is read in bulk. The files are the buffer: while the conductor
reads slowly, nothing is read from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from midsession.agent import libc
from midsession.agent.loop import Loop, Timer
from midsession.agent.say import say
from midsession.agent.source import Pass, Source

_QUIET_S = 0.0002
"""A busy program wakes us at most once in that time: the CPU is the clients'."""
_WAKES_BYTES = 4096
_POLL_S = 0.002
"""How often to look where inotify cannot be had."""


class Tail:
    """The subscription of one run on one host.

    `send` takes a frame; `crowded` says that it should get none for now: whoever knows that there is room again calls
    `pump`. The own file has no watch: whoever writes it calls `touch`.
    """

    def __init__(self, loop: Loop, own: Source, send: Callable[[bytes], None], crowded: Callable[[], bool]) -> None:
        self._loop, self._send, self._crowded = loop, send, crowded
        self._live = Pass(own, [], frozenset())
        self._past: list[Pass] = []
        self._drained: list[Callable[[], None]] = []
        self._again: Timer | None = None
        self._inotify: int | None = None
        self._closed = False
        self._watch_folder(os.path.dirname(own.path))

    def subscribe(self, events: frozenset[str]) -> None:
        """Push these events from now on, and those of them that were not pushed so far from what was read already."""
        for older in self._past:
            older.want(older.events & events)
        if fresh := events - self._live.events:
            self._past.append(self._live.past(fresh))
        self._live.want(events)
        self.touch()

    def add(self, program: Source) -> None:
        """Follow a program's file, which need not be there yet."""
        self._live.programs.append(program)

    def touch(self) -> None:
        """Something was written: look in the next round of the loop."""
        if self._again is None and not self._closed:
            self._again = self._loop.later(0, self.pump)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back once all that is in the files now was pushed."""
        self._drained.append(callback)
        self.touch()

    def pump(self) -> None:
        """Push a chunk of what there is, unless the channel is crowded; the rest once the loop has heard everybody."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._crowded() or self._closed:
            return
        if self._step():
            self.touch()
        else:
            self._tell_drained()

    def close(self) -> None:
        """Push no more."""
        self._closed = True
        for each in (self._live, *self._past):
            each.close()
        if self._inotify is not None:
            self._loop.forget(self._inotify)
            os.close(self._inotify)
            self._inotify = None
        self._tell_drained()

    def _step(self) -> bool:
        while self._past:
            if self._past[0].step(Source.open, self._send):
                return True
            self._past.pop(0).close()
        return self._live.step(self._opened, self._send)

    def _opened(self, source: Source) -> bool:
        if not source.is_open and source.open() and self._inotify is not None and source is not self._live.own:
            # Before the first read, so that nothing written after that read goes unheard.
            self._try_inotify(lambda fd: libc.inotify_add(fd, source.path, libc.IN_MODIFY))
        return source.is_open

    def _tell_drained(self) -> None:
        waiting, self._drained = self._drained, []
        for callback in waiting:
            callback()

    # --- being woken -----------------------------------------------------------------------------------------------

    def _watch_folder(self, folder: str) -> None:
        """Hear of new files there. The folder's own files are not watched through it: it may be all hosts'."""
        try:
            self._inotify = libc.inotify()
        except OSError as error:
            self._poll_instead(error)
        else:
            self._try_inotify(lambda fd: libc.inotify_add(fd, folder, libc.IN_CREATE))
            self._listen()

    def _try_inotify(self, add: Callable[[int], int]) -> None:
        assert self._inotify is not None
        try:
            add(self._inotify)
        except OSError as error:
            self._loop.forget(self._inotify)
            os.close(self._inotify)
            self._inotify = None
            self._poll_instead(error)

    def _listen(self) -> None:
        if self._inotify is not None:
            self._loop.reader(self._inotify, self._woken)

    def _woken(self) -> None:
        assert self._inotify is not None
        os.read(self._inotify, _WAKES_BYTES)
        self.pump()
        if self._inotify is not None:
            self._loop.reader(self._inotify, None)
            self._loop.later(_QUIET_S, self._listen)

    def _poll_instead(self, why: OSError) -> None:
        say(f"no inotify ({why.strerror}; see fs.inotify.max_user_instances): polling instead")
        self._loop.later(_POLL_S, self._poll)

    def _poll(self) -> None:
        if not self._closed:
            self.pump()
            self._loop.later(_POLL_S, self._poll)
