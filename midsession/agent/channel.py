"""A byte stream to the conductor, as frames: one JSON object a line, both ways, never blocking.

Knows nothing of what the frames say. Memory is bounded: `crowded` tells those who could wait to wait, and when even
replies are not read by the peer, no further request is read from it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable

from midsession.agent.loop import Loop
from midsession.agent.protocol import MAX_FRAME_BYTES
from midsession.agent.say import say

_READ_BYTES = 256 * 1024
_CROWDED_BYTES = 1024 * 1024
_FULL_BYTES = 16 * 1024 * 1024


class Channel:
    """Frames over two descriptors (which may be the same one); owns them.

    `on_frame` gets each whole line without its newline; `on_gone` is called once, with the reason, when the peer is
    gone or broke the rules; `on_room` whenever the channel is no longer crowded.
    """

    def __init__(self, loop: Loop, in_fd: int, out_fd: int) -> None:
        self._loop, self._in, self._out = loop, in_fd, out_fd
        self._received = bytearray()
        self._searched = 0
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_bytes = 0
        self._open = True
        self._was_crowded = False
        self.on_frame: Callable[[bytes], None] = lambda _frame: None
        self.on_gone: Callable[[str], None] = lambda _why: None
        self.on_room: Callable[[], None] = lambda: None
        os.set_blocking(in_fd, False)
        os.set_blocking(out_fd, False)

    def begin(self) -> None:
        """Start to read."""
        self._loop.reader(self._in, self._readable)

    @property
    def crowded(self) -> bool:
        """The peer reads slower than we write: wait for `on_room` with what can wait."""
        return self._pending_bytes > _CROWDED_BYTES

    @property
    def idle(self) -> bool:
        """Everything sent was taken by the kernel."""
        return not self._pending

    def send(self, frame: bytes) -> None:
        """Send one frame (without its newline); what the kernel does not take now goes later. Nothing once closed."""
        if not self._open:
            return
        line = frame + b"\n"
        self._pending.append(line)
        self._pending_bytes += len(line)
        self._was_crowded = self._was_crowded or self.crowded
        if len(self._pending) == 1:
            self._flush()

    def drain(self, within_s: float) -> None:
        """Wait until what was sent is on its way, but no longer than that: for last words, outside the loop."""
        room = select.poll()
        room.register(self._out, select.POLLOUT)
        until_s = time.monotonic() + within_s
        while self._open and self._pending and (left_s := until_s - time.monotonic()) > 0:
            room.poll(left_s * 1000)
            try:
                self._write()
            except BlockingIOError:
                continue
            except OSError:
                return  # nobody is there to hear them

    def close(self) -> None:
        """Close both descriptors; no callback is called any more."""
        if not self._open:
            return
        self._open = False
        for fd in {self._in, self._out}:
            self._loop.forget(fd)
            os.close(fd)

    # --- out -------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        try:
            self._write()
        except BlockingIOError:
            self._loop.writer(self._out, self._writable)
        except OSError as broken:
            self._pending.clear()
            self._pending_bytes = 0
            why = f"cannot write to the conductor: {broken.strerror}"
            self._loop.later(0, lambda: self.end(why))

    def _write(self) -> None:
        while self._pending:
            head = self._pending[0]
            taken = os.write(self._out, head)
            self._pending_bytes -= taken
            if taken == len(head):
                self._pending.popleft()
            else:
                self._pending[0] = memoryview(head)[taken:]

    def _writable(self) -> None:
        self._loop.writer(self._out, None)
        self._flush()
        if not self._open or self.crowded:
            return
        if self._was_crowded:
            self._was_crowded = False
            self.on_room()
        self._loop.reader(self._in, self._readable)
        self._frames()

    # --- in --------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = os.read(self._in, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as broken:
            self.end(f"cannot read from the conductor: {broken.strerror}")
            return
        if not data:
            self.end("the conductor closed the connection")
            return
        self._received += data
        self._frames()

    def _frames(self) -> None:
        while self._open and self._pending_bytes <= _FULL_BYTES:
            at = self._received.find(b"\n", self._searched)
            if at < 0:
                self._searched = len(self._received)
                if self._searched > MAX_FRAME_BYTES:
                    say(f"a line of more than {MAX_FRAME_BYTES} bytes is no frame")
                    self.end("the conductor does not keep to the protocol")
                return
            frame = bytes(self._received[:at])
            del self._received[: at + 1]
            self._searched = 0
            self.on_frame(frame)
        if self._open:
            self._loop.reader(self._in, None)  # until the peer reads: _writable resumes

    def end(self, why: str) -> None:
        """Give the peer up: close, and call `on_gone`."""
        if self._open:
            self.close()
            self.on_gone(why)
