"""Text of a peer's, made fit for a terminal."""

from __future__ import annotations

import codecs
import re

# C0 and C1 controls, DEL, line separators, controls that turn text around: nothing of a peer's steers a terminal.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# Found now: a program that is short of descriptors could not load a codec when it has to say so.
_escape = codecs.lookup("unicode_escape").encode


def showable(text: str) -> str:
    """The text with everything escaped that could steer a terminal or break a line; emoji stay as they are."""
    return _UNSHOWABLE.sub(lambda found: _escape(found[0], "surrogatepass")[0].decode(), text)
